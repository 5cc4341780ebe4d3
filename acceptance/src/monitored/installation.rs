//! Gateway and controller as processes beside a real API server that has everything of `config/default`, each as the
//! ServiceAccount that it has there.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use connectors_testenv::pki::Identity;
use connectors_testenv::process::{bound, spawn};
use connectors_testenv::{ControlPlane, within};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client;
use crate::start::built;

const NAMESPACE: &str = "connectors-system";
/// What the controller asks for probes, and what the certificate there names.
const PROBE_HOST: &str = "connectors-gateway-admin.connectors-system.svc";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Of a process on a busy machine.
const START: Duration = Duration::from_secs(60);
/// Connections that the gateway takes; few, so that it is quickly reached.
pub const CONNECTIONS: usize = 300;
/// Connectors that have metrics of their own; fewer than there are.
const TOLD_APART: usize = 6;

pub struct Installation {
    pub plane: ControlPlane,
    /// Where clients come, and where metrics are.
    pub http: String,
    pub gateway_metrics: String,
    pub controller_metrics: String,
    health: String,
    probe: String,
    folder: TempDir,
    processes: Vec<Running>,
}

/// A process and whether somebody reads its log.
struct Running {
    child: Child,
    read: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Installation {
    /// The API server with all objects, and a connector CA that will soon end.
    pub async fn prepare() -> Result<Installation> {
        let installation = Installation {
            plane: ControlPlane::start().await?,
            http: client::free_address().await?,
            gateway_metrics: client::free_address().await?,
            controller_metrics: client::free_address().await?,
            health: client::free_address().await?,
            probe: client::free_address().await?,
            folder: tempfile::tempdir()?,
            processes: Vec::new(),
        };
        installation.kubectl("apply -k config/crd").await?;
        installation.plane.established().await?;
        installation.kubectl("apply -k config/default").await?;
        for (secret, hours) in [("connectors-ca", 30 * 24), ("connectors-gateway-ca", 12)] {
            let ending = Identity::ending_root(secret, hours);
            let data = json!({"tls.crt": ending.pem(), "tls.key": ending.key_pem()});
            let metadata = json!({"namespace": NAMESPACE, "name": secret});
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "stringData": data});
            installation.plane.apply(&secret.to_string()).await?;
        }
        Ok(installation)
    }

    pub async fn start_gateway(&mut self) -> Result<()> {
        self.write_settings(&self.settings())?;
        let mut command = bound(built("connectors-gateway")?);
        command.env("KUBECONFIG", self.kubeconfig("connectors-gateway")?);
        command.env("SETTINGS_DIR", self.folder.path());
        self.run(command, "gateway")?;
        self.until(&self.gateway_metrics, "/metrics").await
    }

    /// Names lead to Services in a cluster; here a file of hosts leads to the one gateway. The controller outlives an API
    /// server that is away for longer than a Lease lasts by default.
    pub async fn start_controller(&mut self) -> Result<()> {
        let audience = "probe.connectors.alauda.io";
        let token =
            self.plane.service_account_token(NAMESPACE, "connectors-controller", audience, 7200).await?;
        std::fs::write(self.folder.path().join("token"), token)?;
        let hosts = self.folder.path().join("hosts");
        std::fs::write(&hosts, format!("127.0.0.1 localhost {PROBE_HOST}\n"))?;
        let mut command = bound("unshare");
        command.args(["--mount", "sh", "-c", r#"mount --bind "$0" /etc/hosts && exec "$@""#]).arg(&hosts);
        command.arg(built("connectors-controller")?);
        let port = self.probe.rsplit(':').next().unwrap_or_default();
        command
            .env("KUBECONFIG", self.kubeconfig("connectors-controller")?)
            .env("ADMIN_ADDRESS", &self.controller_metrics)
            .env("GATEWAY_URL", format!("https://{PROBE_HOST}:{port}"))
            .env("GATEWAY_TOKEN_FILE", self.folder.path().join("token"))
            .env("RECHECK", "5")
            .env("LEASE_DURATION", "90")
            .env("LEASE_DEADLINE", "60");
        self.run(command, "controller")?;
        self.until(&self.controller_metrics, "/readyz").await?;
        self.until(&self.gateway_metrics, "/readyz").await
    }

    /// The gateway's settings until the next call.
    pub fn write_settings(&self, settings: &str) -> Result<()> {
        Ok(std::fs::write(self.folder.path().join("gateway.yaml"), settings)?)
    }

    pub fn settings(&self) -> String {
        let listeners = json!({"http": self.http, "https": "127.0.0.1:0", "admin": self.gateway_metrics, "health": self.health, "probe": self.probe});
        json!({
            "threads": 2,
            "listeners": listeners,
            "targets": {"allow": [{"cidrs": ["127.0.0.0/8"]}]},
            "timeouts": {"head": "2s"},
            "limits": {"connections": CONNECTIONS},
            "metrics": {"connectors": TOLD_APART},
        })
        .to_string()
    }

    /// Whether anybody reads the logs from now on.
    pub fn read_logs(&self, read: bool) {
        self.processes.iter().for_each(|process| process.read.store(read, Ordering::Relaxed));
    }

    /// kubectl as administrator, in the folder of the repository; it must succeed.
    pub async fn kubectl(&self, words: &str) -> Result<String> {
        let rooted = |word: &str| {
            if word.starts_with("config/") { format!("{FOLDER}/{word}") } else { word.to_owned() }
        };
        let words: Vec<String> = words.split_whitespace().map(rooted).collect();
        let output = self.plane.kubectl(&words.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        ensure!(output.status.success(), "kubectl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The end of each log, for whoever must explain a failure.
    pub fn last_words(&self) -> String {
        let log = |name: &str| {
            let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
            let lines: Vec<&str> =
                text.lines().filter(|line| !line.contains(r#""target":"access""#)).collect();
            format!("{name}:\n{}\n", lines[lines.len().saturating_sub(20)..].join("\n"))
        };
        format!("{}{}", log("gateway"), log("controller"))
    }

    fn kubeconfig(&self, account: &str) -> Result<PathBuf> {
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(self.plane.kubeconfig())?)?;
        config["users"][0]["user"]["as"] = format!("system:serviceaccount:{NAMESPACE}:{account}").into();
        let path = self.folder.path().join(account);
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }

    fn run(&mut self, mut command: Command, name: &str) -> Result<()> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = spawn(command).with_context(|| format!("start the {name}"))?;
        let log = child.stderr.take().context("its log is a pipe")?;
        let read = Arc::new(AtomicBool::new(true));
        keep(log, &self.folder.path().join(name), read.clone())?;
        self.processes.push(Running { child, read });
        Ok(())
    }

    async fn until(&self, address: &str, path: &str) -> Result<()> {
        let what = format!("{address}{path} answers 200");
        let ready = within(START, &what, || async {
            Ok(client::get(address, path).await.ok().filter(|answer| answer.code == 200))
        });
        ready.await.map(drop).with_context(|| self.last_words())
    }
}

/// Writes a log into a file while `read` says so.
fn keep(mut log: impl Read + Send + 'static, path: &Path, read: Arc<AtomicBool>) -> Result<()> {
    let mut file = File::create(path)?;
    std::thread::Builder::new().name("log".into()).spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        loop {
            while !read.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            match log.read(&mut buffer) {
                Ok(count) if count > 0 => drop(file.write_all(&buffer[..count])),
                _ => return,
            }
        }
    })?;
    Ok(())
}
