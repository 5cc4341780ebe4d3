//! The clients that need nothing but this machine and our Go tools.

use anyhow::Result;
use connectors_testenv::tool;

use crate::matrix::{Cannot, Mount, Operation, Row};

/// Operations on the streams of a Pod.
pub const STREAMS: &[Operation] = &[Operation::Exec, Operation::Copy, Operation::Forward];

/// Where a Go tool is in a client's Pod.
fn at(name: &str, place: &str) -> Result<Vec<Mount>> {
    Ok(vec![Mount::new(tool(name)?, place)])
}

pub fn kubectl() -> Result<Row> {
    Ok(Row::new(
        "kubectl",
        "kubectl",
        "KUBECTL=/tools/kubectl sh /clients/kubectl/client.sh",
        at("kubectl", "/tools/kubectl")?,
    ))
}

pub fn client_go() -> Result<Row> {
    // What it hears on its HTTP/2 connections goes to its errors: answers to its own PING, or the gateway's.
    let program = "GODEBUG=http2debug=1 /tools/client-go";
    let row = Row::new("client-go", "client-go", program, at("client-go", "/tools/client-go")?);
    Ok(Row { keep_alive: Some("Transport received PING"), ..row })
}

pub fn curl() -> Result<Row> {
    let mut row = Row::new("curl", "curl", "sh /clients/curl/client.sh", Mount::system());
    row.cannot.push(Cannot {
        flavour: None,
        operations: &[Operation::Plain],
        says: "no URL specified",
        because: "curl reads no kubeconfig: address, CA, and proxy-url or token are given to it on the command line",
    });
    row.cannot.push(Cannot {
        flavour: None,
        operations: STREAMS,
        says: "Upgrade request required",
        because: "curl speaks neither Kubernetes' WebSocket protocols nor SPDY: the API server's answer to it, 400, comes through",
    });
    Ok(row)
}
