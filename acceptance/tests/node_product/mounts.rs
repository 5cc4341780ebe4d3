//! Volumes that the driver refuses: the event on the Pod says what to do.

use anyhow::Result;

use connectors_acceptance::cluster::Cluster;

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
