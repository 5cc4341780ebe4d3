//! The end of the process: SIGTERM turns readiness off and tells pingora to take no more and to let go of
//! what is idle; the process ends as soon as no stream is left, at the latest after `timeouts.drain`. SIGINT
//! ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use connectors_gateway::gateway::Gateway;
use connectors_gateway::log::lines::Lines;
use connectors_gateway::metrics::Metrics;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// Longer than any drain: pingora sleeps its whole grace period, so it must not be the one that ends the
/// process early.
pub const FOR_EVER: Duration = Duration::from_secs(30 * 86_400);
const LOOK: Duration = Duration::from_millis(50);
/// Without streams for this long: a request that had just arrived has become a stream by then.
const QUIET: Duration = Duration::from_millis(500);
/// For the records of streams that outlast the budget.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub struct Signals {
    pub control: Handle,
    pub draining: Arc<AtomicBool>,
    pub gateway: Arc<Gateway>,
    pub lines: Lines,
}

impl Signals {
    fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        let (gateway, lines) = (self.gateway.clone(), self.lines.clone());
        let budget = gateway.parts.settings.load().timeouts.drain;
        tracing::info!(streams = gateway.parts.metrics.requests.open(), ?budget, "draining");
        self.control.spawn(async move {
            let metrics = &gateway.parts.metrics;
            let left = emptied(metrics, budget).await;
            if left > 0 {
                gateway.connections.end();
                emptied(metrics, LAST_WORDS).await;
            }
            tracing::info!(streams = left, "drained");
            lines.end();
            std::process::exit(0);
        });
    }
}

/// The streams that are still open when the budget is used up; 0 earlier, once nothing has been open for a
/// moment, or no connection is left either. Streams of HTTP/2 end after their connection.
async fn emptied(metrics: &Metrics, budget: Duration) -> u64 {
    let end = Instant::now() + budget;
    let mut quiet = Instant::now();
    loop {
        let open = metrics.requests.open();
        let now = Instant::now();
        if open > 0 {
            quiet = now;
        }
        let over = open == 0 && metrics.connections_open.get() == 0;
        if over || now.duration_since(quiet) >= QUIET || now >= end {
            return open;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::error!("signals cannot be watched: the process ends only by SIGKILL");
            return std::future::pending().await;
        };
        // A signal before this point ends the process without a word to us.
        let parts = &self.gateway.parts;
        let on_full = parts.settings.load().records.on_full;
        if let Err(error) = self.lines.gather(on_full, parts.metrics.log_lines_lost.clone()) {
            tracing::warn!(%error, "each line of the log is written by itself");
        }
        tokio::select! {
            _ = terminate.recv() => {
                self.drain();
                ShutdownSignal::GracefulTerminate
            }
            _ = interrupt.recv() => ShutdownSignal::FastShutdown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn metrics(connections: i64) -> Arc<Metrics> {
        let metrics = Arc::new(Metrics::new().unwrap());
        metrics.connections_open.set(connections);
        metrics
    }

    #[tokio::test]
    async fn streams_whose_connection_has_ended_have_time_to_write_their_records() {
        let metrics = metrics(0);
        metrics.requests.begin();
        let waits = tokio::spawn({
            let metrics = metrics.clone();
            async move { emptied(&metrics, LONG).await }
        });
        tokio::time::sleep(4 * LOOK).await;
        assert!(!waits.is_finished(), "the process ends before its last record");
        metrics.requests.end(0, 0);
        assert_eq!(waits.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn with_nothing_open_the_end_is_there_at_once_and_with_idle_connections_after_a_moment() {
        let (none, idle) = (metrics(0), metrics(1));
        let begun = Instant::now();
        assert_eq!(emptied(&none, LONG).await, 0);
        assert!(begun.elapsed() < QUIET);
        assert_eq!(emptied(&idle, LONG).await, 0);
        assert!(begun.elapsed() >= QUIET && begun.elapsed() < LONG / 2);
    }

    #[tokio::test]
    async fn what_outlasts_the_budget_is_told() {
        let metrics = metrics(1);
        metrics.requests.begin();
        assert_eq!(emptied(&metrics, LOOK).await, 1);
    }
}
