//! Which addresses are the cluster's own: Services, Pods, nodes, and where its API server is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use connectors_api::cluster_ranges::ClusterRanges;
use connectors_api::names;
use connectors_controller::prober::fake::FakeProber;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service};
use kube::Api;
use kube::api::DeleteParams;

use crate::between;
use crate::world::{World, settings};

const SYSTEM: &str = names::SYSTEM_NAMESPACE;

fn ranges(configmap: &ConfigMap) -> ClusterRanges {
    ClusterRanges::from_data(configmap.data.as_ref().unwrap()).unwrap()
}

async fn until(world: &World, as_wanted: impl Fn(&ClusterRanges) -> bool) -> ClusterRanges {
    let name = names::CLUSTER_RANGES_CONFIGMAP;
    let written = world.until_there::<ConfigMap>(SYSTEM, name, |found| as_wanted(&ranges(found))).await;
    ranges(&written)
}

async fn node(world: &World, name: &str, pods: &str, address: &str) {
    let (v4, v6) = (format!("10.244.{pods}.0/24"), format!("fd00:244:{pods}::/64"));
    world
        .apply(&format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}, spec: {{podCIDR: {v4}, podCIDRs: [{v4}, '{v6}']}}}}"
        ))
        .await;
    let addresses = format!(
        r#"{{"status": {{"addresses": [{{"type": "InternalIP", "address": "{address}"}}, {{"type": "Hostname", "address": "{name}"}}]}}}}"#
    );
    let patch = ["patch", "node", name, "--subresource=status", "--type=merge", "-p", &addresses];
    assert!(world.plane.kubectl(&patch).await.unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_written_down_and_follow_the_nodes() {
    let (world, _prober, _running) = World::with_controller().await;
    let first = until(&world, |_| true).await;
    let kubernetes = world.api::<Service>("default").get("kubernetes").await.unwrap();
    let ip: std::net::IpAddr = kubernetes.spec.unwrap().cluster_ip.unwrap().parse().unwrap();
    assert!(first.services.iter().any(|range| range.contains(&ip)), "{ip} is not in {first:?}");
    assert!(first.api_server.contains(&(ip, 443).into()), "{first:?}");
    assert!(first.pods.is_empty() && first.nodes.is_empty(), "{first:?}");

    // This API server listens on loopback alone, which no EndpointSlice may have.
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: kubernetes, namespace: default},
        addressType: IPv4, endpoints: [{addresses: [192.0.2.7]}], ports: [{name: https, port: 6443}]}";
    world.apply(slice).await;
    node(&world, "one", "0", "192.168.1.7").await;
    node(&world, "two", "1", "192.168.1.9").await;
    let both = until(&world, |ranges| ranges.nodes.len() == 2).await;
    assert!(both.api_server.contains(&"192.0.2.7:6443".parse().unwrap()), "{both:?}");
    let texts = |all: &[ipnet::IpNet]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&both.pods), ["10.244.0.0/23", "fd00:244::/64", "fd00:244:1::/64"]);
    assert_eq!(both.nodes, ["192.168.1.7", "192.168.1.9"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap()));

    let nodes: Api<Node> = Api::all(world.plane.client());
    nodes.delete("two", &DeleteParams::default()).await.unwrap();
    until(&world, |ranges| texts(&ranges.pods) == ["10.244.0.0/24", "fd00:244::/64"]).await;
    // Somebody's edit does not stay, nor does the object's end.
    world.delete::<ConfigMap>(SYSTEM, names::CLUSTER_RANGES_CONFIGMAP).await;
    node(&world, "three", "3", "192.168.1.11").await;
    until(&world, |ranges| ranges.nodes.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_never_answered_keeps_no_new_node_out_of_them() {
    let world = World::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let client = between::client(world.controllers_client(), move |_, path| {
        let first = path.ends_with("/servicecidrs") && asked.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            None
        }
    });
    let _running = world.controller_by(client, settings("one"), Arc::new(FakeProber::healthy()));
    node(&world, "one", "0", "192.168.1.7").await;
    until(&world, |ranges| ranges.nodes.len() == 1).await;
}
