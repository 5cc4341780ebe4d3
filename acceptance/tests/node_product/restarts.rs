//! Parts of the product go away and come back: the driver, the leading controller, a gateway.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::connectors::{CALLER, WHO};
use crate::quick_start::claims;
use connectors_acceptance::cluster::{Cluster, SOON};
use connectors_testenv::within;

/// kubelet publishes a volume again every 60 to 90 s, and may miss one turn while the driver starts.
pub const REPUBLISHED: Duration = Duration::from_secs(200);

pub async fn of_the_driver(cluster: &Cluster) -> Result<()> {
    let namespace = "driver-restart";
    cluster.ready_connector(namespace, |yaml| yaml).await?;
    cluster.running_pod(namespace, |yaml| yaml).await?;
    let token = async || cluster.exec(namespace, "inspect-k8s-access", "cat /opt/kube/context.token").await;
    let first = token().await?;

    cluster.kubectl("delete pod -n connectors-csi --all --timeout 60s").await?;
    ensure!(token().await? == first, "the mount lost its files with the driver");
    ensure!(
        cluster.exec(namespace, "inspect-k8s-access", WHO).await? == CALLER,
        "the mount is of no use without the driver"
    );
    cluster.new_tokens(1740).await?;
    cluster.kubectl("rollout status -n connectors-csi daemonset/connectors-csi --timeout 120s").await?;

    let renewed = within(REPUBLISHED, "the next driver replaces the token", || async {
        Ok(Some(token().await?).filter(|now| *now != first))
    });
    let claims = claims(&renewed.await?)?;
    let seconds = claims["exp"].as_i64().unwrap_or_default() - claims["iat"].as_i64().unwrap_or_default();
    ensure!(seconds == 1740, "the new token lives {seconds} s");
    let in_kubeconfig = cluster
        .exec(namespace, "inspect-k8s-access", "grep -c -F -f /opt/kube/context.token /opt/kube/kubeconfig")
        .await?;
    ensure!(in_kubeconfig == "1", "the kubeconfig does not hold the new token");
    ensure!(
        cluster.exec(namespace, "inspect-k8s-access", WHO).await? == CALLER,
        "the refreshed mount is of no use"
    );
    let restarts = cluster
        .kubectl(&format!("get pod inspect-k8s-access -n {namespace} -o jsonpath={{.status.containerStatuses[0].restartCount}}"))
        .await?;
    ensure!(restarts == "0", "the Pod was restarted");
    cluster.kubectl(&format!("delete pod inspect-k8s-access -n {namespace} --timeout 60s")).await.map(drop)
}

pub async fn of_the_leader(cluster: &Cluster) -> Result<()> {
    let holder = async || {
        cluster
            .kubectl(
                "get lease connectors-controller -n connectors-system -o jsonpath={.spec.holderIdentity}",
            )
            .await
    };
    let first = holder().await?;
    ensure!(!first.is_empty(), "nobody holds the Lease");
    let pod = first.split('_').next().unwrap_or_default();
    cluster.kubectl(&format!("delete pod {pod} -n connectors-system --grace-period 0 --force")).await?;
    within(SOON, "another replica holds the Lease", || async {
        Ok(Some(holder().await?).filter(|now| *now != first && !now.is_empty()))
    })
    .await?;
    cluster.ready_connector("after-failover", |yaml| yaml).await?;
    cluster
        .kubectl("rollout status -n connectors-system deployment/connectors-controller --timeout 120s")
        .await
        .map(drop)
}

pub async fn of_a_gateway(cluster: &Cluster) -> Result<()> {
    let namespace = "gateway-restart";
    cluster.ready_connector(namespace, |yaml| yaml).await?;
    cluster.running_pod(namespace, |yaml| yaml).await?;
    let pods = cluster
        .kubectl("get pods -n connectors-system -l app.kubernetes.io/name=connectors-gateway -o name")
        .await?;
    let first = pods.lines().next().unwrap_or_default();
    // Regular deletion drains; new connections must succeed all the while.
    cluster.kubectl(&format!("delete {first} -n connectors-system --wait=false")).await?;
    let gone = format!("get {first} -n connectors-system --ignore-not-found -o name");
    within(SOON, "the gateway has drained and every call meanwhile succeeded", || async {
        let who = cluster.exec(namespace, "inspect-k8s-access", WHO).await?;
        ensure!(who == CALLER, "the target saw {who:?}");
        Ok(cluster.kubectl(&gone).await?.is_empty().then_some(()))
    })
    .await?;
    cluster
        .kubectl("rollout status -n connectors-system deployment/connectors-gateway --timeout 120s")
        .await
        .map(drop)
}
