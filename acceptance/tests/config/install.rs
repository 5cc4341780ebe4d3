//! `config/default` applies to a new cluster by one command, and again without a change. That its class comes with the
//! controller: `controller/tests/controller/classes.rs`.

use connectors_testenv::ControlPlane;
use serde_json::Value;

use crate::chart::objects;
use crate::{folder, install, printed};

#[tokio::test]
async fn one_command_installs_all_on_a_new_cluster_and_a_second_time_changes_nothing() {
    let cluster = ControlPlane::start().await.unwrap();
    let said = install(&cluster).await;
    assert!(!said.contains("Warning"), "a warning, for one of Pod security: {said}");
    // `kubectl apply` calls an object configured that it only sent again; `diff` asks the API server.
    let differences = cluster.kubectl(&["diff", "-k", &folder("config/default")]).await.unwrap();
    assert!(differences.status.success(), "{}", String::from_utf8_lossy(&differences.stdout));
}

#[tokio::test]
async fn only_the_namespace_of_the_driver_admits_privileged_pods() {
    let cluster = ControlPlane::start().await.unwrap();
    install(&cluster).await;
    let privileged = include_str!("privileged-pod.yaml");
    for (namespace, admitted) in [("connectors-system", false), ("connectors-csi", true)] {
        printed(&cluster, &["create", "serviceaccount", "default", "-n", namespace]).await;
        let applied = cluster.apply(&privileged.replace("NAMESPACE", namespace)).await;
        assert_eq!(applied.is_ok(), admitted, "{namespace}: {applied:?}");
    }
}

#[tokio::test]
async fn an_older_cluster_gets_a_csi_driver_without_the_field_it_does_not_know() {
    let cluster = ControlPlane::start().await.unwrap();
    let field = "serviceAccountTokenInSecrets";
    for (path, present) in [("config/default", true), ("config/overlays/kubernetes-before-1.35", false)] {
        let rendered = printed(&cluster, &["kustomize", &folder(path)]).await;
        assert_eq!(rendered.contains(field), present, "{path}");
    }
}

#[tokio::test]
async fn a_cluster_of_one_node_gets_one_of_each() {
    let cluster = ControlPlane::start().await.unwrap();
    for (path, replicas) in [("config/default", "replicas: 2"), ("config/overlays/one-node", "replicas: 1")] {
        let rendered = printed(&cluster, &["kustomize", &folder(path)]).await;
        let found: Vec<&str> =
            rendered.lines().map(str::trim).filter(|line| line.starts_with("replicas:")).collect();
        assert_eq!(found, [replicas; 2], "{path}");
    }
}

#[tokio::test]
async fn kubelets_folder_is_one_value_in_one_place() {
    let cluster = ControlPlane::start().await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(folder("config/csi")).unwrap() {
        let file = file.unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let changed = match file.file_name().to_str() {
            Some("kubelet.yaml") => text.replace("/var/lib/kubelet", "/var/lib/k0s/kubelet"),
            _ => text,
        };
        std::fs::write(copy.path().join(file.file_name()), changed).unwrap();
    }
    let usual = printed(&cluster, &["kustomize", &folder("config/csi")]).await;
    let other = printed(&cluster, &["kustomize", copy.path().to_str().unwrap()]).await;
    assert_eq!(usual.matches("/var/lib/kubelet/").count(), 8, "{usual}");
    assert_eq!(other, usual.replace("/var/lib/kubelet", "/var/lib/k0s/kubelet"));
    assert!(!usual.contains("KUBELET") && !usual.contains("kind: ConfigMap"), "{usual}");
}

#[tokio::test]
async fn the_command_of_the_pages_shows_the_pods_of_all_parts() {
    let cluster = ControlPlane::start().await.unwrap();
    let all = objects(&printed(&cluster, &["kustomize", &folder("config/default")]).await);
    let label = |object: &Value| {
        object["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/part-of"].clone()
    };
    let workloads: Vec<_> =
        all.iter().filter(|(key, _)| ["Deployment", "DaemonSet"].contains(&key[0].as_str())).collect();
    assert_eq!(workloads.len(), 3);
    for (key, workload) in workloads {
        assert_eq!(label(workload), "connectors", "{key:?}");
    }
    for page in ["docs/installation.md", "docs/quick-start.md", "docs/zh/quick-start.md", "docs/concepts.md"]
    {
        let command = "kubectl get pods --all-namespaces -l app.kubernetes.io/part-of=connectors\n";
        assert!(std::fs::read_to_string(folder(page)).unwrap().contains(command), "{page}");
    }
}
