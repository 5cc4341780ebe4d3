//! Releases of the chart in a cluster: installed, changed, removed.

use connectors_testenv::ControlPlane;

use super::{NAMESPACE, helm, said};
use crate::{folder, printed};

/// Helm, on the release of this cluster.
async fn run(cluster: &ControlPlane, verb: &[&str], more: &[&str]) -> String {
    let words = [verb, &["connectors", "-n", NAMESPACE], more].concat();
    let output = helm(&words, cluster.kubeconfig().to_str()).await;
    assert!(output.status.success(), "helm {words:?}: {}", said(&output));
    said(&output)
}

#[tokio::test]
async fn one_command_installs_a_second_changes_nothing_and_uninstall_leaves_what_users_wrote() {
    let cluster = ControlPlane::start().await.unwrap();
    let chart = folder("charts/connectors");
    let notes = run(&cluster, &["install"], &[&chart, "--create-namespace"]).await;
    assert!(notes.contains("kubectl rollout status"), "{notes}");
    let generation = async || {
        let path = "jsonpath={.items[*].metadata.generation}";
        printed(&cluster, &["get", "deployments,daemonsets,csidrivers,connectorclasses", "-A", "-o", path])
            .await
    };
    let before = generation().await;
    run(&cluster, &["upgrade"], &[&chart]).await;
    assert_eq!(generation().await, before);

    printed(&cluster, &["create", "namespace", "team"]).await;
    let connector = "{apiVersion: connectors.alauda.io/v1alpha1, kind: Connector, metadata: {name: k8s, namespace: team}, \
                     spec: {connectorClassName: k8s, address: https://target.example}}";
    cluster.apply(connector).await.unwrap();
    run(&cluster, &["uninstall"], &[]).await;
    let left = printed(&cluster, &["get", "connectors", "-n", "team", "-o", "name"]).await;
    assert_eq!(left.trim(), "connector.connectors.alauda.io/k8s");
    let roles = printed(&cluster, &["get", "clusterroles", "-o", "name"]).await;
    assert!(!roles.contains("connectors-"), "{roles}");
}

/// The scaler finds what the release had, and an upgrade finds what the scaler has made of it.
#[tokio::test]
async fn an_upgrade_with_autoscaling_changes_no_number_of_replicas() {
    let cluster = ControlPlane::start().await.unwrap();
    let chart = folder("charts/connectors");
    let deployment = ["-n", NAMESPACE, "deployment/connectors-gateway"];
    let after = async |value: &str| {
        run(&cluster, &["upgrade", "--install"], &[&chart, "--create-namespace", "--set", value]).await;
        printed(&cluster, &[&["get"], &deployment[..], &["-o", "jsonpath={.spec.replicas}"]].concat()).await
    };
    assert_eq!(after("gateway.replicas=6").await, "6");
    assert_eq!(after("gateway.autoscaling.enabled=true").await, "6");
    for number in ["5", "9"] {
        printed(&cluster, &[&["scale"], &deployment[..], &["--replicas", number]].concat()).await;
        assert_eq!(after("gateway.autoscaling.enabled=true").await, number);
    }
}

/// The driver would go with it, and each Pod's next volume.
#[tokio::test]
async fn the_drivers_namespace_stays_when_the_chart_no_longer_makes_it() {
    let cluster = ControlPlane::start().await.unwrap();
    let chart = folder("charts/connectors");
    let phase = ["get", "namespace", "connectors-csi", "-o", "jsonpath={.status.phase}"];
    run(&cluster, &["install"], &[&chart, "--create-namespace"]).await;
    run(&cluster, &["upgrade"], &[&chart, "--set", "driver.createNamespace=false"]).await;
    assert_eq!(printed(&cluster, &phase).await, "Active");
    run(&cluster, &["uninstall"], &[]).await;
    assert_eq!(printed(&cluster, &phase).await, "Active");
}
