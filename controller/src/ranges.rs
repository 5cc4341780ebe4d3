//! Which addresses are the cluster's own, in ConfigMap `connectors-cluster-ranges`: the gateway lets no connector
//! reach into them. Beside the walks of Connectors, under the same Lease; it needs `watch`'s cache of nodes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use connectors_api::cluster_ranges::ClusterRanges;
use connectors_api::names;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::Notify;

use crate::context::Context;
use crate::error::{Error, in_time};
use crate::keep;
use crate::reconcile::role::labelled;

/// Service ranges and the API server's addresses change a few times in a cluster's life and are asked for so
/// often; nodes are watched.
const PERIOD: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(5);
/// Nodes come in numbers.
const SETTLE: Duration = Duration::from_millis(500);
/// Namespace and name of the API server's own Service and EndpointSlice.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// For ever: at every change of a node, and periodically.
pub async fn keep(context: Arc<Context>, changed: Arc<Notify>) {
    if context.stores.nodes.wait_until_ready().await.is_err() {
        return;
    }
    loop {
        let done = write(&context).await;
        context.metrics.reconciled("ranges", done.as_ref().map(drop));
        if let Err(error) = &done {
            tracing::error!("ranges of the cluster: {error}");
        }
        let pause = tokio::time::sleep(if done.is_ok() { PERIOD } else { RETRY });
        tokio::select! {
            () = pause => {}
            () = changed.notified() => tokio::time::sleep(SETTLE).await,
        }
    }
}

async fn write(context: &Context) -> Result<(), Error> {
    let (client, namespace) = (&context.client, &context.settings.namespace);
    let nodes = context.stores.nodes.state();
    let ranges = ClusterRanges {
        services: service_ranges(client).await?,
        pods: IpNet::aggregate(&nodes.iter().flat_map(|node| pod_ranges(node)).collect()),
        nodes: ordered(nodes.iter().flat_map(|node| addresses(node))),
        api_server: api_server(client).await?,
    };
    let without = nodes.iter().filter(|node| pod_ranges(node).is_empty()).count();
    context.metrics.watched.nodes_without_pod_range.set(i64::try_from(without).unwrap_or(i64::MAX));
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let name = names::CLUSTER_RANGES_CONFIGMAP;
    let live = in_time(api.get_opt(name)).await.attempt(|| format!("read ConfigMap {name}"))?;
    let desired = ConfigMap {
        metadata: labelled(name, namespace),
        data: Some(ranges.to_data()),
        ..ConfigMap::default()
    };
    // The namespace is ours: whatever has this name is.
    keep::keep(&api, live.map(Arc::new), &desired, |_| true).await.map(drop)
}

/// None where the cluster is too old to say (before 1.33): an operator lists them then.
async fn service_ranges(client: &Client) -> Result<Vec<IpNet>, Error> {
    let api: Api<ServiceCIDR> = Api::all(client.clone());
    let listed = in_time(api.list(&ListParams::default())).await;
    let listed = match listed.attempt(|| "list ServiceCIDRs".to_owned()) {
        Err(error) if error.is_not_found() => {
            tracing::warn!(
                "this cluster has no ServiceCIDRs: list the range of its Services in targets.cluster"
            );
            return Ok(Vec::new());
        }
        other => other?,
    };
    let written = listed.items.iter().filter_map(|range| range.spec.as_ref()?.cidrs.as_ref()).flatten();
    Ok(ordered(written.filter_map(|range| range.parse().ok())))
}

/// The Service's addresses and the endpoints behind it.
async fn api_server(client: &Client) -> Result<Vec<SocketAddr>, Error> {
    let (namespace, name) = API_SERVER;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let service = in_time(services.get_opt(name)).await.attempt(|| format!("read Service {name}"))?;
    let slice = in_time(slices.get_opt(name)).await.attempt(|| format!("read EndpointSlice {name}"))?;
    let served = service.iter().flat_map(service_addresses);
    Ok(ordered(served.chain(slice.iter().flat_map(endpoints))))
}

fn service_addresses(service: &Service) -> Vec<SocketAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ports = spec.ports.iter().flatten().filter_map(|port| u16::try_from(port.port).ok());
    pairs(spec.cluster_ips.iter().flatten(), ports)
}

fn endpoints(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
    pairs(slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses), ports)
}

fn pairs<'a>(
    addresses: impl Iterator<Item = &'a String>,
    ports: impl Iterator<Item = u16> + Clone,
) -> Vec<SocketAddr> {
    let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
    addresses.flat_map(|ip| ports.clone().map(move |port| SocketAddr::new(ip, port))).collect()
}

fn pod_ranges(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let written = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    written.filter_map(|range| range.parse().ok()).collect()
}

fn addresses(node: &Node) -> Vec<IpAddr> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    all.filter_map(|address| address.address.parse().ok()).collect()
}

fn ordered<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.collect::<BTreeSet<T>>().into_iter().collect()
}
