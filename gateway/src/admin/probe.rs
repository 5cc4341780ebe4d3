//! `/probe`: the controller, and nobody else, has a connector probed. It names one of the table's; few places for
//! each namespace, so that one tenant's targets that never answer delay nobody else's.

use std::time::Duration;

use bytes::Bytes;
use connectors_api::places::{OF_ONE_NAMESPACE, Places};
use connectors_api::probe::{PATH, ProbeRequest};
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use secrecy::SecretString;

use super::{Answer, json_answer, plain};
use crate::admit::authenticate::{Authenticator, Identity, Rejection};
use crate::error::status;
use crate::probe::Prober;

/// A name, and pins of some kilobytes each.
const BODY_MAX: usize = 1 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Probes at a time: they wait for targets, so more than CPUs, yet bounded.
const PROBES: usize = 256;

/// Who may ask for probes, and who makes them.
pub struct ProbeEndpoint {
    authenticator: Authenticator,
    user: String,
    prober: Prober,
    places: Places,
}

impl ProbeEndpoint {
    /// `authenticator`: for audience `names::PROBE_AUDIENCE`. `user`: the controller's user name.
    pub fn new(authenticator: Authenticator, user: String, prober: Prober) -> ProbeEndpoint {
        ProbeEndpoint { authenticator, user, prober, places: Places::new(PROBES, OF_ONE_NAMESPACE) }
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Answer {
        match (request.method(), request.uri().path()) {
            (&Method::POST, PATH) => Box::pin(self.probe(request)).await,
            (_, PATH) => plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
            _ => plain(StatusCode::NOT_FOUND, "not found"),
        }
    }

    async fn probe(&self, request: Request<Incoming>) -> Answer {
        if let Err(refusal) = self.admit(request.headers()).await {
            return refusal;
        }
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
        let Some(_place) = self.places.take(&asked.namespace).await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "closing");
        };
        match self.prober.probe(&asked).await.map(|report| serde_json::to_vec(&report)) {
            Some(Ok(json)) => json_answer(StatusCode::OK, Bytes::from(json)),
            Some(Err(error)) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            None => {
                let mut answer =
                    plain(StatusCode::SERVICE_UNAVAILABLE, "this gateway has not seen the connector yet");
                answer.headers_mut().insert(RETRY_AFTER, 1.into());
                answer
            }
        }
    }

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
