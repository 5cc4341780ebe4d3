//! The binary itself, without a cluster: it serves from files, refuses to start on broken settings, and ends
//! as soon as nothing is open.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use connectors_testenv::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{PATIENCE, run};

const OBJECTS: &str = r#"
kind: ConnectorClass
apiVersion: connectors.alauda.io/v1alpha1
metadata: {name: k8s}
spec: {auth: {types: [{name: bearerTokenAuth, secretType: connectors.cpaas.io/bearer-token}]}}
"#;

pub struct Process {
    pub child: Child,
    pub http: String,
    pub admin: String,
    /// None listens there without a cluster.
    pub probe: String,
    pub files: tempfile::TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A host of loopback for each: a port that was free may be given to the next who asks, and a test would talk with the
/// process of another.
pub async fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    TcpListener::bind(format!("127.9.{high}.{low}:0")).await.unwrap().local_addr().unwrap().to_string()
}

fn command(folder: &Path, settings: &str) -> Command {
    let issuing = connectors_testenv::pki::Identity::root("issuing");
    std::fs::create_dir_all(folder.join("manifests")).unwrap();
    write(&folder.join("manifests"), "objects.yaml", OBJECTS);
    write(folder, "gateway.yaml", settings);
    let clients = write(folder, "clients.yaml", "[{token: letmein, user: me, connectors: []}]");
    let certificate = write(folder, "ca.crt", &issuing.pem());
    let key = write(folder, "ca.key", &issuing.key_pem());
    let mut command = Command::new(env!("CARGO_BIN_EXE_connectors-gateway"));
    command
        .arg("--settings-dir")
        .arg(folder)
        .arg("--manifests")
        .arg(folder.join("manifests"))
        .arg("--clients")
        .arg(clients);
    command.arg("--ca-cert").arg(certificate).arg("--ca-key").arg(key);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

async fn start() -> Process {
    start_logging(Stdio::null()).await
}

async fn start_logging(log: Stdio) -> Process {
    let folder = tempfile::tempdir().unwrap();
    let (http, admin) = (free_address().await, free_address().await);
    let settings = format!(
        "threads: 1\nlisteners: {{http: '{http}', https: '127.0.0.1:0', admin: '{admin}', health: '127.0.0.1:0'}}"
    );
    let child = command(folder.path(), &settings).stderr(log).spawn().unwrap();
    let process = Process { child, http, admin, probe: String::new(), files: folder };
    eventually("it is ready", async || get(&process.admin, "/readyz").await.contains(" 200 ")).await;
    process
}

/// Empty while nothing listens.
async fn get(address: &str, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address).await else { return String::new() };
    let mut answer = String::new();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok();
    stream.read_to_string(&mut answer).await.ok();
    answer
}

pub async fn ended(process: &mut Process) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process did not end");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

pub fn terminate(process: &Process) {
    kill(process, "-TERM");
}

fn kill(process: &Process, signal: &str) {
    let killed = Command::new("kill").args([signal, &process.child.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

#[test]
fn without_a_cluster_it_serves_from_files_and_challenges_strangers() {
    run(async {
        let process = start().await;
        let mut stream = TcpStream::connect(&process.http).await.unwrap();
        stream.write_all(b"CONNECT target:443 HTTP/1.1\r\nHost: target:443\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 407 ")
                && answer.to_lowercase().contains("proxy-authenticate: basic"),
            "{answer}"
        );
        assert!(
            get(&process.admin, "/metrics")
                .await
                .contains("connectors_gateway_refusals_total{reason=\"unauthenticated\"} 1")
        );
    });
}

#[test]
fn an_idle_gateway_ends_at_once_when_told_although_a_client_is_connected() {
    run(async {
        let mut process = start().await;
        let half_a_head = TcpStream::connect(&process.http).await.unwrap();
        let told = Instant::now();
        terminate(&process);
        let status = ended(&mut process).await;
        assert!(status.success(), "{status}");
        assert!(told.elapsed().as_secs() < 10, "it took {:?} of a drain of 30 s", told.elapsed());
        drop(half_a_head);
    });
}

fn records(log: &Path) -> usize {
    std::fs::read_to_string(log)
        .unwrap()
        .lines()
        .filter(|line| line.contains("\"target\":\"access\"") && line.ends_with('}'))
        .count()
}

/// Until its answer has come whole.
async fn refused(process: &Process) {
    let mut stream = TcpStream::connect(&process.http).await.unwrap();
    stream.write_all(b"CONNECT target:443 HTTP/1.1\r\nHost: target:443\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 407 "), "{answer}");
}

#[test]
fn records_are_written_while_nothing_else_happens_and_none_is_lost_when_it_is_told_to_end() {
    run(async {
        for signal in ["-TERM", "-INT"] {
            let logs = tempfile::tempdir().unwrap();
            let log = logs.path().join("log");
            let mut process = start_logging(std::fs::File::create(&log).unwrap().into()).await;
            refused(&process).await;
            eventually("the first record", async || records(&log) == 1).await;
            for _ in 0..20 {
                refused(&process).await;
            }
            kill(&process, signal);
            assert!(ended(&mut process).await.success());
            assert_eq!(records(&log), 21, "{signal}");
        }
    });
}

/// What the kernel does when an open connection to this local address goes on in silence (`/proc/net/tcp`: 2
/// is keep-alive).
fn timer(address: &str) -> Option<u8> {
    let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1].ends_with(&format!(":{port:04X}")) && row[3] == "01")?;
    row[5].split_once(':')?.0.parse().ok()
}

#[test]
fn the_kernel_watches_over_idle_clients() {
    run(async {
        let process = start().await;
        let _idle = TcpStream::connect(&process.http).await.unwrap();
        eventually("a keep-alive timer", async || timer(&process.http) == Some(2)).await;
    });
}

#[test]
fn broken_settings_keep_it_from_starting_and_are_named() {
    run(async {
        let variable = "CONNECTORS_GATEWAY__LIMITS__STREAMS";
        for (yaml, streams, words) in [
            ("limits: {head_bytes: 12}", "100", "limits.head_bytes is 12: must be at least 4096"),
            (
                "limits: {streams: 100}",
                "0",
                "limits.streams is 0 in CONNECTORS_GATEWAY__LIMITS__STREAMS: must be at least 1",
            ),
            (
                "limits: {streams: 100}",
                "many",
                "limits.streams is \"many\" in CONNECTORS_GATEWAY__LIMITS__STREAMS: must be a whole number",
            ),
            ("limits: {strems: 100}", "100", "limits.strems is no setting: did you mean limits.streams?"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let output = command(folder.path(), yaml).env(variable, streams).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && said.contains(words), "{said}");
        }
    });
}

/// What the log says of each change of the settings, and which of them wait.
fn changes(log: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().filter(|line| line.contains("settings changed") && line.ends_with('}'));
    let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let field = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    lines.map(|line| (field(&line, "message"), field(&line, "wait_for_restart"))).collect()
}

#[test]
fn changed_settings_that_wait_for_a_restart_are_named_until_they_are_changed_back() {
    run(async {
        let logs = tempfile::tempdir().unwrap();
        let log = logs.path().join("log");
        let process = start_logging(std::fs::File::create(&log).unwrap().into()).await;
        let file = process.files.path().join("gateway.yaml");
        let started = std::fs::read_to_string(&file).unwrap();
        let drain = "\ntimeouts: {drain: 1s}";
        let waits = "settings changed; some wait for a restart";
        for (count, (settings, message, waiting)) in [
            (format!("{started}{drain}"), "settings changed", ""),
            (started.replace("threads: 1", "threads: 2") + drain, waits, "threads"),
            (
                started.replace("threads: 1", "threads: 2") + "\nrecords: {on_full: wait}",
                waits,
                "records.on_full, threads",
            ),
            (started.clone(), "settings changed", ""),
        ]
        .into_iter()
        .enumerate()
        {
            // In one step: half a file would be told of, too.
            let next = write(process.files.path(), "next", &settings);
            std::fs::rename(next, &file).unwrap();
            eventually("the change is told", async || changes(&log).len() == count + 1).await;
            assert_eq!(changes(&log).pop(), Some((message.to_owned(), waiting.to_owned())), "{settings}");
        }
    });
}

#[test]
fn in_a_cluster_missing_settings_are_told_in_one_sentence_at_start() {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_connectors-gateway"));
    let refused = command.arg("--settings-dir").arg(nowhere.path()).stdin(Stdio::null()).output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("gateway.yaml cannot be read: write the settings there, or {} for the defaults"),
        "{said}"
    );
}

#[test]
fn a_gateway_that_ends_by_itself_says_why_whatever_rust_log_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), "limits: {head_bytes: 12}");
    let refused = command.env("RUST_LOG", "off").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("limits.head_bytes is 12"), "{said}");
}
