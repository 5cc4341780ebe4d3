//! HAProxy with load-tests/peers/haproxy.cfg.

use std::rc::Rc;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::Records;
use crate::client::Way;
use crate::lab::{HAPROXY, Lab, Peer};
use crate::process::{Process, free_port};
use crate::protocol::CREDENTIAL;
use crate::protocol::Protocol;

const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/haproxy.cfg");

pub struct Haproxy {
    process: Rc<Process>,
    h1: u16,
    h2: u16,
}

impl Haproxy {
    pub async fn start(lab: &Lab, threads: usize) -> Result<Haproxy> {
        let folder = lab.folder("haproxy")?;
        let (h1, h2) = (free_port().await?, free_port().await?);
        let template = std::fs::read_to_string(TEMPLATE).with_context(|| format!("reading {TEMPLATE}"))?;
        let log = lab.options.records == Records::Both;
        let filled = template
            .replace("@THREADS@", &threads.to_string())
            .replace("@LOG@", if log { "log stdout format raw local0" } else { "" })
            .replace("@LOG_FORMAT@", if log { "log global\n    option httplog" } else { "" })
            .replace("@H1_PORT@", &h1.to_string())
            .replace("@H2_PORT@", &h2.to_string())
            .replace("@H1_TARGET@", &lab.target(Protocol::H1).to_string())
            .replace("@H2_TARGET@", &lab.target(Protocol::H2).to_string())
            .replace("@LEAF@", &lab.authorities.leaf.to_string_lossy())
            .replace("@ROOT@", &lab.authorities.root.to_string_lossy())
            .replace("@CREDENTIAL@", CREDENTIAL);
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, filled)?;
        let mut command = Command::new(&lab.options.haproxy);
        command.arg("-db").arg("-f").arg(&file);
        let process = Process::start(command, h1, &folder.join("log")).await?;
        Ok(Haproxy { process: Rc::new(process), h1, h2 })
    }

    pub fn peer(&self, protocol: Protocol) -> Peer {
        let port = match protocol {
            Protocol::H1 => self.h1,
            Protocol::H2 => self.h2,
        };
        let way = Way {
            name: HAPROXY,
            port,
            connect: None,
            tls_name: "127.0.0.1".to_owned(),
            authority: format!("127.0.0.1:{port}"),
            token: "fake-token",
        };
        Peer { way, process: self.process.clone() }
    }
}
