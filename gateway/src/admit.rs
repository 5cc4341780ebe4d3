//! Fourth stage: may this request go where it wants to? `authenticate` has said who asks, `passage` holds who
//! and where, `grant` by whose leave and with what. A limit of a connector, a registry of grants or a policy
//! on requests is a file beside these and a line in `admit`.

pub mod authenticate;
pub mod authorize;
pub mod credential;
pub mod grant;
pub mod passage;

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use connectors_api::impersonation::{Impersonation, Subject};
use connectors_api::target::{Authority, PathMatch};
use http::Method;
use http::header::{self, HeaderMap};
use secrecy::{ExposeSecret, SecretString};

use self::authenticate::{Identity, Rejection, jwt};
use self::passage::{Aim, Grant, Passage};
use crate::error::{Error, Result};
use crate::home::principal::Principal;
use crate::http::headers;
use crate::http::request::Request;
use crate::table::route::Route;
use crate::upstream::Dial;

/// Everything that a request must pass before a byte of it goes to the target.
pub async fn admit(passage: &Passage, request: &Request) -> Result<Grant> {
    // The login's own token has ended: nothing is asked or read for a request that brings no valid one.
    if passage.expired || passage.principal.expires <= SystemTime::now() {
        token_inside(passage, &request.headers).await?;
    } else {
        note_foreign(passage, &request.headers);
    }
    allows(grant::current(passage).await?, passage, request)
}

/// For the same request, with what the connector's Secret holds now: where it leads may have changed too.
pub async fn anew(passage: &Passage, request: &Request) -> Result<Grant> {
    allows(grant::renewed(passage).await?, passage, request)
}

fn allows(grant: Grant, passage: &Passage, request: &Request) -> Result<Grant> {
    directed(&passage.aim, &grant.dial, &request.authority)?;
    carried(&request.method)?;
    covered(&grant.route, passage, request.path.as_str())?;
    as_itself(&grant.route, &request.headers)?;
    Ok(grant)
}

/// Who asks to act as somebody else must not act with all the credential's rights instead, without a word.
fn as_itself(route: &Route, headers: &HeaderMap) -> Result<()> {
    let allowed = match &route.impersonation {
        Impersonation::Anybody => true,
        Impersonation::Nobody => headers::speaks_as(headers).next().is_none(),
        Impersonation::These(subjects) => headers::speaks_as(headers).all(|(field, name)| {
            subjects.iter().any(|subject| match subject {
                Subject::User(user) => field == "user" && name == user.as_bytes(),
                Subject::Group(group) => field == "group" && name == group.as_bytes(),
            })
        }),
    };
    match allowed {
        true => Ok(()),
        false => Err(Error::Impersonation { connector: route.connector.clone() }),
    }
}

/// A target answers TRACE with the request as it came to it, credential and all; some servers know TRACK for
/// the same.
fn carried(method: &Method) -> Result<()> {
    match method.as_str() {
        "CONNECT" => Err(Error::Malformed("a CONNECT inside of a tunnel")),
        "TRACE" | "TRACK" => Err(Error::Method(method.to_string())),
        _ => Ok(()),
    }
}

/// The host must be the one that the passage is for. Nearly always it is spelled as we would, and nothing has
/// to be parsed.
fn directed(aim: &Aim, dial: &Dial, authority: &str) -> Result<()> {
    // In reverse mode the host was the connector's, or the path named it.
    let Aim::Origin(origin) = aim else { return Ok(()) };
    if authority.eq_ignore_ascii_case(dial.authority.as_str()) {
        return Ok(());
    }
    let parsed = Authority::parse(authority).map_err(|_| Error::Malformed("the Host header is not valid"))?;
    match parsed.is(&origin.host, origin.port, dial.default_port()) {
        true => Ok(()),
        false => Err(Error::Misdirected(authority.to_owned())),
    }
}

/// The path must lie under one of the addresses that this passage is for.
fn covered(route: &Route, passage: &Passage, path: &str) -> Result<()> {
    let mut suspicious = false;
    for target in passage.targets(route) {
        match target.covers(path) {
            PathMatch::Inside => return Ok(()),
            PathMatch::Outside => {}
            PathMatch::Suspicious => suspicious = true,
        }
    }
    match suspicious {
        true => Err(Error::Malformed("the path has dot segments, plain or encoded")),
        false => Err(Error::OutsidePath { connector: route.connector.clone() }),
    }
}

/// Says once for each passage that a client sends a token of its own, which goes nowhere. Only the first that
/// comes is looked at, by what it says of itself: that costs nothing for all others, and clients do not
/// change their habits.
fn note_foreign(passage: &Passage, headers: &HeaderMap) {
    // In reverse mode it is the login.
    if passage.aim == Aim::Address {
        return;
    }
    let Some(value) = headers.get(header::AUTHORIZATION) else { return };
    if passage.looked.load(Ordering::Relaxed) || passage.looked.swap(true, Ordering::Relaxed) {
        return;
    }
    let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    let own = token
        .and_then(|token| jwt::claimed(token.trim()))
        .is_some_and(|bearer| claims(&bearer, &passage.principal));
    if !own {
        tracing::info!(user = &*passage.principal.user, connector = %passage.connector, "the client's own Authorization is dropped");
    }
}

/// A valid token of the passage's own ServiceAccount and Pod: the only Authorization that is ever read.
async fn token_inside(passage: &Passage, headers: &HeaderMap) -> Result<()> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token =
        value.and_then(|value| value.strip_prefix("Bearer ")).ok_or(Error::TokenInside("none was sent"))?;
    let token = SecretString::from(token.trim());
    // Before anybody is asked: another's token goes nowhere.
    if jwt::claimed(token.expose_secret()).is_some_and(|bearer| !claims(&bearer, &passage.principal)) {
        return Err(Error::TokenInside("it is another Pod's"));
    }
    match passage.gateway.parts.authenticator.authenticate(&token).await {
        Ok(Identity::Valid(principal)) if same(&principal, &passage.principal) => Ok(()),
        Ok(Identity::Valid(_)) => Err(Error::TokenInside("it is another Pod's")),
        Ok(Identity::Expired(_)) => Err(Error::TokenInside("it has expired too")),
        Err(Rejection::Invalid(why)) => Err(Error::TokenInside(why)),
        Err(Rejection::Unavailable) => Err(Error::ReviewUnavailable),
    }
}

/// What a token says of itself, unverified: good enough to refuse it.
fn claims(bearer: &jwt::Claimed, principal: &Principal) -> bool {
    *principal.user == *bearer.user
        && principal.pod.as_ref().map(|pod| &*pod.uid) == bearer.pod_uid.as_deref()
}

fn same(one: &Principal, other: &Principal) -> bool {
    let pod = |principal: &Principal| principal.pod.as_ref().map(|pod| pod.uid.clone());
    one.user == other.user && pod(one) == pod(other)
}
