//! Which watches of a process fail, for its readiness. A watch that works and has nothing to report says
//! nothing, so an error is taken for over after a while: one that keeps failing is heard of again before
//! that.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longer than the longest pause between two attempts of a watch (30 s and its jitter, as kube's default
/// back-off has it).
const REMEMBERED: Duration = Duration::from_secs(90);

#[derive(Debug, Default)]
pub struct WatchHealth(Mutex<BTreeMap<String, (Instant, String)>>);

impl WatchHealth {
    /// `kind` as Kubernetes spells it, e.g. `Connector`.
    pub fn failed(&self, kind: &str, error: String) {
        self.errors().insert(kind.to_owned(), (Instant::now(), error));
    }

    pub fn works(&self, kind: &str) {
        self.errors().remove(kind);
    }

    /// One sentence for each watch that fails, or none.
    pub fn trouble(&self) -> Option<String> {
        let errors = self.errors();
        let fresh = errors.iter().filter(|(_, (since, _))| since.elapsed() < REMEMBERED);
        let sentences: Vec<String> = fresh
            .map(|(kind, (since, error))| format!("{kind}: {error} ({} s ago)", since.elapsed().as_secs()))
            .collect();
        (!sentences.is_empty()).then(|| sentences.join("; "))
    }

    fn errors(&self) -> MutexGuard<'_, BTreeMap<String, (Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_in_trouble_from_its_error_to_its_next_event() {
        let health = WatchHealth::default();
        assert_eq!(health.trouble(), None);
        health.failed("Connector", "forbidden".into());
        health.failed("ConnectorClass", "gone".into());
        let trouble = health.trouble().unwrap();
        assert!(trouble.starts_with("Connector: forbidden (0 s ago); ConnectorClass: gone"), "{trouble}");
        health.works("Connector");
        health.works("ConnectorClass");
        assert_eq!(health.trouble(), None);
    }
}
