//! Runs with control planes alone: no root, no namespaces, the same promises.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod runs;

use std::fs;
use std::path::Path;

use runs::{Run, left_behind, testenv};

#[test]
fn a_command_finds_both_clusters_and_its_status_is_the_runs() {
    let script = "kubectl get --raw /livez && echo
        kubectl --kubeconfig $TARGET_KUBECONFIG create namespace only-there
        kubectl get namespace only-there || echo not here
        curl --silent --cacert $TARGET_CA $TARGET_URL/api/v1/namespaces/kube-public/configmaps/cluster-info
        echo dir:$TESTENV_DIR:; exit 7";
    let run = testenv(
        &["run", "--home", "control-plane", "--target", "control-plane", "--target-cluster-info"],
        script,
    );
    assert_eq!(run.code, 7, "{run:?}");
    for text in ["ok", "namespace/only-there created", "not here", "certificate-authority-data"] {
        assert!(run.says(text), "no {text:?} in {run:?}");
    }
    let logs = run.after("logs of every component: ");
    assert!(Path::new(&logs).join("target/kube-apiserver.log").exists(), "{run:?}");
    let scratch = Path::new(&logs).parent().unwrap();
    assert_eq!(left_behind(scratch), Vec::<String>::new());
    fs::remove_dir_all(scratch).unwrap();
}

#[test]
fn after_kill_9_no_process_is_left_and_the_next_start_removes_the_folder() {
    let mut run = Run::start(&["run", "--home", "control-plane"], "echo dir:$TESTENV_DIR; exec sleep 1000");
    let dir = run.line_after("dir:");
    assert!(runs::processes(&dir).len() >= 2, "etcd and kube-apiserver run");
    run.signal("KILL");
    assert_eq!(run.wait(), None);
    runs::eventually("its processes end", || runs::processes(&dir).is_empty());
    assert_eq!(testenv(&["run", "--home", "none"], "true").code, 0);
    assert_eq!(left_behind(&dir), Vec::<String>::new());
    assert!(!dir.exists());
}

#[test]
fn a_request_to_end_ends_the_command_too() {
    let mut run = Run::start(&["run", "--home", "control-plane"], "echo dir:$TESTENV_DIR; exec sleep 1000");
    let dir = run.line_after("dir:");
    run.signal("TERM");
    assert_eq!(run.wait(), Some(143));
    assert_eq!(left_behind(&dir), Vec::<String>::new());
    assert!(!dir.exists());
}

#[test]
fn a_missing_image_is_named_before_anything_starts() {
    let run = testenv(&["run", "--image", "/nowhere/image.tar"], "echo never");
    assert_eq!(run.code, 1);
    assert!(!run.says("never"));
    assert!(
        run.complains("image /nowhere/image.tar does not exist: build it first (make images)"),
        "{run:?}"
    );
}
