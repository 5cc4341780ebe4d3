//! Requests without a tunnel: in reverse mode the host (`c-<name>.<ns>.svc`) or the path
//! (`/namespaces/<ns>/connectors/<name>/…`) names the connector and `Authorization` brings the
//! ServiceAccount's token; an absolute `http://` URL names a target, with a login as for a CONNECT. `admit`
//! takes both like any other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use connectors_api::proxy_auth::{self, ConnectorRef};
use connectors_api::target::{Authority, PathMatch, Target};
use http::header::{self, HeaderMap};
use http::uri::PathAndQuery;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::login;
use crate::admit::authenticate::{Identity, Rejection};
use crate::admit::passage::{Aim, Client, Passage};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::home::principal::Principal;
use crate::http::headers::single;
use crate::http::request::{Request, Scheme, Turned};
use crate::http::rewrite::Rewrite;
use crate::table::route::Origin;
use crate::table::route::{Entry, Table};

/// A connection whose requests each say where they belong.
pub struct Reverse {
    pub gateway: Arc<Gateway>,
    client: Client,
    /// The host that the client named in its handshake.
    name: Option<String>,
    /// Of the last request: most connections have one client and one connector.
    last: ArcSwapOption<Passage>,
    bearer: ArcSwapOption<Bearer>,
}

/// What a request has brought to log in, and whom it showed. Nearly every request of a connection brings the same,
/// and to compare it costs less than to digest it and look for its review.
struct Bearer {
    sent: SecretSlice<u8>,
    principal: Arc<Principal>,
    shown: Instant,
}

/// How long a connection goes by what it was told of a token, at most: as a grant. And a tenth of the time for which the
/// answer is fresh, so that it is still asked for again in time.
const LIFE: Duration = Duration::from_secs(1);

impl Bearer {
    /// Compared in constant time, for a proxy may bring requests of many clients on one connection.
    fn is(&self, sent: &[u8], fresh: Duration) -> bool {
        let known = self.sent.expose_secret();
        self.shown.elapsed() < LIFE.min(fresh / 10)
            && known.len() == sent.len()
            && openssl::memcmp::eq(known, sent)
    }
}

/// What a request is for.
enum Place {
    /// A connector, by its host or by the first `mount` bytes of the path.
    Connector { connector: ConnectorRef, mount: usize },
    /// A target by its own URL.
    Target(Origin),
}

impl Reverse {
    pub fn new(gateway: Arc<Gateway>, client: Client, name: Option<String>) -> Reverse {
        Reverse { gateway, client, name, last: ArcSwapOption::empty(), bearer: ArcSwapOption::empty() }
    }

    /// A request of this connection has proved whose it is.
    pub fn is_known(&self) -> bool {
        self.last.load().is_some()
    }

    /// Of the last request that has.
    pub fn last(&self) -> Option<Arc<Passage>> {
        self.last.load_full()
    }

    pub async fn passage(&self, request: &Request) -> Result<(Arc<Passage>, Option<Box<Turned>>)> {
        if request.method == http::Method::CONNECT {
            return Err(Error::Malformed(
                "a CONNECT must be the first request of its connection, over HTTP/1.1",
            ));
        }
        let authority = Authority::parse(&request.authority)
            .map_err(|_| Error::Malformed("the Host header is not valid"))?;
        let table = self.gateway.parts.table.load_full();
        match place(&table, &authority, request, self.client.secure)? {
            Place::Connector { connector, mount } => {
                self.named(&authority)?;
                let principal = self.bearer(&request.headers).await?;
                let turned = self.turn(&table, &connector, mount, request)?;
                Ok((self.same_or_new(principal, connector, Aim::Address), turned))
            }
            Place::Target(origin) => Ok((self.forward(&table, origin, request).await?, None)),
        }
    }

    /// A certificate vouches for one host: what a client asks of another belongs on another connection (RFC
    /// 9110, 7.4).
    fn named(&self, authority: &Authority) -> Result<()> {
        match &self.name {
            Some(name) if *name != authority.host => Err(Error::Misdirected(authority.host.clone())),
            _ => Ok(()),
        }
    }

    async fn bearer(&self, headers: &HeaderMap) -> Result<Arc<Principal>> {
        let sent = single(headers, &header::AUTHORIZATION, "two Authorization headers")?
            .ok_or_else(|| Error::Token("no Authorization was sent".to_owned()))?
            .as_bytes();
        let fresh = self.gateway.parts.settings.load().authorization.fresh;
        if let Some(known) = self.bearer.load().as_ref().filter(|known| known.is(sent, fresh)) {
            return Ok(known.principal.clone());
        }
        let token = proxy_auth::parse_token(sent).map_err(|error| Error::Token(error.to_string()))?;
        let principal = self.valid(&token).await?.map_err(|why| Error::Token(why.to_owned()))?;
        let sent = SecretSlice::from(sent.to_vec());
        self.bearer.store(Some(Arc::new(Bearer {
            sent,
            principal: principal.clone(),
            shown: Instant::now(),
        })));
        Ok(principal)
    }

    /// The principal, or why it is none.
    async fn valid(&self, token: &SecretString) -> Result<std::result::Result<Arc<Principal>, &'static str>> {
        match self.gateway.parts.authenticator.authenticate(token).await {
            Ok(Identity::Valid(principal)) => Ok(Ok(principal)),
            Ok(Identity::Expired(_)) => Ok(Err("the token has expired")),
            Err(Rejection::Invalid(why)) => Ok(Err(why)),
            Err(Rejection::Unavailable) => Err(Error::ReviewUnavailable),
        }
    }

    /// The request as the target shall see it, and the way back for what its answer points to. Without a
    /// usable route both stay: the request will not be forwarded.
    fn turn(
        &self,
        table: &Table,
        connector: &ConnectorRef,
        mount: usize,
        request: &Request,
    ) -> Result<Option<Box<Turned>>> {
        let Some(Entry::Usable(route)) = table.lookup(connector) else { return Ok(None) };
        let Some(target) = route.targets.first() else { return Ok(None) };
        let (asked, added) = joined(request.path.as_str(), mount, target);
        let mount = request.path.as_str()[..mount].to_owned();
        let path = asked
            .map(|path| PathAndQuery::try_from(path).map_err(|_| Error::Malformed("the path is not valid")))
            .transpose()?;
        let scheme = if self.client.secure { "https" } else { "http" };
        let origin = format!("{scheme}://{}", request.authority);
        let rewrite = Rewrite { origin, mount, added, secure: self.client.secure };
        Ok(Some(Box::new(Turned { path, rewrite })))
    }

    /// Absolute-form: the login names the connectors, the URL the target.
    async fn forward(&self, table: &Table, origin: Origin, request: &Request) -> Result<Arc<Passage>> {
        let given = login::login(&request.headers)?.map_err(|error| Error::Login(error.to_string()))?;
        login::bounded(&self.gateway, &given)?;
        let principal = self.valid(&given.token).await?.map_err(|why| Error::Login(why.to_owned()))?;
        let serving = login::serving(table, &given, &origin);
        let covers =
            |connector: &&ConnectorRef| login::covers(table, connector, &origin, request.path.as_str());
        let connector = serving.iter().find(covers).or(serving.first()).cloned();
        let connector = connector.ok_or_else(|| Error::Login("the login names no connector".to_owned()))?;
        login::reachable(&self.gateway, &principal, table, &connector, &given, &origin).await?;
        Ok(self.same_or_new(principal, connector, Aim::Origin(origin)))
    }

    fn same_or_new(&self, principal: Arc<Principal>, connector: ConnectorRef, aim: Aim) -> Arc<Passage> {
        let same = |known: &Passage| {
            known.connector == connector
                && known.aim == aim
                && (Arc::ptr_eq(&known.principal, &principal) || *known.principal == *principal)
        };
        if let Some(known) = self.last.load_full().filter(|known| same(known)) {
            return known;
        }
        let passage = Arc::new(Passage::new(self.gateway.clone(), principal, connector, aim, self.client));
        self.last.store(Some(passage.clone()));
        passage
    }
}

/// Where a request belongs. A connector's own host comes first; then an `http://` URL of somebody else's;
/// then the path.
fn place(table: &Table, authority: &Authority, request: &Request, secure: bool) -> Result<Place> {
    if let Some(connector) = table.lookup_host(&authority.host) {
        return Ok(Place::Connector { connector: connector.clone(), mount: 0 });
    }
    let own = table.is_own_host(&authority.host);
    if request.scheme == Some(Scheme::Http) && !own {
        let origin = Origin { tls: false, host: authority.host.clone(), port: authority.port.unwrap_or(80) };
        return Ok(Place::Target(origin));
    }
    if request.scheme == Some(Scheme::Https) && !own && !secure {
        return Err(Error::Malformed("an https URL without a tunnel: open one with CONNECT"));
    }
    match mounted(request.path.path()) {
        Some((connector, mount)) => Ok(Place::Connector { connector, mount }),
        None => Err(Error::NoConnector(authority.host.clone())),
    }
}

/// `/namespaces/<ns>/connectors/<name>` at the beginning of a path: the connector, and how many bytes name
/// it.
fn mounted(path: &str) -> Option<(ConnectorRef, usize)> {
    let rest = path.strip_prefix("/namespaces/")?;
    let (namespace, rest) = rest.split_once("/connectors/")?;
    let name = rest.split('/').next()?;
    let connector = ConnectorRef::new(namespace, name)?;
    Some((connector, "/namespaces/".len() + namespace.len() + "/connectors/".len() + name.len()))
}

/// The path for the target, if it is another than the client's; and whether the address's prefix was put
/// before it. A path that has the prefix already stays: kubeconfigs name it, and so does what a target says
/// of itself. Where a connector's address ends in `/a` and the target has an `/a/a`, a client must name the
/// first too.
fn joined(path: &str, mount: usize, target: &Target) -> (Option<String>, bool) {
    let rest = &path[mount..];
    let slash = if rest.starts_with('/') { "" } else { "/" };
    match target.covers(rest) {
        PathMatch::Inside if mount == 0 => (None, false),
        PathMatch::Inside => (Some(format!("{slash}{rest}")), false),
        // Refused when it is admitted.
        PathMatch::Suspicious => (None, false),
        PathMatch::Outside => (Some(format!("{}{slash}{rest}", target.prefix)), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_connector_by_its_first_four_segments() {
        for (path, expected) in [
            ("/namespaces/demo/connectors/git/a/b", Some(("demo/git", 31))),
            ("/namespaces/demo/connectors/git.example.com", Some(("demo/git.example.com", 43))),
            ("/namespaces/demo/connectors/", None),
            ("/namespaces/demo/connectors/Git/a", None),
            ("/namespaces/demo/x/connectors/git", None),
            ("/namespaces//connectors/git", None),
            ("/namespaces/demo/connectors/%67it", None),
            ("/namespaces/demo/connectors/../git", None),
            ("/api/namespaces/demo/connectors/git", None),
        ] {
            let found = mounted(path);
            let found = found.as_ref().map(|(connector, mount)| (connector.to_string(), *mount));
            assert_eq!(found, expected.map(|(name, mount)| (name.to_owned(), mount)), "{path}");
        }
    }

    #[test]
    fn a_path_is_joined_to_the_address_unless_it_has_its_prefix() {
        let at = |address: &str| Target::parse(address).unwrap();
        let mount = "/namespaces/demo/connectors/git".len();
        for (address, path, mount, expected) in [
            ("https://a", "/api?x=1", 0, "/api?x=1"),
            ("https://a/base", "/api?x=1", 0, "/base/api?x=1"),
            ("https://a/base", "/base/api?x=1", 0, "/base/api?x=1"),
            ("https://a/base", "/basement", 0, "/base/basement"),
            ("https://a/base", "/", 0, "/base/"),
            ("https://a/base", "/../x", 0, "/../x"),
            ("https://a", "/namespaces/demo/connectors/git", mount, "/"),
            ("https://a", "/namespaces/demo/connectors/git?x=1", mount, "/?x=1"),
            ("https://a/base", "/namespaces/demo/connectors/git/api", mount, "/base/api"),
            ("https://a/base", "/namespaces/demo/connectors/git?x=1", mount, "/base/?x=1"),
            ("https://a/base", "/namespaces/demo/connectors/git/base/api", mount, "/base/api"),
        ] {
            let (changed, _) = joined(path, mount, &at(address));
            assert_eq!(changed.as_deref().unwrap_or(path), expected, "{address} {path}");
        }
    }
}
