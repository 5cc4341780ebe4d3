//! The gateway without a cluster, with a connector for each target.

use std::path::Path;
use std::rc::Rc;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::process::Command;

use crate::Records;
use crate::client::Way;
use crate::lab::{Lab, Peer, REVERSE, TUNNEL};
use crate::process::{Process, free_port};
use crate::protocol::CREDENTIAL;

/// What clients log in with.
const TOKEN: &str = "token-of-the-client";

pub struct Gateway {
    process: Rc<Process>,
    http: u16,
    https: u16,
}

impl Gateway {
    /// Connectors by name, with the ports of their targets.
    pub async fn start(lab: &Lab, connectors: &[(&str, u16)], threads: usize) -> Result<Gateway> {
        let folder = lab.folder("gateway")?;
        let (http, https, admin) = (free_port().await?, free_port().await?, free_port().await?);
        write(&folder, &lab.authorities.root_pem, connectors, &settings(threads, http, https, admin))?;
        let mut command = Command::new(&lab.options.gateway);
        command.arg("--settings-dir").arg(&folder).arg("--manifests").arg(folder.join("manifests"));
        command.arg("--clients").arg(folder.join("clients.yaml"));
        command
            .arg("--ca-cert")
            .arg(&lab.authorities.issuer)
            .arg("--ca-key")
            .arg(&lab.authorities.issuer_key);
        command.env(
            "RUST_LOG",
            if lab.options.records == Records::Neither { "warn" } else { "info,pingora_core=warn" },
        );
        let process = Process::start(command, http, &folder.join("log")).await?;
        Ok(Gateway { process: Rc::new(process), http, https })
    }

    pub fn tunnel(&self, connector: &str, target: u16) -> Peer {
        let login = STANDARD.encode(format!("demo/{connector}:{TOKEN}"));
        let head = format!(
            "CONNECT 127.0.0.1:{target} HTTP/1.1\r\nHost: 127.0.0.1:{target}\r\nProxy-Authorization: Basic {login}\r\n\r\n"
        );
        let way = Way {
            name: TUNNEL,
            port: self.http,
            connect: Some(head),
            tls_name: "127.0.0.1".to_owned(),
            authority: format!("127.0.0.1:{target}"),
            token: "fake-token",
        };
        Peer { way, process: self.process.clone() }
    }

    pub fn reverse(&self, connector: &str) -> Peer {
        let host = format!("c-{connector}.demo.svc");
        let way = Way {
            name: REVERSE,
            port: self.https,
            connect: None,
            tls_name: host.clone(),
            authority: host,
            token: TOKEN,
        };
        Peer { way, process: self.process.clone() }
    }
}

fn write(folder: &Path, root_pem: &str, connectors: &[(&str, u16)], settings: &str) -> Result<()> {
    let names: Vec<String> = connectors.iter().map(|(name, _)| format!("demo/{name}")).collect();
    let clients = format!(
        "- {{token: {TOKEN}, user: 'system:serviceaccount:demo:bench', pod: demo/bench, connectors: [{}]}}\n",
        names.join(", ")
    );
    std::fs::create_dir(folder.join("manifests"))?;
    std::fs::write(folder.join("manifests/all.yaml"), manifests(root_pem, connectors))?;
    std::fs::write(folder.join("clients.yaml"), clients)?;
    Ok(std::fs::write(folder.join("gateway.yaml"), settings)?)
}

fn settings(threads: usize, http: u16, https: u16, admin: u16) -> String {
    format!(
        "threads: {threads}\nlisteners: {{http: '127.0.0.1:{http}', https: '127.0.0.1:{https}', admin: '127.0.0.1:{admin}', health: '127.0.0.1:0'}}\n\
         targets: {{allow: [{{cidrs: [127.0.0.0/8]}}]}}\n"
    )
}

fn manifests(root_pem: &str, connectors: &[(&str, u16)]) -> String {
    let ca = STANDARD.encode(root_pem);
    let mut all = "kind: ConnectorClass\napiVersion: connectors.alauda.io/v1alpha1\nmetadata: {name: k8s}\n\
                   spec: {auth: {types: [{name: t, secretType: connectors.cpaas.io/bearer-token}]}}\n"
        .to_owned();
    for (name, port) in connectors {
        all.push_str(&format!(
            "---\nkind: Secret\napiVersion: v1\nmetadata: {{namespace: demo, name: {name}}}\ntype: connectors.cpaas.io/bearer-token\n\
             stringData: {{token: {CREDENTIAL}}}\ndata: {{ca.crt: '{ca}'}}\n\
             ---\nkind: Connector\napiVersion: connectors.alauda.io/v1alpha1\nmetadata: {{namespace: demo, name: {name}}}\n\
             spec: {{connectorClassName: k8s, address: 'https://127.0.0.1:{port}', auth: {{name: t, secretRef: {{name: {name}}}}}}}\n"
        ));
    }
    all
}
