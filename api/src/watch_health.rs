//! Which watches of a process fail, for its readiness. A watch that works and has nothing to report says
//! nothing, so an error is taken for over after a while: one that keeps failing is heard of again before
//! that.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::Resource;
use kube::runtime::watcher;

use crate::names;

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

/// An error of a list or watch in words for an operator. Where the CRDs are missing the API server says no more
/// than "404 page not found".
pub fn explain<K: Resource<DynamicType = ()>>(error: &watcher::Error) -> String {
    let (watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause)) = error else {
        return error.to_string();
    };
    match cause {
        kube::Error::Api(status) if status.code == 404 && K::group(&()) == names::GROUP => {
            let kind = K::kind(&());
            format!(
                "the API server does not know the kind {kind} of {}: install the CRDs (config/crd)",
                names::GROUP
            )
        }
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::core::Status;

    use super::*;
    use crate::Connector;

    #[test]
    fn missing_crds_are_told_by_what_to_do_and_a_refusal_in_the_words_of_the_api_server() {
        let failed = |code, message: &str| {
            let status = Status::failure(message, "").with_code(code);
            watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
        };
        let missing = "the API server does not know the kind Connector of connectors.alauda.io: install the CRDs (config/crd)";
        assert_eq!(explain::<Connector>(&failed(404, "404 page not found")), missing);
        assert_eq!(explain::<Secret>(&failed(404, "404 page not found")), "404 page not found");
        assert_eq!(explain::<Connector>(&failed(403, "connectors is forbidden")), "connectors is forbidden");
        assert!(explain::<Connector>(&failed(500, "")).contains("initial object list"));
    }

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
