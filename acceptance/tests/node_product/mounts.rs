//! Volumes that the driver refuses, and those that it cannot renew as a whole: the event on the Pod says what to do.

use anyhow::{Result, ensure};

use crate::connectors::{CALLER, WHO};
use crate::restarts::REPUBLISHED;
use connectors_acceptance::cluster::{CONNECTOR, Cluster, SOON};
use connectors_testenv::within;

pub async fn wrong_attributes(cluster: &Cluster) -> Result<()> {
    let name = "connector.name: \"k8s-connector\"";
    let cases = [
        ("not-read-only", "readOnly: true", "readOnly: false", "readOnly"),
        ("misspelt", name, "connector.nam: \"k8s-connector\"", "connector.name"),
        ("unknown-connector", name, "connector.name: \"absent\"", "connector \"absent\" not found"),
        ("unknown-configuration", "names: \"kubeconfig\"", "names: \"kubeconfg\"", "kubeconfig"),
        ("no-connector", name, "other: attribute", "connectors or connector.name is required"),
    ];
    for (namespace, right, wrong, words) in cases {
        if namespace == "unknown-configuration" {
            cluster.ready_connector(namespace, |yaml| yaml).await?;
        } else {
            cluster.kubectl(&format!("create namespace {namespace}")).await?;
        }
        cluster.started_pod(namespace, |yaml| yaml.replace(right, wrong)).await?;
        cluster.event(namespace, words).await?;
    }
    Ok(())
}

/// kubelet makes an event of the driver's error although the volume is mounted.
pub async fn one_connector_gone(cluster: &Cluster) -> Result<()> {
    let namespace = "one-gone";
    cluster.ready_connector(namespace, |yaml| yaml).await?;
    let other = CONNECTOR.replace("name: k8s-connector", "name: other");
    let other = other.replace("$TARGET_TOKEN", &cluster.token).replace("$TARGET_ADDRESS", &cluster.address);
    cluster.apply(namespace, &other).await?;
    cluster
        .kubectl(&format!(
            "wait --for condition=Ready -n {namespace} connector/other --timeout {}s",
            SOON.as_secs()
        ))
        .await?;
    let both = |yaml: String| {
        yaml.replace("connector.name: \"k8s-connector\"", "connectors: \"k8s-connector,other\"")
    };
    cluster.running_pod(namespace, both).await?;
    let file = async |line: &str| cluster.exec(namespace, "inspect-k8s-access", line).await;
    let first = file("cat /opt/kube/context.token").await?;

    cluster.kubectl(&format!("delete connector other -n {namespace} --timeout 30s")).await?;
    cluster.new_tokens(1680).await?;
    within(REPUBLISHED, "the token is replaced", || async {
        Ok((file("cat /opt/kube/context.token").await? != first).then_some(()))
    })
    .await?;
    let words =
        format!("the rest keeps its content: connector \"other\" not found in namespace \"{namespace}\"");
    cluster.event(namespace, &words).await?;
    let events = cluster.events(namespace).await?;
    ensure!(
        events.lines().any(|line| line.starts_with("FailedMount\t") && line.contains(&words)),
        "{events}"
    );
    let logins = file("grep -c -F -f /opt/kube/context.token /opt/kube/kubeconfig").await?;
    ensure!(logins == "2", "{logins} logins of the kubeconfig hold the new token");
    let who = file(WHO).await?;
    ensure!(who == CALLER, "the target saw {who:?}");
    cluster.kubectl(&format!("delete pod inspect-k8s-access -n {namespace} --timeout 60s")).await.map(drop)
}
