//! What `/metrics` shows. Every label is bounded and its handle resolved here once, so that a request only
//! increments atomics.

pub mod caches;
pub mod codes;
pub mod connectors;
pub mod home;
pub mod requests;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use caches::Caches;
use connectors::Connectors;
use home::{Home, Watches};
use requests::Requests;

/// Why a client was refused before or inside a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Unauthenticated,
    Forbidden,
    Target,
    Malformed,
    Timeout,
    TooLarge,
    Unusable,
    Unavailable,
    Limit,
    Handshake,
}

impl Refusal {
    const ALL: [(Refusal, &'static str); 10] = [
        (Refusal::Unauthenticated, "unauthenticated"),
        (Refusal::Forbidden, "forbidden"),
        (Refusal::Target, "target"),
        (Refusal::Malformed, "malformed"),
        (Refusal::Timeout, "timeout"),
        (Refusal::TooLarge, "too_large"),
        (Refusal::Unusable, "unusable"),
        (Refusal::Unavailable, "unavailable"),
        (Refusal::Limit, "limit"),
        (Refusal::Handshake, "handshake"),
    ];

    /// By its number.
    fn counters(to: &Registry) -> Result<Vec<IntCounter>, prometheus::Error> {
        let help = "Clients refused by the gateway itself, by reason.";
        let refusals = vector(to, "refusals_total", help, "reason")?;
        Ok(Refusal::ALL.iter().map(|(_, label)| refusals.with_label_values(&[label])).collect())
    }
}

/// How a question to the home API server, or a connection to a target, ended.
#[derive(Clone)]
pub struct Outcomes {
    pub ok: IntCounter,
    /// A definite no, or an object that is not there.
    pub refused: IntCounter,
    /// No answer.
    pub failed: IntCounter,
}

/// Targets inside of the home cluster.
pub struct InCluster {
    pub denied: IntCounter,
    /// Would be denied if `targets.in_cluster` were `deny`.
    pub observed: IntCounter,
}

impl InCluster {
    fn new(registry: &Registry) -> Result<InCluster, prometheus::Error> {
        let help = "Connections to targets inside of the home cluster that were denied, or only observed.";
        let results = vector(registry, "in_cluster_targets_total", help, "result")?;
        let [denied, observed] = ["denied", "observed"].map(|result| results.with_label_values(&[result]));
        Ok(InCluster { denied, observed })
    }
}

/// The routing table.
pub struct Routes {
    pub usable: IntGauge,
    /// By the reason that the connector's status gives.
    pub unusable: IntGaugeVec,
    pub plaintext: IntGauge,
    pub builds: IntCounter,
}

impl Routes {
    fn new(to: &Registry) -> Result<Routes, prometheus::Error> {
        let unusable = "Connectors without a usable route, by the reason in their status.";
        let plaintext =
            "Usable connectors with an address that is http: their credentials can be read on the way.";
        Ok(Routes {
            usable: gauge(to, "routes_usable", "Connectors with a usable route.")?,
            unusable: gauges(to, "routes_unusable", unusable, "reason")?,
            plaintext: gauge(to, "routes_plaintext", plaintext)?,
            builds: counter(to, "table_builds_total", "Routing tables built.")?,
        })
    }
}

/// Bytes that are held for others.
pub struct Held {
    pub streams: IntGauge,
    pub requests: IntGauge,
}

impl Held {
    fn new(to: &Registry) -> Result<Held, prometheus::Error> {
        let streams = "Bytes of what waits: bodies for readers that stopped, large heads.";
        let requests = "Bytes of requests that wait for their answers, and of connections to targets.";
        Ok(Held {
            streams: gauge(to, "stream_bytes_held", streams)?,
            requests: gauge(to, "request_bytes_held", requests)?,
        })
    }
}

/// By worker.
struct Workers {
    connections: IntGaugeVec,
    last_turn: IntGaugeVec,
}

impl Workers {
    fn new(to: &Registry) -> Result<Workers, prometheus::Error> {
        let connections = "Client connections that each worker has.";
        let turn = "When each worker was last seen at work, Unix time; one that is stuck stays behind.";
        Ok(Workers {
            connections: gauges(to, "worker_connections", connections, "worker")?,
            last_turn: gauges(to, "worker_last_turn_seconds", turn, "worker")?,
        })
    }
}

pub struct Metrics {
    registry: Registry,
    pub connections_open: IntGauge,
    pub connections: IntCounter,
    workers: Workers,
    pub tunnels_open: IntGauge,
    pub tunnels: IntCounter,
    pub requests: Requests,
    pub connectors: Connectors,
    pub caches: Caches,
    refusals: Vec<IntCounter>,
    pub leaves_minted: IntCounter,
    pub upstream_connects: Outcomes,
    pub in_cluster: InCluster,
    pub home: Home,
    pub routes: Routes,
    pub watches: Watches,
    /// 1 while the file in force is the one on disk, 0 while a broken one is ignored.
    pub settings_valid: IntGauge,
    pub log_lines_lost: IntCounter,
    pub held: Held,
}

impl Metrics {
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let to = &registry;
        let build = gauges(to, "build_info", "1, with what this process was built from.", "version")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        to.register(Box::new(ProcessCollector::for_self()))?;
        let connects = "Connections made to targets, by result.";
        let valid = "1 while the settings on disk are in force, else 0.";
        Ok(Metrics {
            connections_open: gauge(to, "connections_open", "Client connections that are open.")?,
            connections: counter(to, "connections_total", "Client connections accepted.")?,
            workers: Workers::new(to)?,
            tunnels_open: gauge(to, "tunnels_open", "CONNECT tunnels that are open.")?,
            tunnels: counter(to, "tunnels_total", "CONNECT tunnels granted.")?,
            requests: Requests::new(to)?,
            connectors: Connectors::new(to)?,
            caches: Caches::new(to)?,
            refusals: Refusal::counters(to)?,
            leaves_minted: counter(to, "leaves_minted_total", "Certificates minted for hosts of targets.")?,
            upstream_connects: outcomes(to, "upstream_connects_total", connects)?,
            in_cluster: InCluster::new(to)?,
            home: Home::new(to)?,
            routes: Routes::new(to)?,
            watches: Watches::new(to)?,
            settings_valid: gauge(to, "settings_valid", valid)?,
            held: Held::new(to)?,
            log_lines_lost: counter(to, "log_lines_lost_total", "Lines of the log that found no room.")?,
            registry,
        })
    }

    pub fn worker_connections(&self, worker: usize) -> IntGauge {
        self.workers.connections.with_label_values(&[&worker.to_string()])
    }

    pub fn worker_last_turn(&self, worker: usize) -> IntGauge {
        self.workers.last_turn.with_label_values(&[&worker.to_string()])
    }

    pub fn count_refusal(&self, refusal: Refusal) {
        if let Some(counter) = self.refusals.get(refusal as usize) {
            counter.inc();
        }
    }

    /// The text exposition.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("connectors_gateway")
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    register(registry, IntCounter::with_opts(opts(name, help))?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(registry, IntGauge::with_opts(opts(name, help))?)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> Result<IntGaugeVec, prometheus::Error> {
    register(registry, IntGaugeVec::new(opts(name, help), &[label])?)
}

fn vector(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> Result<IntCounterVec, prometheus::Error> {
    register(registry, IntCounterVec::new(opts(name, help), &[label])?)
}

fn outcomes(registry: &Registry, name: &str, help: &str) -> Result<Outcomes, prometheus::Error> {
    let results = vector(registry, name, help, "result")?;
    let [ok, refused, failed] =
        ["ok", "refused", "failed"].map(|result| results.with_label_values(&[result]));
    Ok(Outcomes { ok, refused, failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_counts_under_its_own_label() {
        for (refusal, label) in Refusal::ALL {
            let metrics = Metrics::new().unwrap();
            metrics.count_refusal(refusal);
            let text = String::from_utf8(metrics.render().unwrap()).unwrap();
            assert!(
                text.contains(&format!("connectors_gateway_refusals_total{{reason=\"{label}\"}} 1")),
                "{label}: {text}"
            );
        }
    }
}
