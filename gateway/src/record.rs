//! The access record: one structured line for each request, written when it is dropped, so that a stream that
//! is cut (by drain, by its peer, by a panic of ours) is recorded too. Last stage of a request.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Instant;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use uuid::Uuid;

use crate::admit::passage::Passage;
use crate::error::status::Form;
use crate::error::{Blame, Error};
use crate::gateway::Gateway;
use crate::http::headers;

/// Query keys whose values say what was asked and can hold no secret. Of others (exec's `command`) only the
/// name is kept.
const PLAIN_KEYS: [&str; 17] = [
    "allowWatchBookmarks",
    "container",
    "dryRun",
    "fieldManager",
    "fieldSelector",
    "follow",
    "labelSelector",
    "limit",
    "previous",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sinceSeconds",
    "tailLines",
    "timeout",
    "timeoutSeconds",
    "watch",
];

/// Counters are atomic because both directions of a stream count in one task's two futures.
pub struct Record {
    passage: Arc<Passage>,
    method: Method,
    path: PathAndQuery,
    protocol: &'static str,
    /// Sent to the target as `Audit-ID`.
    pub audit_id: HeaderValue,
    started: Instant,
    status: AtomicU16,
    /// Bytes of the request's and of the answer's body that were delivered.
    pub up: AtomicU64,
    pub down: AtomicU64,
    done: AtomicBool,
    failure: Option<Error>,
}

impl Record {
    pub fn start(
        passage: Arc<Passage>,
        method: Method,
        path: PathAndQuery,
        protocol: &'static str,
    ) -> Record {
        passage.gateway.parts.metrics.requests.begin();
        Record {
            passage,
            method,
            path,
            protocol,
            audit_id: audit_id(),
            started: Instant::now(),
            status: AtomicU16::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            done: AtomicBool::new(false),
            failure: None,
        }
    }

    /// The head of the answer has gone to the client.
    pub fn answered(&self, status: u16) {
        self.passage.gateway.parts.metrics.requests.answered(status, self.started.elapsed());
        self.passage.counted.load().count(status);
        self.status.store(status, Ordering::Relaxed);
    }

    pub fn has_answered(&self) -> bool {
        self.status.load(Ordering::Relaxed) != 0
    }

    /// The last byte has gone to the client.
    pub fn complete(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    pub fn fail(&mut self, error: Error) {
        self.failure = Some(error);
    }

    fn write(&self) {
        let principal = &self.passage.principal;
        let pod = principal.pod.as_ref();
        let cut = !self.done.load(Ordering::Relaxed);
        let status = match (self.status.load(Ordering::Relaxed), &self.failure) {
            (0, Some(error)) => error.code(Form::Status),
            (status, _) => status,
        };
        tracing::info!(
            target: "access",
            audit_id = self.audit_id.to_str().unwrap_or_default(),
            client = self.passage.texts.client.as_deref(),
            user = &*principal.user,
            pod = pod.map(|pod| &*pod.name),
            pod_namespace = pod.map(|pod| &*pod.namespace),
            connector = &*self.passage.texts.connector,
            host = &*self.passage.host(),
            protocol = self.protocol,
            method = self.method.as_str(),
            verb = verb(&self.method, &self.path),
            path = &*sanitized(&self.path),
            status,
            bytes_up = self.up.load(Ordering::Relaxed),
            bytes_down = self.down.load(Ordering::Relaxed),
            ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            cut,
            blame = self.failure.as_ref().map(|error| error.blame().as_str()),
            cause = self.failure.as_ref().map(tracing::field::display),
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (up, down) = (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed));
        self.passage.gateway.parts.metrics.requests.end(up, down);
        if self.failure.as_ref().is_some_and(|error| error.blame() == Blame::Gateway) {
            tracing::warn!(connector = %self.passage.connector, cause = self.failure.as_ref().map(tracing::field::display), "request refused");
        }
        if tracing::enabled!(target: "access", tracing::Level::INFO) {
            self.write();
        }
    }
}

/// The record of what was no request, or of one without a passage: it has neither path nor verb.
pub fn turned_away(
    gateway: &Gateway,
    passage: Option<&Passage>,
    error: &Error,
    form: Form,
    protocol: &'static str,
) {
    if let Some(refusal) = error.refusal() {
        gateway.parts.metrics.count_refusal(refusal);
    }
    tracing::info!(
        target: "access",
        user = passage.map(|passage| &*passage.principal.user),
        connector = passage.map(|passage| tracing::field::display(&passage.connector)),
        host = passage.map(|passage| tracing::field::display(passage.host())),
        protocol,
        status = error.code(form),
        blame = error.blame().as_str(),
        cause = %error,
        "request refused"
    );
}

/// A random UUID, as the API server makes them.
fn audit_id() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let text = Uuid::new_v4().hyphenated().encode_lower(&mut text);
    let mut id = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    headers::comes_once(&mut id);
    id
}

/// As Kubernetes' audit says it, from what the URL shows. Exec over WebSocket is a GET and still creates.
fn verb(method: &Method, path: &PathAndQuery) -> &'static str {
    let creates = ["/exec", "/attach", "/portforward", "/proxy"].iter().any(|end| path.path().ends_with(end));
    let watches = || {
        path.query().is_some_and(|query| {
            query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"))
        })
    };
    match *method {
        _ if creates => "create",
        Method::GET if watches() => "watch",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

/// Path and query without the values that could hold a secret.
fn sanitized(path: &PathAndQuery) -> Cow<'_, str> {
    let Some(query) = path.query() else { return Cow::Borrowed(path.path()) };
    let mut shown = path.path().to_owned();
    for (index, pair) in query.split('&').enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((key, value)) => {
                shown.extend([key, "=", if PLAIN_KEYS.contains(&key) { value } else { "-" }]);
            }
            // All of it may be the secret.
            None => shown.push_str(if PLAIN_KEYS.contains(&pair) { pair } else { "-" }),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> PathAndQuery {
        text.parse().unwrap()
    }

    #[test]
    fn only_query_values_without_secrets_are_recorded() {
        for (asked, recorded) in [
            ("/api/v1/pods", "/api/v1/pods"),
            ("/api/v1/pods?watch=true&limit=5", "/api/v1/pods?watch=true&limit=5"),
            ("/exec?command=mysql&command=-phunter2&container=db", "/exec?command=-&command=-&container=db"),
            ("/login?token=abc", "/login?token=-"),
            ("/api/v1/pods?watch&limit=5", "/api/v1/pods?watch&limit=5"),
            ("/hook?eyJhbGciOi", "/hook?-"),
            ("/hook?a=b&token%3Dsecret&", "/hook?a=-&-&-"),
        ] {
            assert_eq!(sanitized(&path(asked)), recorded);
        }
    }

    /// Its table is for what comes again (RFC 7541, 6.2.3).
    #[test]
    fn an_audit_id_is_a_random_uuid_that_takes_no_place_in_the_table_of_http2() {
        let ids = [audit_id(), audit_id()];
        assert_ne!(ids[0], ids[1]);
        for id in ids {
            let uuid = id.to_str().unwrap().parse::<Uuid>().unwrap();
            assert_eq!(uuid.get_version_num(), 4);
            assert!(id.is_sensitive());
        }
    }

    #[test]
    fn the_verb_is_what_an_audit_would_say() {
        for (method, asked, expected) in [
            (Method::GET, "/api/v1/pods", "get"),
            (Method::GET, "/api/v1/pods?limit=1&watch=true", "watch"),
            (Method::GET, "/api/v1/namespaces/a/pods/b/exec?command=sh", "create"),
            (Method::POST, "/api/v1/pods", "create"),
            (Method::PATCH, "/api/v1/pods/a", "patch"),
        ] {
            assert_eq!(verb(&method, &path(asked)), expected, "{method} {asked}");
        }
    }
}
