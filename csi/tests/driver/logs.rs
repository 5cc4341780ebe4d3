//! The program while nobody reads its log.

use std::process::Stdio;
use std::time::Duration;

use connectors_csi::healthcheck;
use connectors_testenv::{eventually, kubeconfig_in_the_clear};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::kubelet::{register, settings};
use crate::namespace::isolated;

#[test]
fn a_driver_whose_log_nobody_reads_serves_on_and_tells_later_what_was_lost() {
    isolated(async {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_in_the_clear("http://127.0.0.1:9")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_connectors-csi"));
        command.args(["--node-name", "n", "--csi-socket"]).arg(&settings.csi_socket);
        command.arg("--registration-dir").arg(&settings.registration_dir);
        command.env("KUBECONFIG", kubeconfig).env("RUST_LOG", "trace");
        let mut driver = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let socket = &settings.csi_socket;
        eventually("the driver serves", async || healthcheck(socket).await).await;

        // Each is some lines; a pipe takes 64 KiB, and 512 lines wait.
        for _ in 0..300 {
            healthcheck(socket).await.unwrap();
        }
        register(&settings, true).await;

        let mut log = BufReader::new(driver.stderr.take().unwrap()).lines();
        let told = async {
            while let Some(line) = log.next_line().await.unwrap() {
                if line.contains("lines were lost, for nobody read the log") {
                    return;
                }
            }
            panic!("nothing was lost, or it is not told");
        };
        let more_lines = async {
            loop {
                healthcheck(socket).await.unwrap();
            }
        };
        let both = async {
            tokio::select! { () = told => {}, never = more_lines => never }
        };
        tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    });
}
