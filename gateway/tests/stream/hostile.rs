//! Hostile requests and answers, row by row. A request is refused with the right status, or passes so that
//! the target parses the very request that the gateway recorded; what follows it on the connection is never
//! taken for a request. After each row a good request on a new connection works, and a target's connection
//! that was left with unread bytes is not used for it.

pub mod frames;
mod h1;
mod h2;
mod load;
mod reverse;
mod target;
mod unread;
mod upgrade;
mod witness;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use self::witness::Witness;
use crate::http::{self, H1};
use crate::records::Log;
use crate::target::{Tls, read_body, read_head};
use crate::world::World;

/// How long anything may take that happens at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stands behind each row that is to be refused: nobody may take it for a request.
const SMUGGLED: &[u8] = b"GET /base/smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n";

/// What a client gets for the bytes of a row, and what the target sees of them.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// A Status with this code, then the end of the connection. The target sees nothing.
    Refused(u16),
    /// A Status with this code; the connection is good for the next request. The target sees nothing.
    Kept(u16),
    /// The connection ends without an answer; the target sees no whole request.
    Cut,
    /// The answers are the target's, which sees exactly these requests: line, fields in alphabetical order
    /// without those that the gateway puts in (`host`, `authorization`, `audit-id`,
    /// `connectors-gateway-hops`) or the legs need (`transfer-encoding`), a blank line, body.
    Seen(&'static [&'static str]),
}

pub use Expect::{Cut, Kept, Refused, Seen};

/// Name, bytes, outcome. `{host}` in the bytes is the target's authority.
pub type Row = (&'static str, &'static [u8], Expect);

/// Where a table's rows are sent.
pub struct Stage<'a> {
    pub world: &'a World,
    pub witness: &'a Witness,
    pub log: Log,
    /// What is sent behind an answer that keeps its connection.
    pub next: String,
}

impl<'a> Stage<'a> {
    /// For rows inside of a tunnel.
    pub fn new(world: &'a World, witness: &'a Witness, log: Log) -> Stage<'a> {
        Stage { world, witness, log, next: http::get("/base/good", &witness.authority()) }
    }
}

impl Stage<'_> {
    pub async fn run(&self, rows: &[Row]) {
        let mut failed = Vec::new();
        for (name, bytes, expect) in rows {
            let judged = async {
                let tls = self.world.tunnel("target", &self.witness.authority(), H1).await;
                self.row(name, tls, &self.placed(bytes, *expect), *expect).await;
                self.good(name).await;
            };
            // The whole table is judged, whatever one row says.
            if AssertUnwindSafe(judged).catch_unwind().await.is_err() {
                failed.push(*name);
            }
        }
        assert_eq!(failed, Vec::<&str>::new());
    }

    fn placed(&self, bytes: &[u8], expect: Expect) -> Vec<u8> {
        let mut request = bytes.to_vec();
        if matches!(expect, Refused(_)) {
            request.extend_from_slice(SMUGGLED);
        }
        let request = replace(&request, b"{port}", self.witness.target.port.to_string().as_bytes());
        replace(&request, b"{host}", self.witness.authority().as_bytes())
    }

    /// Sends the bytes at once and judges what comes back, what the target saw and what was recorded.
    pub async fn row(
        &self,
        name: &str,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        bytes: &[u8],
        expect: Expect,
    ) {
        self.witness.take();
        self.log.take_access();
        stream.write_all(bytes).await.unwrap();
        match expect {
            Refused(status) => {
                self.status(name, &mut stream, status).await;
                assert_eq!(rest(&mut stream).await, "", "{name}: more than one answer");
            }
            Kept(status) => {
                self.status(name, &mut stream, status).await;
                let quiet = tokio::time::timeout(Duration::from_millis(20), stream.read_u8()).await;
                assert!(quiet.is_err(), "{name}: {quiet:?} behind the answer");
                assert_eq!(self.witness.take(), Vec::new(), "{name}: the target saw something");
                self.next(name, &mut stream, &self.next).await;
            }
            Cut => {
                stream.shutdown().await.unwrap();
                assert_eq!(rest(&mut stream).await, "", "{name}: an answer");
            }
            Seen(requests) => self.passed(name, &mut stream, requests).await,
        }
        if !matches!(expect, Seen(_)) {
            assert_eq!(self.witness.take(), Vec::<witness::Seen>::new(), "{name}: the target saw something");
        }
    }

    async fn status(&self, name: &str, stream: &mut (impl AsyncRead + Unpin), expected: u16) {
        let (head, body) = answer(name, stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{name}: {head}");
        let status: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        assert_eq!(
            (&status["kind"], &status["code"]),
            (&"Status".into(), &expected.into()),
            "{name}: {head}"
        );
    }

    async fn passed(&self, name: &str, stream: &mut (impl AsyncRead + Unpin), requests: &[&str]) {
        for request in requests {
            let head = read_answer_head(name, stream).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{name}: {head}");
            if !request.starts_with("HEAD ") {
                assert_eq!(read_body(stream, &head).await.unwrap(), b"ok", "{name}");
            }
        }
        let seen = self.witness.take();
        let texts: Vec<String> = seen.iter().map(|seen| seen.text.clone()).collect();
        let expected: Vec<String> =
            requests.iter().map(|text| text.replace("{host}", &self.witness.authority())).collect();
        assert_eq!(texts, expected, "{name}: what the target saw");
        self.recorded(name, &seen).await;
    }

    /// The invariant behind every row that passes: the target has parsed what the gateway recorded.
    pub async fn recorded(&self, name: &str, seen: &[witness::Seen]) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut records = self.log.take_access();
        while records.len() < seen.len() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{name}: {} records for {} requests",
                records.len(),
                seen.len()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
            records.extend(self.log.take_access());
        }
        for (record, seen) in records.iter().zip(seen) {
            let path = |text: &str| text.split('?').next().unwrap_or_default().to_owned();
            let recorded = (record["method"].as_str().unwrap(), path(record["path"].as_str().unwrap()));
            assert_eq!(recorded, (&*seen.method, path(&seen.path)), "{name}: {record}");
            assert_eq!(record["bytes_up"], seen.body, "{name}: {record}");
        }
    }

    /// A good request on a new connection.
    pub async fn good(&self, name: &str) {
        let authority = self.witness.authority();
        let mut tls: Tls = self.world.tunnel("target", &authority, H1).await;
        self.next(name, &mut tls, &http::get("/base/good", &authority)).await;
    }

    async fn next(&self, name: &str, stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) {
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = answer(name, stream).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && body == b"ok", "after {name}: {head}");
        let texts: Vec<String> = self.witness.take().into_iter().map(|seen| seen.text).collect();
        assert_eq!(texts, ["GET /base/good\n\n"], "after {name}");
        // Its record comes after its answer, and must not be taken for that of the next row.
        let recorded = || self.log.take_access().iter().any(|record| record["path"] == "/base/good");
        connectors_testenv::eventually(&format!("a record after {name}"), async || recorded()).await;
    }
}

async fn answer(name: &str, stream: &mut (impl AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let head = read_answer_head(name, stream).await;
    let body = tokio::time::timeout(PATIENCE, read_body(stream, &head)).await;
    (head, body.unwrap_or_else(|_| panic!("{name}: half a body")).unwrap())
}

async fn read_answer_head(name: &str, stream: &mut (impl AsyncRead + Unpin)) -> String {
    tokio::time::timeout(PATIENCE, read_head(stream)).await.unwrap_or_else(|_| panic!("{name}: no answer"))
}

/// Everything up to the end of the connection. A reset in place of an end is one, too.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    let _ = read.expect("the connection stays open");
    String::from_utf8_lossy(&rest).into_owned()
}

pub fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(from) {
            out.extend_from_slice(to);
            at += from.len();
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}
