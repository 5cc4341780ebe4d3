//! What the gateway asks and hears of the home cluster.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{Outcomes, gauge, gauges, outcomes, register, vector};

/// Questions to the home API server, and what is known by its answers.
pub struct Home {
    pub token_reviews: Outcomes,
    pub signing_key_reads: Outcomes,
    pub access_reviews: Outcomes,
    pub secret_reads: Outcomes,
    /// By question.
    pub seconds: HistogramVec,
    /// By kind: `services`, `pods`, `nodes`.
    pub cluster_ranges: IntGaugeVec,
    pub issuer_not_after: IntGauge,
}

impl Home {
    pub(super) fn new(to: &Registry) -> Result<Home, prometheus::Error> {
        let help = "Questions to the home API server, by result.";
        let seconds = HistogramOpts::new(
            "connectors_gateway_api_server_seconds",
            "Time that the home API server took to answer, by question.",
        )
        .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0]);
        let ranges = "Networks known to be the home cluster's, by kind.";
        let issuer = "End of the issuing CA, or 0; Unix time.";
        Ok(Home {
            token_reviews: outcomes(to, "token_reviews_total", help)?,
            signing_key_reads: outcomes(to, "signing_key_reads_total", help)?,
            access_reviews: outcomes(to, "access_reviews_total", help)?,
            secret_reads: outcomes(to, "secret_reads_total", "Secrets read, by result.")?,
            seconds: register(to, HistogramVec::new(seconds, &["question"])?)?,
            cluster_ranges: gauges(to, "cluster_ranges", ranges, "kind")?,
            issuer_not_after: gauge(to, "issuer_not_after_seconds", issuer)?,
        })
    }
}

/// Lists and watches of the home cluster, by kind of what is watched.
pub struct Watches {
    pub errors: IntCounterVec,
    /// When something was last heard, Unix time.
    pub last_event: IntGaugeVec,
}

impl Watches {
    pub(super) fn new(to: &Registry) -> Result<Watches, prometheus::Error> {
        let heard = "When something was last heard of what is watched, by kind, Unix time.";
        Ok(Watches {
            errors: vector(to, "watch_errors_total", "Lists and watches that failed, by kind.", "kind")?,
            last_event: gauges(to, "watch_last_event_seconds", heard, "kind")?,
        })
    }
}
