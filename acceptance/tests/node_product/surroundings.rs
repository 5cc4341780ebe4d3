//! What is in the cluster is no target, by name or by address; its own API server is one.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;

use connectors_acceptance::cluster::Cluster;

/// By name, as Service, and where it listens.
pub async fn the_own_api_server(cluster: &Cluster) -> Result<()> {
    cluster.kubectl("create serviceaccount reader -n default").await?;
    cluster
        .kubectl("create clusterrolebinding own-reader --clusterrole view --serviceaccount default:reader")
        .await?;
    let token = cluster.kubectl("create token reader -n default --duration 1h").await?;
    let service = cluster.kubectl("get service kubernetes -n default -o jsonpath={.spec.clusterIP}").await?;
    let path = "jsonpath={.endpoints[0].addresses[0]}:{.ports[0].port}";
    let endpoint = cluster.kubectl(&format!("get endpointslice kubernetes -n default -o {path}")).await?;
    let own = [
        ("own-name", "https://kubernetes.default.svc".to_owned()),
        ("own-service", format!("https://{service}")),
        ("own-endpoint", format!("https://{endpoint}")),
    ];
    try_join_all(own.iter().map(|(namespace, address)| {
        let edit = |yaml: String| yaml.replace("$TARGET_ADDRESS", address).replace("$TARGET_TOKEN", &token);
        cluster.ready_connector(namespace, edit)
    }))
    .await
    .map(drop)
}

/// The Pod, the Service and the node are there, the name is not: all are told the same.
pub async fn everything_else(cluster: &Cluster) -> Result<()> {
    cluster.kubectl("create service clusterip web --tcp 443:8443 -n default").await?;
    let service = cluster.kubectl("get service web -n default -o jsonpath={.spec.clusterIP}").await?;
    let controller = "get pods -n connectors-system -l app.kubernetes.io/name=connectors-controller";
    let pod = cluster.kubectl(&format!("{controller} -o jsonpath={{.items[0].status.podIP}}")).await?;
    let node = "get nodes -o jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
    let node = cluster.kubectl(node).await?;
    ensure!(!pod.is_empty() && !node.is_empty() && !service.is_empty(), "{pod} {node} {service}");
    let places = [
        ("in-pod", pod),
        ("in-service", service),
        ("in-node", format!("{node}:10250")),
        ("in-name", "web.default.svc".to_owned()),
        ("in-full-name", "web.default.svc.cluster.local".to_owned()),
        ("in-absent", "absent.default.svc".to_owned()),
    ];
    try_join_all(places.iter().map(|(namespace, place)| async move {
        let address = format!("https://{place}");
        cluster.with_connector(namespace, |yaml| yaml.replace("$TARGET_ADDRESS", &address)).await?;
        let (reason, message) = cluster.until_false(namespace, "Ready").await?;
        let host = place.split(':').next().context("a host")?;
        ensure!(
            reason == "TargetDenied"
                && message.contains(&format!("may not connect to {host}: ask its operator")),
            "{place}: {reason}: {message}"
        );
        anyhow::Ok(())
    }))
    .await?;
    let gateways = "-n connectors-system -l app.kubernetes.io/name=connectors-gateway";
    let log = cluster.kubectl(&format!("logs {gateways} --tail=-1")).await?;
    let rule = "{namespaces: [in-name], hosts: [web.default.svc], ports: [443]}";
    ensure!(log.contains(rule), "no log of a gateway shows the rule {rule}");
    Ok(())
}
