//! A whole node as the binary starts it: what runs on it, what a command beside it sees, and that nothing is
//! left, whichever way a run ends. Needs root on Linux.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod runs;

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use runs::{Run, left_behind, testenv};

/// A node takes a good part of a small machine: one test at a time.
static MACHINE: Mutex<()> = Mutex::new(());

const PODS: &str = include_str!("pods.yaml");

#[test]
fn pods_run_and_reach_services_the_target_and_the_host() {
    let _machine = MACHINE.lock();
    let script = format!(
        "set -e
        kubectl apply -f - >/dev/null <<'END'\n{PODS}\nEND
        kubectl wait --for=condition=Ready pod/client pod/mounter --timeout=60s >/dev/null
        echo alias: $(kubectl exec client -- nslookup alias.default.svc.cluster.local | grep ^Address | tail -1)
        echo service: $(kubectl exec client -- nc alias 80)
        echo outside: $(kubectl exec client -- sh -c 'nslookup www.example.com; true' | grep -c NXDOMAIN)
        echo logs: $(kubectl logs mounter)
        echo mount: $(cat /run/testenv-shared/inner/file)
        echo target: $(kubectl exec -i client -- sh -c 'cat > /tmp/k; kubectl --kubeconfig /tmp/k get --raw /livez' < $TARGET_KUBECONFIG)
        echo resolver: $(getent hosts server.default.svc.cluster.local | wc -l)
        "
    );
    let run = testenv(&["run", "--target", "control-plane", "--target-cluster-info"], &script);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.says("alias: Address: 198.18."), "{run:?}");
    for line in
        ["service: hello", "outside: 2", "logs: mounted", "mount: shared", "target: ok", "resolver: 1"]
    {
        assert!(run.says(line), "no {line:?} in {run:?}");
    }
}

#[test]
fn a_second_node_is_another_cluster_with_its_own_authority() {
    let _machine = MACHINE.lock();
    let script = "kubectl get node -o name
        kubectl --kubeconfig $TARGET_KUBECONFIG get node -o name
        curl --silent --cacert $TARGET_CA $TARGET_URL/readyz && echo
        curl --silent --cacert $TARGET_CA https://198.18.0.1:6443/readyz || echo other authority
        curl --silent --cacert $TARGET_CA $TARGET_URL/api/v1/namespaces/kube-public/configmaps/cluster-info | grep reason";
    let run = testenv(&["run", "--target", "node"], script);
    assert_eq!(run.code, 0, "{run:?}");
    for line in ["node/home", "node/target", "ok", "other authority", "\"reason\": \"Forbidden\""] {
        assert!(run.says(line), "no {line:?} in {run:?}");
    }
}

#[test]
fn two_runs_do_not_meet_and_leave_nothing() {
    let _machine = MACHINE.lock();
    // Both are up before either asks: each waits for the other's file.
    let meeting = tempfile::tempdir().unwrap();
    let script = |mine: &str, other: &str| {
        let meeting = meeting.path().display();
        format!(
            "kubectl create namespace {mine} && touch {meeting}/{mine}
            timeout 120 sh -c 'until [ -e {meeting}/{other} ]; do sleep 0.1; done' || exit 1
            kubectl get namespace {other} && exit 1
            echo $TESTENV_DIR > {meeting}/{mine}.dir; exit 7"
        )
    };
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| testenv(&["run"], &script("one", "other")));
        let other = scope.spawn(|| testenv(&["run"], &script("other", "one")));
        (one.join().unwrap(), other.join().unwrap())
    });
    for (name, run) in [("one", one), ("other", other)] {
        assert_eq!(run.code, 7, "{run:?}");
        let dir = fs::read_to_string(meeting.path().join(format!("{name}.dir"))).unwrap();
        assert_eq!(left_behind(Path::new(dir.trim())), Vec::<String>::new());
    }
}

#[test]
fn an_interrupt_ends_everything() {
    let _machine = MACHINE.lock();
    let mut run = Run::start(&["run"], "echo dir:$TESTENV_DIR; sleep 1000");
    let dir = run.line_after("dir:");
    run.signal("INT");
    assert_eq!(run.wait(), Some(130));
    assert_eq!(left_behind(&dir), Vec::<String>::new());
    assert!(!dir.exists());
}

#[test]
fn after_kill_9_no_process_is_left_and_the_next_start_removes_the_rest() {
    let _machine = MACHINE.lock();
    let mut run = Run::start(&["run", "--target", "control-plane"], "echo dir:$TESTENV_DIR; sleep 1000");
    let dir = run.line_after("dir:");
    assert!(!runs::processes(&dir).is_empty());
    run.signal("KILL");
    assert_eq!(run.wait(), None);
    runs::eventually("its processes end", || runs::processes(&dir).is_empty());
    assert!(dir.exists(), "the scratch folder is what a killed run cannot remove");
    assert_eq!(testenv(&["run", "--home", "control-plane"], "true").code, 0);
    assert_eq!(left_behind(&dir), Vec::<String>::new());
    assert!(!dir.exists());
}

#[test]
fn a_start_that_fails_names_the_cause_and_keeps_the_logs() {
    let _machine = MACHINE.lock();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("broken.tar");
    fs::write(&image, "no tar").unwrap();
    let run = testenv(&["run", "--image", image.to_str().unwrap()], "echo never");
    assert_eq!(run.code, 1, "{run:?}");
    assert!(!run.says("never"));
    assert!(run.complains(&format!("import the image {}", image.display())), "{run:?}");
    let logs = run.after("logs of every component: ");
    assert!(Path::new(&logs).join("home/containerd.log").exists(), "{run:?}");
    fs::remove_dir_all(Path::new(&logs).parent().unwrap()).unwrap();
}
