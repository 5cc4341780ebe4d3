//! Counters and gauges for `/metrics`. Labels are bounded: kinds, results and error words, never names of
//! objects.

pub mod credentials;
pub mod walks;
pub mod watched;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::error::Error;
use credentials::Credentials;
use walks::Walks;
use watched::Watched;

pub struct Metrics {
    registry: Registry,
    pub walks: Walks,
    pub watched: Watched,
    credentials: Credentials,
    pub leader: IntGauge,
    /// End of validity as Unix seconds, by certificate (`root`, `issuing`).
    pub ca_not_after: IntGaugeVec,
    log: Log,
    reached: AtomicBool,
    listed: AtomicBool,
}

/// Lines that found no room.
struct Log {
    lost: IntCounter,
    /// What the log itself has counted.
    counted: Mutex<Box<dyn Fn() -> usize + Send>>,
}

impl Log {
    fn look(&self) {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        // While the lock is held: of two readers one counts.
        self.lost.inc_by((counted() as u64).saturating_sub(self.lost.get()));
    }
}

impl Metrics {
    pub fn new(lost_lines: impl Fn() -> usize + Send + Sync + 'static) -> Result<Metrics, Error> {
        let registry = Registry::new();
        let to = &registry;
        let build = gauges(to, "build_info", "1, with what this process was built from", "version")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        to.register(Box::new(ProcessCollector::for_self()))?;
        let ca = "End of validity of the connector CA";
        let lost = "Lines of the log that found no room, because nobody read it";
        Ok(Metrics {
            walks: Walks::new(to)?,
            watched: Watched::new(to)?,
            credentials: Credentials::new(to)?,
            leader: gauge(to, "leader", "1 while this replica holds the Lease")?,
            ca_not_after: gauges(to, "ca_not_after_seconds", ca, "certificate")?,
            log: Log {
                lost: counter(to, "log_lines_lost_total", lost)?,
                counted: Mutex::new(Box::new(lost_lines)),
            },
            reached: AtomicBool::new(false),
            listed: AtomicBool::new(false),
            registry,
        })
    }

    pub fn reconciled(&self, kind: &str, result: Result<(), &Error>) {
        let result = result.err().map_or("ok", Error::kind);
        self.walks.reconciles.with_label_values(&[kind, result]).inc();
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
        let trouble =
            || self.watched.health.trouble().map_or_else(String::new, |trouble| format!(": {trouble}"));
        lists.then(|| format!("waiting for the first lists of what is watched{}", trouble()))
    }

    /// What a probe has found; forgotten after a time, with the connector.
    pub fn credential_ends(&self, connector: &str, end: Option<i64>, life: Duration) {
        self.credentials.end(connector, end, life);
    }

    pub fn text(&self) -> Result<Vec<u8>, Error> {
        self.credentials.look();
        self.log.look();
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("connectors_controller")
}

fn register<C: Collector + Clone + 'static>(to: &Registry, collector: C) -> Result<C, prometheus::Error> {
    to.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counter(to: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    register(to, IntCounter::with_opts(opts(name, help))?)
}

fn counters(
    to: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    register(to, IntCounterVec::new(opts(name, help), labels)?)
}

fn gauge(to: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(to, IntGauge::with_opts(opts(name, help))?)
}

fn gauges(to: &Registry, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, prometheus::Error> {
    register(to, IntGaugeVec::new(opts(name, help), &[label])?)
}
