//! What is heard of what is watched.

use connectors_api::watch_health::WatchHealth;
use prometheus::{IntCounterVec, IntGauge, Registry};

use super::{counters, gauge};

pub struct Watched {
    /// By kind of what is watched.
    errors: IntCounterVec,
    pub unreadable_objects: IntCounterVec,
    /// Their Pods may be reached by address, unless an operator lists the network's ranges.
    pub nodes_without_pod_range: IntGauge,
    pub health: WatchHealth,
}

impl Watched {
    pub(super) fn new(to: &Registry) -> Result<Watched, prometheus::Error> {
        let failed = "Lists and watches that failed, by kind";
        let unreadable = "Objects received that could not be read, by kind";
        let nodes =
            "Nodes whose spec has no podCIDR: their Pods' addresses are not known to be the cluster's";
        Ok(Watched {
            errors: counters(to, "watch_errors_total", failed, &["kind"])?,
            unreadable_objects: counters(to, "unreadable_objects_total", unreadable, &["kind"])?,
            nodes_without_pod_range: gauge(to, "nodes_without_pod_range", nodes)?,
            health: WatchHealth::default(),
        })
    }

    pub fn failed(&self, kind: &str, error: String) {
        self.errors.with_label_values(&[kind]).inc();
        self.health.failed(kind, error);
    }
}
