//! The driver's own life: sockets, registration with kubelet, health check, end.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Output;

use connectors_csi::Error;
use connectors_testenv::{eventually, kubeconfig_in_the_clear};
use tokio::process::Command;

use crate::cluster;
use crate::kubelet::{Driver, Kubelet, found, register, settings};
use crate::namespace::isolated;

#[test]
fn the_driver_tells_kubelet_its_name_and_where_it_serves() {
    isolated(async {
        let kubelet = Kubelet::start().await;
        let (_, info) = found(&kubelet.settings).await;
        assert_eq!((info.r#type.as_str(), info.name.as_str()), ("CSIPlugin", "connectors-csi"));
        assert_eq!(info.endpoint, kubelet.settings.csi_socket.display().to_string());
        assert_eq!(info.supported_versions, ["1.0.0"]);
    });
}

#[test]
fn sockets_are_roots_alone_replace_old_ones_and_go_with_the_driver() {
    isolated(async {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let sockets =
            [settings.csi_socket.clone(), settings.registration_dir.join("connectors-csi@reg.sock")];
        for socket in &sockets {
            fs::create_dir_all(socket.parent().unwrap()).unwrap();
            drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
        }
        let driver = Driver::start(&settings, cluster::drivers_client().await);
        register(&settings, true).await;
        for socket in &sockets {
            assert_eq!(
                fs::metadata(socket).unwrap().permissions().mode() & 0o777,
                0o600,
                "{}",
                socket.display()
            );
        }
        driver.stop().await.unwrap();
        assert!(sockets.iter().all(|socket| !socket.exists()));
    });
}

/// As in an update whose old Pod takes its time: the sockets are the new one's then.
#[test]
fn a_driver_that_ends_leaves_the_sockets_of_the_next_one() {
    isolated(async {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let old = Driver::start(&settings, cluster::drivers_client().await);
        register(&settings, true).await;
        let new = Driver::start(&settings, cluster::drivers_client().await);
        let inode = || {
            fs::metadata(settings.registration_dir.join("connectors-csi@reg.sock"))
                .map(|file| file.ino())
                .ok()
        };
        let of_old = inode();
        eventually("the sockets of the new one", async || {
            (inode().is_some() && inode() != of_old).then_some(())
        })
        .await;
        old.stop().await.unwrap();
        register(&settings, true).await;
        assert!(settings.csi_socket.with_file_name("health.sock").exists());
        new.stop().await.unwrap();
    });
}

#[test]
fn a_registration_that_kubelet_refuses_ends_the_driver_with_an_error() {
    isolated(async {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let driver = Driver::start(&settings, cluster::drivers_client().await);
        register(&settings, false).await;
        let outcome = driver.end().await;
        assert!(matches!(&outcome, Err(Error::Refused(reason)) if reason == "no"), "{outcome:?}");
    });
}

#[test]
fn the_health_check_tells_a_serving_driver_from_none() {
    isolated(async {
        let kubelet = Kubelet::start().await;
        let socket = kubelet.settings.csi_socket.clone();
        assert!(program(&["healthcheck", "--csi-socket", socket.to_str().unwrap()]).await.status.success());
        kubelet.driver.stop().await.unwrap();
        let output = program(&["healthcheck", "--csi-socket", socket.to_str().unwrap()]).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("the driver does not answer on"), "{text}");
    });
}

/// As the probes of its Pod ask it.
#[test]
fn a_driver_lives_before_kubelet_registers_it_and_is_ready_as_soon_as_kubelet_has() {
    isolated(async {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let driver = Driver::start(&settings, cluster::drivers_client().await);
        // Kubelet has looked at it, and may still refuse it.
        found(&settings).await;
        let [socket, registry] =
            [&settings.csi_socket, &settings.registration_dir].map(|path| path.to_str().unwrap());
        let lives = ["healthcheck", "--csi-socket", socket];
        let ready = [&lives[..], &["--registered", "--registration-dir", registry]].concat();
        assert!(program(&lives).await.status.success());
        let output = program(&ready).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains(registry) && text.contains("driver.kubelet (Helm)"), "{text}");

        let (output, _node) = tokio::join!(program(&ready), register(&settings, true));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(program(&lives).await.status.success());
        // Kubelet forgets a driver whose socket is gone.
        fs::remove_file(settings.registration_dir.join("connectors-csi@reg.sock")).unwrap();
        assert!(!program(&ready).await.status.success());
        driver.stop().await.unwrap();
        let output = program(&ready).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("the driver does not answer on"), "{text}");
    });
}

/// The program itself beside a kubelet that looks into another folder.
#[test]
fn a_driver_whose_folder_is_not_kubelets_is_never_ready_and_names_the_folder_and_the_value_to_correct() {
    isolated(async {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let wrong = folder.path().join("wrong/plugins_registry");
        fs::create_dir_all(&settings.registration_dir).unwrap();
        fs::create_dir_all(&wrong).unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, kubeconfig_in_the_clear("http://127.0.0.1:9")).unwrap();
        let [socket, registry] = [&settings.csi_socket, &wrong].map(|path| path.to_str().unwrap());
        let paths = ["--csi-socket", socket, "--registration-dir", registry];
        let mut command = Command::new(env!("CARGO_BIN_EXE_connectors-csi"));
        command.args(["--node-name", "n"]).args(paths).env("KUBECONFIG", kubeconfig);
        let _driver = command.kill_on_drop(true).spawn().unwrap();
        let asked = [&["healthcheck"], &paths[..]].concat();
        eventually("it lives", async || program(&asked).await.status.success()).await;
        let output = program(&[&asked[..], &["--registered"]].concat()).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains(registry) && text.contains("driver.kubelet (Helm)"), "{text}");
        let looked_at = fs::read_dir(&settings.registration_dir).unwrap().count();
        assert_eq!(looked_at, 0, "there is something for kubelet to find");
    });
}

#[test]
fn a_driver_that_does_not_know_its_node_says_so() {
    isolated(async {
        let output = program(&[]).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("--node-name (NODE_NAME) is required"), "{text}");
    });
}

#[test]
fn a_driver_that_ends_by_itself_says_why_whatever_rust_log_says() {
    isolated(async {
        for asked in ["off", "connectors_csi=off", "error,end=off"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_connectors-csi"));
            command
                .args(["--node-name", "n"])
                .env("RUST_LOG", asked)
                .env("KUBECONFIG", "/nowhere")
                .env_remove("KUBERNETES_SERVICE_HOST");
            let output = command.kill_on_drop(true).output().await.unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{asked}");
            assert!(text.contains("stopped: no access to the API server"), "{asked}: {text}");
        }
    });
}

/// It would be taken for the name of a part, and all others be silent.
#[test]
fn a_misspelt_level_of_the_log_silences_nothing() {
    isolated(async {
        let mut command = Command::new(env!("CARGO_BIN_EXE_connectors-csi"));
        command
            .args(["--node-name", "n"])
            .env("RUST_LOG", "debgu")
            .env("KUBECONFIG", "/nowhere")
            .env_remove("KUBERNETES_SERVICE_HOST");
        let output = command.kill_on_drop(true).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("starting"), "{text}");
    });
}

async fn program(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_connectors-csi"));
    command.args(arguments).env_remove("NODE_NAME").kill_on_drop(true).output().await.unwrap()
}
