//! What a measurement finds in place: certificates, a target for each protocol, a client, and peers that
//! start when they are asked for.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Result;
use tokio::process::Command;

use crate::Options;
use crate::authorities::Authorities;
use crate::client::{Client, Way};
use crate::peers::{Gateway, Haproxy};
use crate::process::{self, Process, free_port};
use crate::protocol::{CREDENTIAL, Protocol};

pub const DIRECT: &str = "direct";
pub const BARE: &str = "bare server";
pub const HAPROXY: &str = "HAProxy";
pub const TUNNEL: &str = "gateway, tunnel";
pub const REVERSE: &str = "gateway, reverse";

/// A process and how to go through it.
pub struct Peer {
    pub way: Way,
    pub process: Rc<Process>,
}

pub struct Lab {
    pub options: Options,
    pub client: Client,
    pub authorities: Authorities,
    /// Files that each process may have open.
    pub open_files: u64,
    targets: Vec<Peer>,
    folders: Cell<usize>,
    /// Last: processes end before their files do.
    root: tempfile::TempDir,
}

impl Lab {
    pub async fn new(options: Options) -> Result<Lab> {
        let root = tempfile::tempdir()?;
        let authorities = Authorities::new(root.path())?;
        let client = Client::new(&authorities)?;
        let open_files = process::raise_open_files();
        let mut lab = Lab {
            options,
            client,
            authorities,
            open_files,
            targets: Vec::new(),
            folders: Cell::new(0),
            root,
        };
        for protocol in Protocol::ALL {
            lab.targets.push(lab.server(protocol, DIRECT).await?);
        }
        Ok(lab)
    }

    /// A folder of its own for a process.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        self.folders.set(self.folders.get() + 1);
        let path = self.root.path().join(format!("{name}-{}", self.folders.get()));
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    /// The port of a target.
    pub fn target(&self, protocol: Protocol) -> u16 {
        self.direct(protocol).port
    }

    pub fn direct(&self, protocol: Protocol) -> &Way {
        &self.targets[protocol as usize].way
    }

    /// The way to a target's port that is not `target`'s.
    pub fn direct_to(port: u16, name: &'static str) -> Way {
        let authority = format!("127.0.0.1:{port}");
        Way { name, port, connect: None, tls_name: "127.0.0.1".to_owned(), authority, token: CREDENTIAL }
    }

    /// A server that nobody else uses, so that its memory is that of its own connections.
    pub async fn server(&self, protocol: Protocol, name: &'static str) -> Result<Peer> {
        let port = free_port().await?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").args(["--port", &port.to_string(), "--protocol", protocol.name()]);
        command.arg("--identity").arg(&self.authorities.leaf).args((name != BARE).then_some("--gather"));
        let process = Process::start(command, port, &self.folder("server")?.join("log")).await?;
        Ok(Peer { way: Lab::direct_to(port, name), process: Rc::new(process) })
    }

    /// A gateway with a connector for each target.
    pub async fn gateway(&self, threads: usize) -> Result<Gateway> {
        let connectors = Protocol::ALL.map(|protocol| (protocol.name(), self.target(protocol)));
        Gateway::start(self, &connectors, threads).await
    }

    /// As many as the first of `--threads` says.
    fn threads(&self) -> usize {
        self.options.threads.first().copied().unwrap_or(1)
    }

    pub async fn tunnel(&self, protocol: Protocol) -> Result<Peer> {
        Ok(self.gateway(self.threads()).await?.tunnel(protocol.name(), self.target(protocol)))
    }

    pub async fn haproxy(&self, protocol: Protocol) -> Result<Peer> {
        Ok(Haproxy::start(self, self.threads()).await?.peer(protocol))
    }

    /// HAProxy, then the gateway in both modes, for each number of threads: each a process of its own, or one
    /// would find the connections to the target that the other has left.
    pub async fn peers(&self, protocol: Protocol) -> Result<Vec<Peer>> {
        let (name, port) = (protocol.name(), self.target(protocol));
        let mut peers = Vec::new();
        for (place, threads) in self.options.threads.iter().enumerate() {
            let haproxy = Haproxy::start(self, *threads).await?.peer(protocol);
            let tunnel = self.gateway(*threads).await?.tunnel(name, port);
            let reverse = self.gateway(*threads).await?.reverse(name);
            peers.extend([haproxy, tunnel, reverse].map(|mut peer| {
                if place > 0 {
                    peer.way.name = format!("{}, threads: {threads}", peer.way.name).leak();
                }
                peer
            }));
        }
        Ok(peers)
    }
}
