//! The gateway as its own process, and what the kernel counts for it.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::target::Certificates;

pub const TOKEN: &str = "bench";

pub struct Gateway {
    pub port: u16,
    child: Child,
    _files: tempfile::TempDir,
}

impl Gateway {
    pub async fn start(binary: &str, certificates: &Certificates, h1: u16, h2: u16) -> Result<Gateway> {
        let files = tempfile::tempdir()?;
        let write = |name: &str, content: &str| -> Result<String> {
            let path = files.path().join(name);
            std::fs::File::create(&path)?.write_all(content.as_bytes())?;
            Ok(path.to_string_lossy().into_owned())
        };
        std::fs::create_dir(files.path().join("manifests"))?;
        write("manifests/all.yaml", &manifests(&certificates.root_pem, h1, h2))?;
        let clients = format!("- {{token: {TOKEN}, user: 'system:serviceaccount:demo:bench', connectors: [demo/h1, demo/h2]}}\n");
        let (port, admin, https) = (free_port().await?, free_port().await?, free_port().await?);
        let settings = format!(
            "threads: 1\nlisteners: {{http: '127.0.0.1:{port}', admin: '127.0.0.1:{admin}', https: '127.0.0.1:{https}'}}\ntargets: {{allow: [{{cidrs: [127.0.0.0/8]}}]}}\n"
        );
        write("gateway.yaml", &settings)?;
        let child = Command::new(binary)
            .arg("--settings-dir")
            .arg(files.path())
            .arg("--manifests")
            .arg(files.path().join("manifests"))
            .args(["--clients", &write("clients.yaml", &clients)?])
            .args([
                "--ca-cert",
                &write("ca.crt", &certificates.root_pem)?,
                "--ca-key",
                &write("ca.key", &certificates.root_key_pem)?,
            ])
            .stderr(std::fs::File::create("/tmp/bench-gateway.log")?)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {binary}"))?;
        let gateway = Gateway { port, child, _files: files };
        gateway.ready().await?;
        Ok(gateway)
    }

    async fn ready(&self) -> Result<()> {
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the gateway does not listen: see /tmp/bench-gateway.log")
    }

    fn proc(&self, file: &str) -> Result<String> {
        let pid = self.child.id().context("the gateway has ended: see /tmp/bench-gateway.log")?;
        Ok(std::fs::read_to_string(format!("/proc/{pid}/{file}"))?)
    }

    /// User and system time in seconds; the kernel's unit is 1/100 s.
    pub fn cpu(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("a short stat")?.parse()?) };
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }

    pub fn resident_kib(&self) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }
}

async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

fn manifests(ca: &str, h1: u16, h2: u16) -> String {
    let ca = STANDARD.encode(ca);
    let mut all = "kind: ConnectorClass\napiVersion: connectors.alauda.io/v1alpha1\nmetadata: {name: k8s}\nspec: {auth: {types: [{name: t, secretType: connectors.cpaas.io/bearer-token}]}}\n".to_owned();
    for (name, port) in [("h1", h1), ("h2", h2)] {
        all.push_str(&format!(
            "---\nkind: Secret\napiVersion: v1\nmetadata: {{namespace: demo, name: {name}}}\ntype: connectors.cpaas.io/bearer-token\nstringData: {{token: real}}\ndata: {{ca.crt: '{ca}'}}\n---\nkind: Connector\napiVersion: connectors.alauda.io/v1alpha1\nmetadata: {{namespace: demo, name: {name}}}\nspec: {{connectorClassName: k8s, address: 'https://127.0.0.1:{port}', auth: {{name: t, secretRef: {{name: {name}}}}}}}\n"
        ));
    }
    all
}
