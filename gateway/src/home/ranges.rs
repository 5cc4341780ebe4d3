//! Follows ConfigMap `connectors-cluster-ranges`, in which the controller says which addresses are the home
//! cluster's. What cannot be read, or is deleted, leaves the last word in force.

use std::sync::Arc;

use connectors_api::cluster_ranges::ClusterRanges;
use connectors_api::names::CLUSTER_RANGES_CONFIGMAP;
use futures::StreamExt;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};

use crate::metrics::Metrics;
use crate::upstream::policy::{self, Cluster, Surroundings};

/// Runs for ever.
pub async fn follow(client: Client, namespace: &str, surroundings: Surroundings, metrics: Arc<Metrics>) {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let by_name = watcher::Config::default().fields(&format!("metadata.name={CLUSTER_RANGES_CONFIGMAP}"));
    let mut events = std::pin::pin!(watch(api, by_name).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => learn(&object, &surroundings, &metrics),
            Ok(Event::Delete(_) | Event::Init | Event::InitDone) => {}
            Err(error) => {
                tracing::warn!(%error, configmap = CLUSTER_RANGES_CONFIGMAP, "the watch of the cluster's ranges broke and is made again")
            }
        }
    }
}

fn learn(object: &ConfigMap, surroundings: &Surroundings, metrics: &Metrics) {
    match ClusterRanges::from_data(object.data.as_ref().unwrap_or(&Default::default())) {
        Ok(ranges) => {
            let ClusterRanges { services, pods, nodes, .. } = &ranges;
            for (kind, count) in [("services", services.len()), ("pods", pods.len()), ("nodes", nodes.len())]
            {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                metrics.home.cluster_ranges.with_label_values(&[kind]).set(count);
            }
            if pods.is_empty() {
                tracing::warn!(
                    "no node says its Pods' range, so connectors may reach Pods by address: list the network's ranges in targets.cluster"
                );
            }
            let cluster = Some(Arc::new(cluster(ranges)));
            policy::learn(surroundings, |known| known.cluster.clone_from(&cluster));
            tracing::info!("the cluster's ranges are known");
        }
        Err(error) => {
            tracing::error!(%error, configmap = CLUSTER_RANGES_CONFIGMAP, "the cluster's ranges cannot be read, the last ones stay")
        }
    }
}

fn cluster(ranges: ClusterRanges) -> Cluster {
    let ClusterRanges { services, pods, nodes, api_server } = ranges;
    let nodes = nodes.into_iter().map(IpNet::from);
    Cluster { ranges: services.into_iter().chain(pods).chain(nodes).collect(), api_server }
}
