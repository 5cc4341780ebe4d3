//! The errors that we make, as `metav1.Status`: stable reason, words of the pod spec, the next step. What the
//! client reads is here; what the log holds is the caller's. No text quotes a secret, a target's body or an
//! address of the gateway.

use bytes::Bytes;
use connectors_api::names::ALLOW_IMPERSONATION_ANNOTATION;
use connectors_api::proxy_auth::ConnectorRef;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use serde_json::json;

use crate::http::wire::MAX_FIELDS;

/// One refusal, ready to be written as a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: StatusCode,
    /// `metav1.StatusReason`: stable, so that a client can match it.
    pub reason: &'static str,
    pub message: String,
    /// Value of `Retry-After` in seconds.
    pub retry_after: Option<u32>,
}

pub const CONTENT_TYPE: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What a client can show of a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `metav1.Status`.
    #[default]
    Status,
    /// The sentence alone: client-go reads discovery raw, and of a Status it shows `unknown`.
    Text,
}

/// Both of a proxy and of a server: what a client may log in with. Clients that send a bearer token send it
/// unasked.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"connectors\"");

impl Failure {
    fn new(code: StatusCode, reason: &'static str, message: String) -> Failure {
        Failure { code, reason, message, retry_after: None }
    }

    /// The JSON body.
    pub fn body(&self) -> Bytes {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if let Some(seconds) = self.retry_after {
            status["details"] = json!({ "retryAfterSeconds": seconds });
        }
        Bytes::from(status.to_string())
    }

    /// As a client that can show no more than this form must be told: of a 503 client-go shows discovery's
    /// readers nothing but a phrase of its own, and with `Retry-After` after 50 s. Of a 502 it shows all.
    pub fn told(self, form: Form) -> Failure {
        match (form, self.code) {
            (Form::Text, StatusCode::SERVICE_UNAVAILABLE) => {
                Failure { code: StatusCode::BAD_GATEWAY, retry_after: None, ..self }
            }
            _ => self,
        }
    }

    /// The header fields of the answer, and its body.
    pub fn answer(&self, form: Form) -> (HeaderMap, Bytes) {
        let (kind, body) = match form {
            Form::Status => (CONTENT_TYPE, self.body()),
            Form::Text => (TEXT, Bytes::from(self.message.clone())),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        match self.code {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                headers.insert(header::PROXY_AUTHENTICATE, CHALLENGE)
            }
            StatusCode::UNAUTHORIZED => headers.insert(header::WWW_AUTHENTICATE, CHALLENGE),
            _ => None,
        };
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        (headers, body)
    }
}

/// Also for a connector that does not exist, unless the principal may `get` it: the two must not be told
/// apart.
pub fn forbidden(user: &str, connector: &ConnectorRef) -> Failure {
    let message = format!(
        "{} may not use connector {:?} in namespace {:?}: bind ClusterRole connectors-user",
        subject(user),
        connector.name,
        connector.namespace
    );
    Failure::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

/// `Impersonate-*` at a connector that does not let its users send them.
pub fn impersonation(connector: &ConnectorRef) -> Failure {
    let message = format!(
        "connector {:?} in namespace {:?} does not let its users act as this one: leave out --as and Impersonate headers, \
         or have its owner annotate it with {ALLOW_IMPERSONATION_ANNOTATION}=true, or with a list of user:<name>, group:<name> \
         and serviceaccount:<namespace>/<name>",
        connector.name, connector.namespace
    );
    Failure::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

/// What is not there may be there again. Never a 404 or 410: a controller would take it for the answer of its
/// target, "the object is gone", and give up what it has deployed.
fn later(message: String) -> Failure {
    Failure {
        retry_after: Some(1),
        ..Failure::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }
}

/// The target has turned the request away unread, and its body is gone.
pub fn turned_away(host: &str) -> Failure {
    later(format!("target {host} has not processed the request: send it again"))
}

/// Only for those who may `get` connectors there.
pub fn not_found(connector: &ConnectorRef) -> Failure {
    let message = format!(
        "connector {:?} not found in namespace {:?}: create it, or correct connector.name and connector.namespace of the volume",
        connector.name, connector.namespace
    );
    later(message)
}

/// `why` is the message of the connector's own condition.
pub fn unusable(connector: &ConnectorRef, why: &str) -> Failure {
    let message =
        format!("connector {:?} in namespace {:?} is not usable: {why}", connector.name, connector.namespace);
    later(message)
}

/// Of memory for what waits, the part of the connector's namespace, of the sender's, or of those who are not known yet.
pub fn no_room() -> Failure {
    later("other requests of this namespace, or of clients that are not known yet, wait or have stopped reading, and that is all that may wait: try again".to_owned())
}

/// The same of a request that has gone to the target. Without `Retry-After`, by which clients send even a POST again.
pub fn given_up() -> Failure {
    let message = "other requests through connectors of this namespace wait for their answers or have stopped reading, and that is all that may wait: this one was given up, and its target may have acted on it";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message.to_owned())
}

/// The home API server does not answer and nothing is known of the client.
pub fn unavailable() -> Failure {
    let message =
        "the cluster's API server does not answer, so the token cannot be checked: try again".to_owned();
    Failure {
        retry_after: Some(5),
        ..Failure::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }
}

/// The controller has not said yet what belongs to the cluster.
pub fn ranges_unknown() -> Failure {
    later("the gateway does not know yet which addresses are its own cluster's: try again".to_owned())
}

/// Before the 200 of a CONNECT, with a challenge.
pub fn proxy_authentication_required(why: &str) -> Failure {
    let message = format!(
        "proxy authentication required: {why}; log in as <namespace>/<connector> with a ServiceAccount token"
    );
    Failure::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "Unauthorized", message)
}

/// Reverse mode, with a challenge.
pub fn authentication_required(why: &str) -> Failure {
    let message = format!(
        "authentication required: {why}; send a ServiceAccount token as Authorization: Bearer, or as the password of any user"
    );
    Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
}

/// Neither host nor path of a request without a tunnel names a connector.
pub fn no_connector(host: &str) -> Failure {
    let message = format!(
        "no connector has the host {host:?}: use the proxy address of the connector's status, \
         or /namespaces/<namespace>/connectors/<name>/ before the path; for a proxy-url the server must be https"
    );
    later(message)
}

/// CONNECT to what is no connector's address.
pub fn nobodys_host(host: &str) -> Failure {
    later(format!(
        "no connector has an address with the host {host}: correct the URL, or create the connector"
    ))
}

/// Inside a tunnel whose token has ended.
pub fn unauthorized() -> Failure {
    let message = "the token of this tunnel has expired: connect again with a fresh one, or send it as Authorization (tokenFile)"
        .to_owned();
    Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
}

/// CONNECT to what is no address of the connector.
pub fn target_forbidden(authority: &str, connectors: &str) -> Failure {
    let message = format!(
        "{authority} is not an address of connector {connectors}: correct the URL, or spec.address of the connector"
    );
    Failure::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

/// The dial policy refuses the resolved address.
pub fn target_denied(host: &str) -> Failure {
    let message = format!(
        "the gateway may not connect to {host}: ask its operator, whose targets.allow and targets.deny say so"
    );
    Failure::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

/// The settings deny what is not encrypted.
pub fn plaintext_denied(host: &str) -> Failure {
    let message = format!(
        "the gateway sends nothing to {host} over http, where the credential could be read: use an https address, \
         or ask its operator to add it to upstream.plaintext_allow"
    );
    Failure::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

/// A connector whose address leads back here.
pub fn target_is_the_gateway(host: &str) -> Failure {
    let message =
        format!("{host} is this gateway itself: set spec.address of the connector to the tool's own address");
    Failure::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

/// By the header that says which gateways a request has passed.
pub fn looping() -> Failure {
    let message = "the request has passed this gateway before, or too many gateways: a connector on its way leads back here; \
                   correct its spec.address";
    Failure::new(StatusCode::LOOP_DETECTED, "LoopDetected", message.to_owned())
}

/// Host or `:authority` differs from the tunnel's.
pub fn misdirected(host: &str) -> Failure {
    let message = format!("this connection is not for {host}: open another one");
    Failure::new(StatusCode::MISDIRECTED_REQUEST, "BadRequest", message)
}

pub fn bad_request(why: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "BadRequest", why.to_owned())
}

/// TRACE and its like.
pub fn method_not_carried(method: &str) -> Failure {
    not_carried(&format!(
        "the gateway does not carry {method}: its answer could hold the connector's credential"
    ))
}

pub fn upgrade_not_carried(protocol: &str) -> Failure {
    not_carried(&format!("the gateway carries upgrades to websocket or SPDY/3.1, not to {protocol:?}"))
}

/// A target that no CA vouches for, where none may be pinned. `cause` says what to do.
pub fn unverified(host: &str, cause: &str) -> Failure {
    bad_gateway(host, &format!("it is not trusted: {cause}"))
}

/// What HTTP allows and the gateway does not do.
fn not_carried(why: &str) -> Failure {
    Failure { code: StatusCode::NOT_IMPLEMENTED, ..bad_request(why) }
}

/// The head is over `limits.head_bytes`.
pub fn head_too_large(limit: usize) -> Failure {
    let message = format!(
        "the request head is larger than {limit} bytes (limits.head_bytes) or has more than {MAX_FIELDS} fields"
    );
    Failure::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "BadRequest", message)
}

/// The head did not arrive in time.
pub fn head_timeout() -> Failure {
    Failure::new(StatusCode::REQUEST_TIMEOUT, "Timeout", "the request head did not arrive in time".to_owned())
}

/// `host` is the target's host, `why` in words, e.g. `connection refused`.
pub fn bad_gateway(host: &str, why: &str) -> Failure {
    Failure::new(StatusCode::BAD_GATEWAY, "InternalError", format!("target {host}: {why}"))
}

/// No search domain is applied: a short name that works in a Pod of the cluster does not here.
pub fn unresolvable(host: &str) -> Failure {
    match host.split('.').count() {
        1 | 2 => bad_gateway(
            host,
            "its name cannot be resolved; a Service of this cluster is written <name>.<namespace>.svc",
        ),
        _ => bad_gateway(host, "its name cannot be resolved"),
    }
}

/// Another certificate than the pinned one; nothing was sent.
pub fn certificate_changed(host: &str) -> Failure {
    let why = "it presents another certificate than before; nothing was sent: see condition CACertReady of the connector";
    bad_gateway(host, why)
}

pub fn gateway_timeout(host: &str) -> Failure {
    Failure::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", format!("target {host} did not answer in time"))
}

/// Our own fault; the log has the cause.
pub fn internal() -> Failure {
    Failure::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "InternalError",
        "the gateway failed: its log has the cause".to_owned(),
    )
}

/// `serviceaccount demo/default`, as a user of Kubernetes says it.
fn subject(user: &str) -> String {
    match user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => format!("serviceaccount {namespace}/{name}"),
        None => format!("user {user:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forbidden_sentence_names_who_what_and_the_missing_binding() {
        let connector = ConnectorRef { namespace: "demo".into(), name: "k8s-connector".into() };
        let failure = forbidden("system:serviceaccount:demo:default", &connector);
        let sentence = r#"serviceaccount demo/default may not use connector "k8s-connector" in namespace "demo": bind ClusterRole connectors-user"#;
        assert_eq!(failure.message, sentence);
        let body: serde_json::Value = serde_json::from_slice(&failure.body()).unwrap();
        assert_eq!(body["kind"], "Status");
        assert_eq!(body["reason"], "Forbidden");
        assert_eq!(body["code"], 403);
        assert_eq!(body["message"], sentence);
    }

    #[test]
    fn an_outage_says_when_to_come_back() {
        let body: serde_json::Value = serde_json::from_slice(&unavailable().body()).unwrap();
        assert_eq!(body["details"]["retryAfterSeconds"], 5);
    }
}
