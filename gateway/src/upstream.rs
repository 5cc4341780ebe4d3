//! Fifth stage: connections to targets. Own name resolution, the dial policy, then `connect` with our
//! verdict, or one of a `pool`. `relay` and `probe/fetch` speak HTTP over what this gives.

pub(crate) mod connect;
pub mod multiplex;
pub mod policy;
mod pool;
mod resolve;
pub mod trust;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use connectors_api::target::{Target, default_port};
use http::HeaderMap;
use http::uri::Authority;
use moka::future::Cache;
use openssl::ssl::SslContext;
use openssl::x509::X509;
use openssl::x509::store::X509Store;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::{ALPN, Stream};
use tokio::time::{Instant, timeout_at};

use self::multiplex::{Lent, Multiplex};
use self::policy::Surroundings;
use self::pool::{Pool, Pools};
use self::resolve::Resolver;
use self::trust::Anchors;
use crate::error::{Error, Result, Retry};
use crate::http::headers;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::table::route::{Route, Table};
use crate::tls::issuer;

/// How long resolved addresses are used. Cluster DNS has 5–30 s.
const DIAL_LIFE: Duration = Duration::from_secs(20);
const DIALS: u64 = 20_000;
/// With several addresses, one that does not answer may take this long before the next is tried.
const NEXT_ADDRESS: Duration = Duration::from_millis(1500);

pub struct Upstream {
    pub(crate) tls: SslContext,
    pools: Arc<Pools>,
    resolver: Resolver,
    /// For probes: what they find is not what somebody was told before.
    anew: Resolver,
    dials: Cache<(u64, String), Arc<Dial>>,
    system: Arc<X509Store>,
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    metrics: Arc<Metrics>,
    table: Arc<ArcSwap<Table>>,
    issuer: issuer::Current,
    surroundings: Surroundings,
}

/// A target of a route, resolved: whom to dial and how to know it.
pub struct Dial {
    pub host: String,
    /// For `Host` and `:authority`.
    pub authority: Authority,
    namespace: String,
    /// For SNI and the certificate; the host, unless the connector says otherwise.
    pub(crate) server_name: String,
    /// None: plain HTTP.
    pub(crate) anchors: Option<Anchors>,
    pub(crate) addresses: Vec<Address>,
}

pub(crate) struct Address {
    pub(crate) address: SocketAddr,
    pool: Arc<Pool>,
}

/// A verified connection, or leave for a stream on one.
pub enum Session {
    /// `place`: which address of the dial it belongs to, for its way back to the pool.
    H1 {
        stream: Stream,
        taken: Taken,
        place: usize,
    },
    H2 {
        lent: Lent,
        taken: Taken,
    },
}

/// Where a session's connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    New,
    /// The target may have closed it in the meantime, with nothing to do with this request.
    FromPool,
}

impl Taken {
    /// What a break before the first byte of an answer says about the request.
    pub fn retry(self) -> Retry {
        match self {
            Taken::New => Retry::Never,
            Taken::FromPool => Retry::IfIdempotent,
        }
    }
}

/// What an exchange leaves of its connection to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is over to the last byte in both directions, with nothing unread: the next may begin.
    Clean,
    Spent,
}

/// Which connection a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A pooled one, or a new one.
    Any,
    /// A new one: the pool may hold more that the target has closed.
    Fresh,
    /// A new one that speaks HTTP/1.1: for upgrades. No pooled one, since it might be dead, and nobody could
    /// say then whether an exec has run.
    FreshH1,
}

impl Dial {
    pub fn default_port(&self) -> u16 {
        default_port(self.anchors.is_some())
    }
}

impl Upstream {
    pub fn new(
        settings: Arc<ArcSwap<Settings>>,
        table: Arc<ArcSwap<Table>>,
        issuer: issuer::Current,
        metrics: Arc<Metrics>,
        surroundings: Surroundings,
    ) -> anyhow::Result<Upstream> {
        Ok(Upstream {
            tls: connect::context()?,
            pools: Pools::new(settings.clone()),
            resolver: Resolver::new(resolve::ANSWERS)?,
            anew: Resolver::new(0)?,
            dials: Cache::builder().max_capacity(DIALS).time_to_live(DIAL_LIFE).build(),
            system: trust::system_roots()?,
            settings,
            metrics,
            table,
            issuer,
            surroundings,
        })
    }

    /// Notes in a request that it has passed us, and refuses one that had before. Until there is an issuer
    /// nothing has come by a tunnel.
    pub fn pass_hop(&self, headers: &mut HeaderMap) -> Result<()> {
        match self.issuer.load().as_ref() {
            Some(issuer) => headers::pass_hop(headers, &issuer.installation),
            None => Ok(()),
        }
    }

    /// Resolves a target of the route, single flight, remembered for some seconds. `given`: the CA
    /// certificates of the connector's Secrets.
    pub async fn dial(&self, route: &Route, target: &Target, given: &[X509]) -> Result<Arc<Dial>> {
        let key = (route.pool_key, target.origin());
        let found = self
            .dials
            .try_get_with(key, async {
                self.resolved(&self.resolver, route, target, given).await.map(Arc::new)
            })
            .await;
        found.map_err(|error| Error::clone(&error))
    }

    /// The same for a probe: asked now.
    pub(crate) async fn resolve(&self, route: &Route, target: &Target, given: &[X509]) -> Result<Dial> {
        self.resolved(&self.anew, route, target, given).await
    }

    async fn resolved(
        &self,
        resolver: &Resolver,
        route: &Route,
        target: &Target,
        given: &[X509],
    ) -> Result<Dial> {
        if self.table.load().leads_here(&target.host) {
            return Err(Error::Itself { host: target.host.clone() });
        }
        let anchors = if target.tls { Some(self.anchors(route, target, given)?) } else { None };
        let origin = target.origin();
        let place = |address| Address { address, pool: self.pools.of(route.pool_key, &origin, address) };
        Ok(Dial {
            host: target.host.clone(),
            authority: Authority::try_from(target.authority())
                .map_err(|error| Error::Internal(format!("{origin}: {error}")))?,
            namespace: route.connector.namespace.clone(),
            server_name: route.server_name(target).to_owned(),
            anchors,
            addresses: self.addresses(resolver, target).await?.into_iter().map(place).collect(),
        })
    }

    fn anchors(&self, route: &Route, target: &Target, given: &[X509]) -> Result<Anchors> {
        let policy = self.settings.load().upstream.unverified;
        let anchors = Anchors::new(
            target,
            route.server_name(target),
            policy,
            self.system.clone(),
            given,
            &route.trust.pins,
        );
        anchors.map_err(|error| Error::Internal(format!("trust store: {error}")))
    }

    async fn addresses(&self, resolver: &Resolver, target: &Target) -> Result<Vec<SocketAddr>> {
        let limit = self.settings.load().timeouts.connect;
        let unresolvable = |cause: String| Error::Unresolvable { host: target.host.clone(), cause };
        let name = self.table.load().absolute(&target.host);
        let lookup = resolver.addresses(&name);
        let found =
            tokio::time::timeout(limit, lookup).await.map_err(|_| unresolvable("timed out".to_owned()))?;
        let found = found.map_err(unresolvable)?;
        let mut addresses: Vec<SocketAddr> =
            found.into_iter().map(|ip| SocketAddr::new(ip, target.port)).collect();
        // The same order each time: a pool is per address.
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(unresolvable("no address".to_owned()));
        }
        Ok(addresses)
    }

    /// A connection that is verified and may be written to.
    pub async fn session(&self, dial: &Dial, want: Want) -> Result<Session> {
        let settings = self.settings.load();
        if want == Want::Any
            && let Some(session) = dial.pooled(settings.upstream.h2)
        {
            return Ok(session);
        }
        // Boxed: most requests find one.
        Box::pin(self.connect(dial, want, &settings.clone())).await
    }

    async fn connect(&self, dial: &Dial, want: Want, settings: &Settings) -> Result<Session> {
        let deadline = Instant::now() + settings.timeouts.connect;
        let mut failure = None;
        for (place, address) in dial.addresses.iter().enumerate() {
            let last = place + 1 == dial.addresses.len();
            let until = if last { deadline } else { deadline.min(Instant::now() + NEXT_ADDRESS) };
            match timeout_at(until, self.connect_to(dial, (place, address), want, settings)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) => failure = Some(more_telling(failure, error)),
                Err(_) => failure = Some(Error::ConnectTimeout { host: dial.host.clone() }),
            }
            // Another address must not be asked to vouch for one that has changed.
            if matches!(failure, Some(Error::CertificateChanged { .. })) || Instant::now() >= deadline {
                break;
            }
        }
        let failure = failure.unwrap_or_else(|| Error::ConnectTimeout { host: dial.host.clone() });
        let connects = &self.metrics.upstream_connects;
        match failure {
            Error::Denied { .. }
            | Error::Itself { .. }
            | Error::CertificateChanged { .. }
            | Error::Unverified { .. } => connects.refused.inc(),
            _ => connects.failed.inc(),
        }
        Err(failure)
    }

    /// Policy, TCP, TLS, verdict; only then the first byte of HTTP.
    async fn connect_to(
        &self,
        dial: &Dial,
        (place, Address { address, pool }): (usize, &Address),
        want: Want,
        settings: &Settings,
    ) -> Result<Session> {
        let socket = self.tcp(dial, *address, settings).await?;
        let stream: Stream = match &dial.anchors {
            None => Box::new(socket),
            Some(anchors) => {
                let h2 = settings.upstream.h2 && want != Want::FreshH1;
                connect::judged(
                    connect::tls(socket, &self.tls, &dial.server_name, h2).await?,
                    anchors,
                    &dial.host,
                )?
            }
        };
        self.metrics.upstream_connects.ok.inc();
        if stream.selected_alpn_proto() != Some(ALPN::H2) {
            return Ok(Session::H1 { stream, taken: Taken::New, place });
        }
        let broken = |cause: String| Error::Protocol { host: dial.host.clone(), cause };
        let connection =
            Multiplex::start(stream, &settings.timeouts).await.map_err(|error| broken(error.to_string()))?;
        let lent =
            connection.lend().ok_or_else(|| broken("no free stream on a new connection".to_owned()))?;
        self.pools.share(pool, connection);
        Ok(Session::H2 { lent, taken: Taken::New })
    }

    pub(crate) async fn tcp(&self, dial: &Dial, address: SocketAddr, settings: &Settings) -> Result<Socket> {
        let asked = policy::Candidate { namespace: &dial.namespace, host: &dial.host, address };
        policy::check(&settings.targets, &settings.listeners, &self.surroundings.load(), &asked)?;
        connect::tcp(address, &dial.host).await
    }

    /// Gives a connection back. One of HTTP/1.1 that is spent is closed; a stream of HTTP/2 that has not
    /// ended was reset when it was dropped.
    pub fn release(&self, dial: &Dial, session: Session, left: Left) {
        if let Session::H1 { stream, place, .. } = session
            && let Some(Address { pool, .. }) = dial.addresses.get(place).filter(|_| left == Left::Clean)
        {
            self.pools.keep(pool, stream);
        }
    }
}

/// Of two addresses of a target: what one that was dialled has met says more than that another may not be.
pub(crate) fn more_telling(before: Option<Error>, now: Error) -> Error {
    match (before, now) {
        (Some(met), Error::Denied { .. }) => met,
        (_, now) => now,
    }
}

impl Dial {
    /// What stands open to one of the addresses. `h2` may have been switched off since.
    fn pooled(&self, h2: bool) -> Option<Session> {
        self.addresses.iter().enumerate().find_map(|(place, Address { pool, .. })| {
            let lent = if h2 { pool.lend() } else { None };
            match lent {
                Some(lent) => Some(Session::H2 { lent, taken: Taken::FromPool }),
                None => pool.idle().map(|stream| Session::H1 { stream, taken: Taken::FromPool, place }),
            }
        })
    }
}
