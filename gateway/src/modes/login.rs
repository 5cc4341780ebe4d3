//! A login names connectors. Which of them has the host that the client wants, and may it know? For tunnels
//! and for absolute URLs alike.

use connectors_api::proxy_auth::{self, ConnectorRef, Login, LoginError};
use connectors_api::target::PathMatch;
use http::header::{self, HeaderMap};

use crate::admit::authorize::Verdict;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::home::principal::Principal;
use crate::http::headers::single;
use crate::table::route::{Entry, Origin, Route, Table};

/// The one login of a head: who asks, and by which connectors.
pub fn login(headers: &HeaderMap) -> Result<std::result::Result<Login, LoginError>> {
    match single(headers, &header::PROXY_AUTHORIZATION, "two Proxy-Authorization headers")? {
        Some(value) => Ok(proxy_auth::parse_basic(value.as_bytes())),
        None => Err(Error::Login("no Proxy-Authorization was sent".to_owned())),
    }
}

/// Each connector costs look-ups.
pub fn bounded(gateway: &Gateway, login: &Login) -> Result<()> {
    let most = gateway.parts.settings.load().limits.connectors_per_login;
    match login.connectors.len() > most {
        true => Err(Error::Login(format!("the login names more than {most} connectors"))),
        false => Ok(()),
    }
}

/// The connectors of the login that have this address; without one, the first, that the answer inside can
/// speak of.
pub fn serving(table: &Table, login: &Login, origin: &Origin) -> Vec<ConnectorRef> {
    let mut serving: Vec<_> =
        login.connectors.iter().filter(|connector| has_target(table, connector, origin)).cloned().collect();
    if serving.is_empty() {
        serving.extend(login.connectors.first().cloned());
    }
    serving
}

pub fn has_target(table: &Table, connector: &ConnectorRef, origin: &Origin) -> bool {
    usable(table, connector).is_some_and(|route| route.targets.iter().any(|target| origin.is(target)))
}

/// Whether one of the connector's addresses has this origin and a prefix of this path.
pub fn covers(table: &Table, connector: &ConnectorRef, origin: &Origin, path: &str) -> bool {
    let mut targets = usable(table, connector).into_iter().flat_map(|route| &route.targets);
    targets.any(|target| origin.is(target) && target.covers(path) == PathMatch::Inside)
}

fn usable<'a>(table: &'a Table, connector: &ConnectorRef) -> Option<&'a Route> {
    match table.lookup(connector) {
        Some(Entry::Usable(route)) => Some(route),
        _ => None,
    }
}

/// An address that is not the connector's is refused at once, but only to those who may use the connector:
/// others must not learn its addresses. They, and the users of an unusable connector, are answered later,
/// when a request is admitted.
pub async fn reachable(
    gateway: &Gateway,
    principal: &Principal,
    table: &Table,
    connector: &ConnectorRef,
    login: &Login,
    origin: &Origin,
) -> Result<()> {
    if usable(table, connector).is_none() || has_target(table, connector, origin) {
        return Ok(());
    }
    match gateway.parts.authorizer.may_use(principal, connector).await {
        Ok(Verdict::Allowed) => Err(origin.not_a_target(&proxy_auth::user(&login.connectors))),
        Ok(Verdict::Denied { .. }) | Err(_) => Ok(()),
    }
}
