//! The gateway's ConfigMap goes away: what it forbids stays forbidden.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use connectors_acceptance::cluster::Cluster;
use connectors_testenv::within;

/// kubelet delivers an edit within 90 s, and a failing connector is probed again after a while.
const DELIVERED: Duration = Duration::from_secs(150);
/// Defaults were in force 18 s after the deletion.
const WATCHED: Duration = Duration::from_secs(45);

pub async fn deleted(cluster: &Cluster) -> Result<()> {
    let namespace = "settings-gone";
    cluster.set_targets(json!([{"namespaces": [namespace]}])).await?;
    cluster.with_connector(namespace, |yaml| yaml).await?;
    let denied = async || {
        let connector = cluster.json(&format!("get connector k8s-connector -n {namespace}")).await?;
        let conditions = connector["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|one| one["type"] == "Ready" && one["status"] == "False");
        Ok::<_, anyhow::Error>(ready.is_some_and(|ready| ready["reason"] == "TargetDenied"))
    };
    within(DELIVERED, "each gateway has the rule", || in_force(cluster, namespace)).await?;
    // An annotation makes the controller look again.
    let looked_at_again = async |round: usize| {
        cluster
            .kubectl(&format!("annotate connector k8s-connector -n {namespace} --overwrite round={round}"))
            .await
    };
    let mut round = 0;
    within(DELIVERED, "the rule is in force", || {
        round += 1;
        async move {
            looked_at_again(round).await?;
            Ok(denied().await?.then_some(()))
        }
    })
    .await?;

    cluster.kubectl("delete configmap connectors-gateway -n connectors-system").await?;
    let deleted = Instant::now();
    while deleted.elapsed() < WATCHED {
        looked_at_again(deleted.elapsed().as_millis() as usize).await?;
        ensure!(denied().await?, "{:?} after the ConfigMap was deleted its rule is gone", deleted.elapsed());
    }
    cluster.kubectl("apply -f config/gateway/settings.yaml").await?;
    cluster.set_targets(Value::Null).await
}

/// Kubelet brings an edit to each Pod at a time of its own, and a probe asks only one of them.
async fn in_force(cluster: &Cluster, words: &str) -> Result<Option<()>> {
    let gateways = "-n connectors-system -l app.kubernetes.io/name=connectors-gateway";
    let pods = cluster.json(&format!("get pods {gateways}")).await?;
    let pods = pods["items"].as_array().map_or(0, Vec::len);
    let log = cluster.kubectl(&format!("logs {gateways} --prefix --tail=-1")).await?;
    let taken = log.lines().filter(|line| line.contains("settings changed") && line.contains(words));
    let taken: BTreeSet<&str> = taken.filter_map(|line| line.split(' ').next()).collect();
    Ok((pods > 0 && taken.len() == pods).then_some(()))
}
