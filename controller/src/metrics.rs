//! Counters and gauges for `/metrics`. Labels are bounded: kinds, results and error words, never names of
//! objects.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use connectors_api::watch_health::WatchHealth;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::error::Error;

/// From here on credentials of connectors that are gone are looked for: others' cost no more than they take.
const MANY: usize = 1024;

pub struct Metrics {
    registry: Registry,
    /// By kind (`connector`, `class`, `namespace`, `ca`, `ranges`, `classes`) and result (`ok` or `Error::kind`).
    pub reconciles: IntCounterVec,
    pub probe_seconds: Histogram,
    pub leader: IntGauge,
    pub status_patches: IntCounterVec,
    pub events_left_out: IntCounter,
    /// End of validity as Unix seconds, by certificate (`root`, `issuing`).
    pub ca_not_after: IntGaugeVec,
    /// By kind of what is watched.
    pub watch_errors: IntCounterVec,
    pub unreadable_objects: IntCounterVec,
    /// Their Pods may be reached by address, unless an operator lists the network's ranges.
    pub nodes_without_pod_range: IntGauge,
    pub watches: WatchHealth,
    reached: AtomicBool,
    listed: AtomicBool,
    credential_not_after: IntGauge,
    log_lines_lost: IntCounter,
    /// What the log itself has counted.
    lost_lines: Box<dyn Fn() -> usize + Send + Sync>,
    /// By connector: when its credential ends, and until when we go by that.
    ends: Mutex<HashMap<String, (i64, Instant)>>,
}

impl Metrics {
    pub fn new(lost_lines: impl Fn() -> usize + Send + Sync + 'static) -> Result<Metrics, Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("connectors_controller_{name}"), help);
        let metrics = Metrics {
            registry: Registry::new(),
            reconciles: IntCounterVec::new(
                opts("reconciles_total", "Finished reconciles by kind and result"),
                &["kind", "result"],
            )?,
            probe_seconds: Histogram::with_opts(HistogramOpts {
                common_opts: opts("probe_seconds", "Time that the gateway took to probe a target"),
                buckets: vec![0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0],
            })?,
            leader: IntGauge::with_opts(opts("leader", "1 while this replica holds the Lease"))?,
            status_patches: IntCounterVec::new(
                opts("status_patches_total", "Patches of a status by kind"),
                &["kind"],
            )?,
            events_left_out: IntCounter::with_opts(opts(
                "events_left_out_total",
                "Events that were not sent, because their namespace had too many",
            ))?,
            ca_not_after: IntGaugeVec::new(
                opts("ca_not_after_seconds", "End of validity of the connector CA"),
                &["certificate"],
            )?,
            watch_errors: IntCounterVec::new(
                opts("watch_errors_total", "Lists and watches that failed, by kind"),
                &["kind"],
            )?,
            credential_not_after: IntGauge::with_opts(opts(
                "credential_not_after_seconds",
                "End of the credential that ends next, Unix time; 0 while none says when it ends",
            ))?,
            log_lines_lost: IntCounter::with_opts(opts(
                "log_lines_lost_total",
                "Lines of the log that found no room, because nobody read it",
            ))?,
            lost_lines: Box::new(lost_lines),
            ends: Mutex::default(),
            unreadable_objects: IntCounterVec::new(
                opts("unreadable_objects_total", "Objects received that could not be read, by kind"),
                &["kind"],
            )?,
            nodes_without_pod_range: IntGauge::with_opts(opts(
                "nodes_without_pod_range",
                "Nodes whose spec has no podCIDR: their Pods' addresses are not known to be the cluster's",
            ))?,
            watches: WatchHealth::default(),
            reached: AtomicBool::new(false),
            listed: AtomicBool::new(false),
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> Result<(), Error> {
        let build = Opts::new("connectors_controller_build_info", "1, with what this process was built from");
        let build = IntGaugeVec::new(build, &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        self.registry.register(Box::new(build))?;
        self.registry.register(Box::new(self.reconciles.clone()))?;
        self.registry.register(Box::new(self.probe_seconds.clone()))?;
        self.registry.register(Box::new(self.leader.clone()))?;
        self.registry.register(Box::new(self.status_patches.clone()))?;
        self.registry.register(Box::new(self.events_left_out.clone()))?;
        self.registry.register(Box::new(self.ca_not_after.clone()))?;
        self.registry.register(Box::new(self.watch_errors.clone()))?;
        self.registry.register(Box::new(self.credential_not_after.clone()))?;
        self.registry.register(Box::new(self.log_lines_lost.clone()))?;
        self.registry.register(Box::new(self.unreadable_objects.clone()))?;
        self.registry.register(Box::new(self.nodes_without_pod_range.clone()))?;
        self.registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(())
    }

    pub fn reconciled(&self, kind: &str, result: Result<(), &Error>) {
        let result = result.err().map_or("ok", Error::kind);
        self.reconciles.with_label_values(&[kind, result]).inc();
    }

    pub fn watch_failed(&self, kind: &str, error: String) {
        self.watch_errors.with_label_values(&[kind]).inc();
        self.watches.failed(kind, error);
    }

    pub fn probed(&self, took: Duration) {
        self.probe_seconds.observe(took.as_secs_f64());
    }

    /// The API server answered about the Lease: from now on a replica that does not lead is ready.
    pub fn reached_api_server(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// All that the leader watches has arrived once: it works.
    pub fn all_listed(&self) {
        self.listed.store(true, Ordering::Relaxed);
    }

    /// What this replica is not ready without.
    pub fn waits_for(&self) -> Option<String> {
        if !self.reached.load(Ordering::Relaxed) {
            return Some("the API server has not answered yet".to_owned());
        }
        let lists = self.leader.get() == 1 && !self.listed.load(Ordering::Relaxed);
        let trouble = || self.watches.trouble().map_or_else(String::new, |trouble| format!(": {trouble}"));
        lists.then(|| format!("waiting for the first lists of what is watched{}", trouble()))
    }

    /// What a probe has found; forgotten after a time, with the connector.
    pub fn credential_ends(&self, connector: &str, end: Option<i64>, life: Duration) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Whoever creates and deletes under ever new names must leave nothing behind, also where nobody scrapes.
        if ends.len() >= MANY && ends.len() == ends.capacity() {
            ends.retain(|_, (_, until)| *until > now);
        }
        match end {
            Some(end) => ends.insert(connector.to_owned(), (end, now + life)),
            None => ends.remove(connector),
        };
    }

    pub fn text(&self) -> Result<Vec<u8>, Error> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.retain(|_, (_, until)| *until > Instant::now());
        self.credential_not_after.set(ends.values().map(|(end, _)| *end).min().unwrap_or(0));
        // While the lock is held: of two readers one counts.
        let lost = (self.lost_lines)() as u64;
        self.log_lines_lost.inc_by(lost.saturating_sub(self.log_lines_lost.get()));
        drop(ends);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_connectors_that_are_gone_are_forgotten_also_where_nobody_scrapes() {
        let metrics = Metrics::new(|| 0).unwrap();
        for number in 0..20 * MANY {
            metrics.credential_ends(&number.to_string(), Some(1), Duration::ZERO);
        }
        let known = metrics.ends.lock().unwrap().len();
        assert!(known <= 4 * MANY, "{known}");
    }
}
