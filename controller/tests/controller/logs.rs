//! The program while nobody reads its log, and what it says of its end.

use std::future::ready;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use connectors_testenv::{eventually, kubeconfig_in_the_clear};
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::admin::{free_address, get};

const PATIENCE: Duration = Duration::from_secs(10);
const LOST: &str = "connectors_controller_log_lines_lost_total";

struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_whose_log_nobody_reads_serves_on_counts_what_is_lost_and_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let here = |name: &str| folder.path().join(name);
    std::fs::write(here("token"), "token").unwrap();
    std::fs::write(here("kubeconfig"), kubeconfig_in_the_clear("http://127.0.0.1:9")).unwrap();
    let address = free_address().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_connectors-controller"));
    command.arg("--gateway-token-file").arg(here("token")).args(["--admin-address", &address.to_string()]);
    command.env("KUBECONFIG", here("kubeconfig")).env("RUST_LOG", "debug").stderr(Stdio::piped());
    let mut controller = Controller(command.spawn().unwrap());
    eventually("it listens", async || get(address, "/healthz").await).await;
    assert!(get(address, "/metrics").await.unwrap().contains(&format!("\n{LOST} 0\n")));

    // A line for each; a pipe takes 64 KiB, and 512 lines wait.
    for _ in 0..60 {
        join_all((0..50).map(|_| break_off(address))).await;
    }
    let metrics = timeout(PATIENCE, get(address, "/metrics")).await.expect("it serves").unwrap();
    let lost = metrics.lines().find_map(|line| line.strip_prefix(LOST)).unwrap();
    assert!(lost.trim().parse::<u64>().unwrap() > 0, "{metrics}");

    let killed = Command::new("kill").arg(controller.0.id().to_string()).status().unwrap();
    assert!(killed.success());
    eventually("it ends", || ready(controller.0.try_wait().unwrap().ok_or("it runs"))).await;
}

/// What is no request is told in the log, at its level debug.
async fn break_off(address: SocketAddr) {
    let spoken = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"this is no request\r\n\r\n").await?;
        stream.read_to_end(&mut Vec::new()).await
    };
    let answered = timeout(PATIENCE, spoken).await.expect("it serves");
    answered.unwrap();
}

#[test]
fn a_controller_that_ends_by_itself_says_why_whatever_rust_log_says() {
    for asked in ["off", "connectors_controller=off"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_connectors-controller"));
        // Nor the cluster in which the test may run.
        command.env("KUBECONFIG", "/nowhere").env_remove("KUBERNETES_SERVICE_HOST");
        let output = command.env("RUST_LOG", asked).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{asked}");
        assert!(text.contains("stopped: no Kubernetes API server"), "{asked}: {text}");
    }
}
