//! One request inside of a tunnel: is it for this target, and by whose leave? What can be known for longer than one request stands in the
//! tunnel's lease. Comes after `tunnel`; `relay` carries what is admitted here. Reverse-mode requests will enter here too.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use connectors_api::conditions::reason::TARGET_CERTIFICATE_CHANGED;
use connectors_api::target::{Authority, PathMatch, Target};
use http::header::{self, HeaderMap};
use http::uri::PathAndQuery;
use http::{Method, Uri};
use secrecy::{ExposeSecret, SecretString};

use crate::authenticate::{Identity, Rejection, jwt};
use crate::authorize::Verdict;
use crate::credential::{Credential, CredentialError};
use crate::error::{Error, Result};
use crate::headers::Protocol;
use crate::principal::Principal;
use crate::relay::wire::Framing;
use crate::route::{Entry, Route, Table};
use crate::tunnel::Tunnel;
use crate::upstream::Dial;

/// How long a tunnel's requests go by what was found for one of them. Short against every revocation bound, long against a request.
const LEASE: Duration = Duration::from_secs(1);

/// A request as either protocol brings it.
pub struct Request {
    pub method: Method,
    pub path: PathAndQuery,
    /// `Host` or `:authority`, as sent.
    pub authority: String,
    pub headers: HeaderMap,
    pub framing: Framing,
    /// HTTP/1.1 only.
    pub upgrade: Option<Protocol>,
}

/// Granted: the principal may use the connector, its route is usable, its credential at hand and its target resolved.
pub struct Lease {
    pub route: Arc<Route>,
    pub credential: Arc<Credential>,
    pub dial: Arc<Dial>,
}

/// A lease as it stands in its tunnel. A tunnel may idle for days: neither an old snapshot nor a credential that was rotated since may
/// live on because of it.
pub struct Standing {
    route: Arc<Route>,
    credential: Weak<Credential>,
    dial: Arc<Dial>,
    table: Weak<Table>,
    taken: Instant,
}

impl Standing {
    fn lease(&self, table: &Arc<Table>) -> Option<Lease> {
        if self.taken.elapsed() >= LEASE || !std::ptr::eq(self.table.as_ptr(), Arc::as_ptr(table)) {
            return None;
        }
        Some(Lease { route: self.route.clone(), credential: self.credential.upgrade()?, dial: self.dial.clone() })
    }
}

/// Everything that a request must pass before a byte of it goes to the target.
pub async fn admit(tunnel: &Tunnel, request: &Request) -> Result<Lease> {
    // The tunnel's own token has ended: nothing is asked or read for a request that brings no valid one.
    if tunnel.expired || tunnel.principal.expires <= SystemTime::now() {
        token_inside(tunnel, &request.headers).await?;
    }
    let lease = lease(tunnel).await?;
    directed(tunnel, &lease.dial, &request.authority)?;
    if request.method == Method::CONNECT {
        return Err(Error::Malformed("a CONNECT inside of a tunnel"));
    }
    covered(&lease.route, tunnel, request.path.as_str())?;
    Ok(lease)
}

/// The host must be the tunnel's. Nearly always it is spelled as we would, and nothing has to be parsed.
fn directed(tunnel: &Tunnel, dial: &Dial, authority: &str) -> Result<()> {
    if authority.eq_ignore_ascii_case(&dial.authority) {
        return Ok(());
    }
    let parsed = Authority::parse(authority).map_err(|_| Error::Malformed("the Host header is not valid"))?;
    match parsed.is(&tunnel.host, tunnel.port, dial.default_port()) {
        true => Ok(()),
        false => Err(Error::Misdirected(authority.to_owned())),
    }
}

/// The path must lie under one of the addresses that this tunnel's host and port belong to.
fn covered(route: &Route, tunnel: &Tunnel, path: &str) -> Result<()> {
    let mut suspicious = false;
    for target in route.targets.iter().filter(|target| serves(target, &tunnel.host, tunnel.port)) {
        match target.covers(path) {
            PathMatch::Inside => return Ok(()),
            PathMatch::Outside => {}
            PathMatch::Suspicious => suspicious = true,
        }
    }
    match suspicious {
        true => Err(Error::Malformed("the path has dot segments, encoded dots or slashes, or backslashes")),
        false => Err(Error::OutsidePath { connector: route.connector.clone() }),
    }
}

/// Whether a CONNECT to this host and port means the target. Plain http targets take no CONNECT.
pub fn serves(target: &Target, host: &str, port: u16) -> bool {
    target.tls && target.port == port && target.host == host
}

/// The tunnel's lease, or a new one if it is old or the routing table has changed.
async fn lease(tunnel: &Tunnel) -> Result<Lease> {
    let known = tunnel.lease.load().as_ref().and_then(|standing| standing.lease(&tunnel.gateway.parts.table.load()));
    match known {
        Some(lease) => Ok(lease),
        None => renewed(tunnel).await,
    }
}

/// A new lease, whatever the old one says.
pub async fn renewed(tunnel: &Tunnel) -> Result<Lease> {
    let table = tunnel.gateway.parts.table.load_full();
    let lease = renew(tunnel, &table).await?;
    tunnel.lease.store(Some(Arc::new(Standing {
        route: lease.route.clone(),
        credential: Arc::downgrade(&lease.credential),
        dial: lease.dial.clone(),
        table: Arc::downgrade(&table),
        taken: Instant::now(),
    })));
    Ok(lease)
}

async fn renew(tunnel: &Tunnel, table: &Table) -> Result<Lease> {
    let parts = &tunnel.gateway.parts;
    granted(tunnel, table).await?;
    let route = match table.lookup(&tunnel.connector) {
        Some(Entry::Usable(route)) => route.clone(),
        // As when the gateway itself sees the change, before the controller does.
        Some(Entry::Unusable { reason, message }) if reason == TARGET_CERTIFICATE_CHANGED => {
            return Err(Error::CertificateChanged { host: tunnel.host.clone(), cause: message.clone() });
        }
        Some(Entry::Unusable { message, .. }) => {
            return Err(Error::Unusable { connector: tunnel.connector.clone(), why: message.clone() });
        }
        None => return Err(Error::NotFound(tunnel.connector.clone())),
    };
    let target = route.targets.iter().find(|target| serves(target, &tunnel.host, tunnel.port));
    let target = target.ok_or_else(|| not_a_target(&tunnel.host, tunnel.port, &tunnel.connector.to_string()))?;
    let credential = parts.credentials.get(&route).await.map_err(|error| unusable(&route, error))?;
    let dial = tunnel.gateway.upstream.dial(&route, target).await?;
    Ok(Lease { route, credential, dial })
}

/// A connector that does not exist is told apart only to those who may `get` it.
async fn granted(tunnel: &Tunnel, table: &Table) -> Result<()> {
    let (principal, connector) = (&tunnel.principal, &tunnel.connector);
    match tunnel.gateway.parts.authorizer.may_use(principal, connector).await {
        Ok(Verdict::Allowed) => Ok(()),
        Ok(Verdict::Denied { may_get: true }) if table.lookup(connector).is_none() => Err(Error::NotFound(connector.clone())),
        Ok(Verdict::Denied { .. }) => Err(Error::Forbidden { user: principal.user.to_string(), connector: connector.clone() }),
        Err(_) => Err(Error::ReviewUnavailable),
    }
}

pub fn not_a_target(host: &str, port: u16, connectors: &str) -> Error {
    Error::NotATarget { authority: format!("{host}:{port}"), connectors: connectors.to_owned() }
}

/// In the words of the connector.
pub fn unusable(route: &Route, error: CredentialError) -> Error {
    match error {
        CredentialError::Unusable(why) => Error::Unusable { connector: route.connector.clone(), why },
        CredentialError::Unavailable => Error::ReviewUnavailable,
    }
}

/// A valid token of the tunnel's own ServiceAccount and Pod: the only Authorization that is ever read.
async fn token_inside(tunnel: &Tunnel, headers: &HeaderMap) -> Result<()> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.strip_prefix("Bearer ")).ok_or(Error::TokenInside("none was sent"))?;
    let token = SecretString::from(token.trim());
    // Before anybody is asked: another's token goes nowhere.
    if jwt::claimed(token.expose_secret()).is_some_and(|bearer| !claims(&bearer, &tunnel.principal)) {
        return Err(Error::TokenInside("it is another Pod's"));
    }
    match tunnel.gateway.parts.authenticator.authenticate(&token).await {
        Ok(Identity::Valid(principal)) if same(&principal, &tunnel.principal) => Ok(()),
        Ok(Identity::Valid(_)) => Err(Error::TokenInside("it is another Pod's")),
        Ok(Identity::Expired(_)) => Err(Error::TokenInside("it has expired too")),
        Err(Rejection::Invalid(why)) => Err(Error::TokenInside(why)),
        Err(Rejection::Unavailable) => Err(Error::ReviewUnavailable),
    }
}

/// What a token says of itself, unverified: good enough to refuse it.
fn claims(bearer: &jwt::Claimed, principal: &Principal) -> bool {
    *principal.user == *bearer.user && principal.pod.as_ref().map(|pod| &*pod.uid) == bearer.pod_uid.as_deref()
}

fn same(one: &Principal, other: &Principal) -> bool {
    let pod = |principal: &Principal| principal.pod.as_ref().map(|pod| pod.uid.clone());
    one.user == other.user && pod(one) == pod(other)
}

/// Authority and path of a request target: origin-form with `Host`, or absolute-form, which wins over it (RFC 9112, 3.2.2).
pub fn parse_target(target: bytes::Bytes, headers: &mut HeaderMap) -> Result<(String, PathAndQuery)> {
    const INVALID: Error = Error::Malformed("the request target is not valid");
    let mut hosts = headers.get_all(header::HOST).into_iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map_err(|_| Error::Malformed("the Host header is not valid"))?.to_owned(),
        (None, _) => return Err(Error::Malformed("the Host header is missing")),
        (Some(_), Some(_)) => return Err(Error::Malformed("two Host headers")),
    };
    headers.remove(header::HOST);
    if target.first() == Some(&b'/') {
        return Ok((host, PathAndQuery::from_maybe_shared(target).map_err(|_| INVALID)?));
    }
    let uri = Uri::from_maybe_shared(target).map_err(|_| INVALID)?;
    match (uri.scheme_str(), uri.authority(), uri.path_and_query()) {
        (Some("https"), Some(authority), Some(path)) => Ok((authority.to_string(), path.clone())),
        _ => Err(INVALID),
    }
}
