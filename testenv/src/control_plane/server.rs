//! One etcd and one kube-apiserver: their certificates and flags, their start and restart. Used on loopback
//! by tests and on a node's own address by whole clusters.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::connect;
use crate::kubeconfig::kubeconfig;
use crate::pki::{Identity, token_key};
use crate::process::{Process, bound};
use crate::tools::tool;

/// Generous: several control planes may start on two busy cores.
const START: Duration = Duration::from_secs(120);

/// How often a port that was free a moment ago may turn out to be taken.
const PORT_TRIES: usize = 5;

/// Where a cluster is.
#[derive(Clone)]
pub(crate) struct Place {
    /// The address that clients use.
    pub(crate) address: Ipv4Addr,
    /// 0: pick one that is free.
    pub(crate) port: u16,
    /// The range of cluster addresses and the first of them, which is the Service `kubernetes`.
    pub(crate) services: String,
    pub(crate) first_service: Ipv4Addr,
}

impl Place {
    /// `https://<address>:<port>`
    pub(crate) fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }

    pub(crate) fn loopback() -> Place {
        let first_service = Ipv4Addr::new(198, 18, 128, 1);
        Place { address: Ipv4Addr::LOCALHOST, port: 0, services: "198.18.128.0/20".to_owned(), first_service }
    }
}

/// The two processes and what clients need to know of them.
pub(crate) struct Server {
    dir: PathBuf,
    logs: PathBuf,
    place: Place,
    url: String,
    kubeconfig: PathBuf,
    authority: Identity,
    ca_pem: String,
    // The API server first: without etcd it would only fill its log.
    api: Option<Process>,
    etcd: Process,
}

impl Server {
    /// Writes certificates into `dir`, starts both and waits until the API server is ready.
    pub(crate) async fn start(dir: &Path, logs: &Path, place: Place) -> Result<Server> {
        let authority = Identity::root("testenv");
        write_pki(dir, &authority, &place)?;
        let etcd = Process::start("etcd", etcd(dir)?, logs)?;
        let (dir, logs, kubeconfig) = (dir.to_owned(), logs.to_owned(), dir.join("admin.kubeconfig"));
        let mut server = Server {
            dir,
            logs,
            place,
            url: String::new(),
            kubeconfig,
            ca_pem: authority.pem(),
            authority,
            api: None,
            etcd,
        };
        server.start_on_free_port().await?;
        Ok(server)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub(crate) fn authority(&self) -> &Identity {
        &self.authority
    }

    /// An administrator's.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub(crate) fn stop(&mut self) {
        self.api = None;
    }

    /// Starts the API server where it was.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.api = Some(Process::start("kube-apiserver", apiserver(&self.dir, &self.place)?, &self.logs)?);
        self.ready().await
    }

    /// Fails if one of the two has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.etcd.check()?;
        self.api.as_mut().map_or(Ok(()), Process::check)
    }

    async fn start_on_free_port(&mut self) -> Result<()> {
        let fixed = self.place.port != 0;
        for _ in 0..PORT_TRIES {
            if !fixed {
                self.place.port = free_port()?;
            }
            self.url = self.place.url();
            let admin = self.authority.member("admin", &["system:masters"], &[]);
            write(&self.kubeconfig, &kubeconfig(&self.url, self.ca_pem(), Some(&admin)))?;
            match self.restart().await {
                Err(error) if !fixed && format!("{error:#}").contains("address already in use") => {}
                other => return other,
            }
        }
        bail!("{PORT_TRIES} ports in a row were taken while the API server started")
    }

    async fn ready(&mut self) -> Result<()> {
        let (_, client) = connect(&self.kubeconfig).await?;
        let deadline = Instant::now() + START;
        loop {
            self.check()?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            match client.request_text(request).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    bail!("the API server was not ready after {} s: {error}", START.as_secs())
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// Below the range that the kernel hands out for outgoing connections, so that nothing takes the port while
/// the API server is stopped for a while.
fn free_port() -> Result<u16> {
    let mut random = [0; 2];
    for _ in 0..100 {
        openssl::rand::rand_bytes(&mut random)?;
        let port = 20_000 + u16::from_le_bytes(random) % 12_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 20000 and 32000 on loopback")
}

fn write_pki(dir: &Path, authority: &Identity, place: &Place) -> Result<()> {
    let (address, service) = (place.address.to_string(), place.first_service.to_string());
    let hosts = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        &address,
        &service,
    ];
    let server = authority.member("kube-apiserver", &[], &hosts);
    let kubelet_client = authority.member("kube-apiserver-kubelet-client", &["system:masters"], &[]);
    for (name, text) in [
        ("ca.crt", authority.pem()),
        ("apiserver.crt", server.pem()),
        ("apiserver.key", server.key_pem()),
        ("kubelet-client.crt", kubelet_client.pem()),
        ("kubelet-client.key", kubelet_client.key_pem()),
        ("service-accounts.key", token_key()),
    ] {
        write(&dir.join(name), &text)?;
    }
    Ok(())
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Clients come through a socket file: no port to collide on, and nobody else's etcd to meet. etcd wants a
/// port in the name.
const ETCD: &str = "unix://etcd.sock:1";

fn etcd(dir: &Path) -> Result<Command> {
    let mut command = bound(tool("etcd")?);
    command.current_dir(dir).args([
        "--data-dir",
        "etcd",
        "--listen-client-urls",
        ETCD,
        "--advertise-client-urls",
        ETCD,
    ]);
    // A lost database is no loss here, and waiting for disks is what makes etcd slow.
    command.args(["--listen-peer-urls", "http://127.0.0.1:0", "--unsafe-no-fsync", "--log-level", "warn"]);
    Ok(command)
}

fn apiserver(dir: &Path, place: &Place) -> Result<Command> {
    let loopback = place.address.is_loopback();
    let mut command = bound(tool("kube-apiserver")?);
    command.current_dir(dir);
    command.args(["--etcd-servers", ETCD, "--allow-privileged", "--authorization-mode", "Node,RBAC"]);
    command.args(["--enable-admission-plugins", "NodeRestriction"]);
    command.args(["--bind-address", if loopback { "127.0.0.1" } else { "0.0.0.0" }]);
    command.args([
        "--secure-port",
        &place.port.to_string(),
        "--advertise-address",
        &place.address.to_string(),
    ]);
    // Endpoints must not be loopback addresses; without this the log is full of that.
    command.args(["--endpoint-reconciler-type", if loopback { "none" } else { "lease" }]);
    command.args(["--service-cluster-ip-range", &place.services]);
    command.args([
        "--tls-cert-file",
        "apiserver.crt",
        "--tls-private-key-file",
        "apiserver.key",
        "--client-ca-file",
        "ca.crt",
    ]);
    command.args([
        "--kubelet-client-certificate",
        "kubelet-client.crt",
        "--kubelet-client-key",
        "kubelet-client.key",
    ]);
    // exec and logs would look up the node's name otherwise.
    command.args(["--kubelet-preferred-address-types", "InternalIP"]);
    command.args(["--service-account-issuer", "https://kubernetes.default.svc.cluster.local"]);
    command.args(["--service-account-key-file", "service-accounts.key"]);
    command.args(["--service-account-signing-key-file", "service-accounts.key"]);
    Ok(command)
}
