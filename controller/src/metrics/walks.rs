//! What walks come to, and what they write.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Registry};

use super::{counter, counters, opts, register};

pub struct Walks {
    /// By kind (`connector`, `class`, `namespace`, `ca`, `ranges`, `classes`) and result (`ok` or `Error::kind`).
    pub(super) reconciles: IntCounterVec,
    pub probe_seconds: Histogram,
    pub status_patches: IntCounterVec,
    pub events_left_out: IntCounter,
}

impl Walks {
    pub(super) fn new(to: &Registry) -> Result<Walks, prometheus::Error> {
        let finished = "Finished reconciles by kind and result";
        let probed = HistogramOpts {
            common_opts: opts("probe_seconds", "Time that the gateway took to probe a target"),
            buckets: vec![0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0],
        };
        let left_out = "Events that were not sent, because their namespace had too many";
        Ok(Walks {
            reconciles: counters(to, "reconciles_total", finished, &["kind", "result"])?,
            probe_seconds: register(to, Histogram::with_opts(probed)?)?,
            status_patches: counters(to, "status_patches_total", "Patches of a status by kind", &["kind"])?,
            events_left_out: counter(to, "events_left_out_total", left_out)?,
        })
    }
}
