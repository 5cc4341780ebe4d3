//! The admin port: `/metrics`, `/healthz`, `/readyz` for the cluster, `/probe` for the controller alone.
//! Plain HTTP on the control runtime, apart from the data plane; clients of connectors never get here
//! (NetworkPolicy), and a client's token is useless here (audience).

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use connectors_api::probe::{self, ProbeRequest};
use connectors_api::watch_health::WatchHealth;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::admit::authenticate::{Authenticator, Identity, Rejection};
use crate::error::status;
use crate::metrics::Metrics;
use crate::probe::Prober;
use crate::tls::issuer;
use crate::upstream::policy::Surroundings;

/// Two objects with their templates; etcd takes no object beyond 1.5 MiB.
const BODY_MAX: usize = 4 << 20;
/// Probes at a time: they wait for targets, so more than CPUs, yet bounded.
const PROBES: usize = 64;
/// Of a request's head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Open connections: kubelet, Prometheus and the controller's probes together. More wait to be accepted.
const CONNECTIONS: usize = 256;

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
    /// None without a cluster: nobody asks for probes then.
    pub probe: Option<ProbeEndpoint>,
}

/// Who may ask for probes, and who makes them.
pub struct ProbeEndpoint {
    authenticator: Authenticator,
    user: String,
    prober: Prober,
    permits: Semaphore,
}

impl ProbeEndpoint {
    /// `authenticator`: for audience `names::PROBE_AUDIENCE`. `user`: the controller's user name.
    pub fn new(authenticator: Authenticator, user: String, prober: Prober) -> ProbeEndpoint {
        ProbeEndpoint { authenticator, user, prober, permits: Semaphore::new(PROBES) }
    }
}

type Answer = Response<Full<Bytes>>;

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return Ok(()) };
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: the next accept would fail at once, too.
                tracing::warn!(%error, "the admin port did not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let admin = admin.clone();
                async move { Ok::<_, Infallible>(admin.answer(request).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            // A peer that goes away is no event here.
            server.serve_connection(TokioIo::new(stream), service).await.ok();
            drop(slot);
        });
    }
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/healthz") => plain(StatusCode::OK, "ok"),
            (&Method::GET, "/readyz") => self.ready(),
            (&Method::GET, "/metrics") => self.exposition(),
            (&Method::POST, probe::PATH) => Box::pin(self.probe(request)).await,
            (_, "/healthz" | "/readyz" | "/metrics" | probe::PATH) => {
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

    async fn probe(&self, request: Request<Incoming>) -> Answer {
        let Some(endpoint) = &self.probe else { return plain(StatusCode::NOT_FOUND, "not found") };
        if let Err(refusal) = endpoint.admit(request.headers()).await {
            return refusal;
        }
        let Ok(_permit) = endpoint.permits.acquire().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "closing");
        };
        let body = Limited::new(request.into_body(), BODY_MAX).collect();
        let Ok(Ok(body)) = tokio::time::timeout(BODY_TIMEOUT, body).await else {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or incomplete");
        };
        let asked: ProbeRequest = match serde_json::from_slice(&body.to_bytes()) {
            Ok(asked) => asked,
            Err(error) => {
                return plain(StatusCode::BAD_REQUEST, &format!("the body is no ProbeRequest: {error}"));
            }
        };
        let report = endpoint.prober.probe(&asked).await;
        match serde_json::to_vec(&report) {
            Ok(json) => json_answer(StatusCode::OK, Bytes::from(json)),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

impl ProbeEndpoint {
    async fn admit(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let Some(token) = bearer(headers) else { return Err(challenge("no bearer token")) };
        match self.authenticator.authenticate(&token).await {
            Ok(Identity::Valid(principal)) if *principal.user == *self.user => Ok(()),
            Ok(Identity::Valid(principal)) => {
                tracing::warn!(user = %principal.user, "probe refused");
                Err(plain(StatusCode::FORBIDDEN, "only the controller may ask for probes"))
            }
            Ok(Identity::Expired(_)) => Err(challenge("the token has expired")),
            Err(rejection @ Rejection::Invalid(_)) => Err(challenge(&rejection.to_string())),
            Err(Rejection::Unavailable) => {
                let failure = status::unavailable();
                let mut answer = json_answer(failure.code, failure.body());
                answer.headers_mut().insert(RETRY_AFTER, failure.retry_after.unwrap_or(1).into());
                Err(answer)
            }
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| SecretString::from(token.trim()))
}

fn challenge(why: &str) -> Answer {
    let mut answer = plain(StatusCode::UNAUTHORIZED, why);
    answer.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
    answer
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
