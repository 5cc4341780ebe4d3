//! The ports beside the data plane, on the control runtime; clients of connectors never get there
//! (NetworkPolicy). `health` for kubelet, `admin` for metrics (and health, for people), over plain HTTP; `probe` for
//! the controller alone, over TLS. Each has places of its own, so that none can take those of kubelet.

pub mod probe;
pub mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use connectors_api::watch_health::WatchHealth;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::error::status;
use crate::metrics::Metrics;
use crate::tls::issuer;
use crate::upstream::policy::Surroundings;

/// Clients refuse certificates of an issuer that has ended: nobody is sent here shortly before that.
const LAST_HOUR: Duration = Duration::from_secs(3600);

/// What `/readyz` answers from.
#[derive(Clone, Default)]
pub struct Readiness {
    pub synced: Arc<AtomicBool>,
    pub watches: Arc<WatchHealth>,
    pub draining: Arc<AtomicBool>,
    pub issuer: issuer::Current,
    pub surroundings: Surroundings,
    /// Why the settings on disk are not in force.
    pub settings_error: Arc<ArcSwapOption<String>>,
}

impl Readiness {
    /// Whether clients may come, and why not.
    fn report(&self, now: SystemTime) -> (bool, Value) {
        let table = self.synced.load(Ordering::Acquire);
        let issuer = self.issuer.load();
        let (issues, issuing) = match issuer.as_deref() {
            None => (false, "waiting for secret connectors-gateway-ca"),
            Some(issuer) if issuer.not_after < now + LAST_HOUR => {
                (false, "ends within the hour, and the controller has not renewed it: see whether it runs")
            }
            Some(_) => (true, "loaded"),
        };
        let draining = self.draining.load(Ordering::Acquire);
        let settings = self.settings_error.load_full();
        let ranges = self.surroundings.load().cluster.is_some();
        let ready = table && issues && ranges && !draining;
        let detail = json!({
            "ready": ready,
            "table": if table { "synced" } else { "waiting for the lists of connectors and classes" },
            "watches": self.watches.trouble().unwrap_or_else(|| "ok".to_owned()),
            "issuingCA": issuing,
            "clusterRanges": if ranges { "known" } else { "waiting for configmap connectors-cluster-ranges" },
            "settings": settings.map_or_else(|| "ok".to_owned(), |error| format!("ignored, the last good ones stay: {error}")),
            "draining": draining,
        });
        (ready, detail)
    }
}

pub struct Admin {
    pub readiness: Readiness,
    pub metrics: Arc<Metrics>,
}

pub type Answer = Response<Full<Bytes>>;

impl Admin {
    /// The same on both ports: a port is who may come, by the network's rules, and for how many there is room.
    pub async fn answer(&self, request: Request<Incoming>) -> Answer {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/healthz") => plain(StatusCode::OK, "ok"),
            (&Method::GET, "/readyz") => self.ready(),
            (&Method::GET, "/metrics") => self.exposition(),
            (_, "/healthz" | "/readyz" | "/metrics") => {
                plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
            }
            _ => plain(StatusCode::NOT_FOUND, "not found"),
        }
    }

    fn ready(&self) -> Answer {
        let (ready, detail) = self.readiness.report(SystemTime::now());
        let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json_answer(code, Bytes::from(detail.to_string()))
    }

    fn exposition(&self) -> Answer {
        match self.metrics.render() {
            Ok(text) => typed(StatusCode::OK, "text/plain; version=0.0.4", Bytes::from(text)),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

fn plain(code: StatusCode, text: &str) -> Answer {
    typed(code, "text/plain; charset=utf-8", Bytes::from(format!("{text}\n")))
}

fn json_answer(code: StatusCode, body: Bytes) -> Answer {
    typed(code, status::CONTENT_TYPE, body)
}

fn typed(code: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use connectors_testenv::pki::Identity;

    use super::*;
    use crate::tls::issuer::Issuer;
    use crate::upstream::policy;

    #[test]
    fn a_gateway_whose_issuer_is_missing_or_about_to_end_is_not_ready() {
        let readiness = Readiness::default();
        readiness.synced.store(true, Ordering::Release);
        let now = SystemTime::now();
        assert!(!readiness.report(now).0, "without an issuer");
        let issuing = Identity::root("root").intermediate("issuing");
        let issuer = Issuer::parse(issuing.pem().as_bytes(), issuing.key_pem().as_bytes()).unwrap();
        let end = issuer.not_after;
        readiness.issuer.store(Some(Arc::new(issuer)));
        assert!(!readiness.report(now).0, "without the cluster's ranges");
        readiness.surroundings.store(policy::alone().load_full());
        for (moment, ready) in [
            (now, true),
            (end - Duration::from_secs(3700), true),
            (end - Duration::from_secs(3500), false),
            (end + Duration::from_secs(1), false),
        ] {
            let (is, detail) = readiness.report(moment);
            assert_eq!(is, ready, "{detail}");
            assert_eq!(detail["issuingCA"] == "loaded", ready, "{detail}");
        }
        readiness.draining.store(true, Ordering::Release);
        assert!(!readiness.report(now).0, "while it drains");
    }
}
