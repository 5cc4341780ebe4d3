//! Fifth stage: connections to targets. Own name resolution, the dial policy, then `connect` with our
//! verdict, or one of a `pool`. `relay` and `probe/fetch` speak HTTP over what this gives.

pub(crate) mod connect;
mod dial;
pub mod multiplex;
pub mod policy;
pub mod ranges;
mod pool;
mod reach;
mod resolve;
pub mod trust;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use connectors_api::target::Target;
use http::HeaderMap;
use http::uri::Authority;
use moka::future::Cache;
use openssl::ssl::SslContext;
use openssl::x509::X509;
use openssl::x509::store::X509Store;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::tls::SslStream;
use pingora_core::protocols::{ALPN, Stream};
use tokio::time::{Instant, timeout_at};

use self::connect::Renegotiation;
use self::dial::Address;
pub use self::dial::{Dial, Left, Session, Taken, Want};
use self::multiplex::Multiplex;
use self::policy::{Candidate, Place, Surroundings};
use self::pool::Pools;
use self::reach::more_telling;
use self::resolve::Resolver;
use self::trust::Anchors;
use crate::error::{Error, Result};
use crate::http::headers;
use crate::metrics::Metrics;
use crate::settings::{Plaintext, Settings};
use crate::table::route::{Route, Table};
use crate::tls::issuer;

/// How long resolved addresses are used. Cluster DNS has 5–30 s.
const DIAL_LIFE: Duration = Duration::from_secs(20);
const DIALS: u64 = 20_000;
/// With several addresses, the TLS handshake of one may take this long before the next is tried.
const NEXT_ADDRESS: Duration = Duration::from_millis(1500);

pub struct Upstream {
    tls: SslContext,
    legacy_tls: SslContext,
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

impl Upstream {
    pub fn new(
        settings: Arc<ArcSwap<Settings>>,
        table: Arc<ArcSwap<Table>>,
        issuer: issuer::Current,
        metrics: Arc<Metrics>,
        surroundings: Surroundings,
    ) -> anyhow::Result<Upstream> {
        Ok(Upstream {
            tls: connect::context(Renegotiation::Secure)?,
            legacy_tls: connect::context(Renegotiation::Legacy)?,
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
        let table = self.table.load_full();
        if table.leads_here(&target.host) {
            return Err(Error::Itself { host: target.host.clone() });
        }
        let in_cluster = table.is_in_cluster(&target.host);
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), target.port);
        let named = Candidate {
            namespace: &route.connector.namespace,
            host: &target.host,
            in_cluster,
            address: nowhere,
        };
        policy::check_name(&self.settings.load().targets, &named)
            .inspect_err(|_| self.metrics.in_cluster.denied.inc())?;
        let anchors = if target.tls { Some(self.anchors(route, target, given)?) } else { None };
        let origin = target.origin();
        let place = |address| Address { address, pool: self.pools.of(route.pool_key, &origin, address) };
        Ok(Dial {
            host: target.host.clone(),
            authority: Authority::try_from(target.authority())
                .map_err(|error| Error::Internal(format!("{origin}: {error}")))?,
            namespace: route.connector.namespace.clone(),
            in_cluster,
            server_name: route.server_name(target).to_owned(),
            anchors,
            legacy_tls: route.trust.legacy_tls,
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
        if self.plaintext(dial) == Some(Plaintext::Deny) {
            return Err(Error::Plaintext { host: dial.host.clone() });
        }
        if want == Want::Any
            && let Some(session) =
                dial.pooled(settings.upstream.h2, |address| self.judge(dial, address, &settings).is_ok())
        {
            return Ok(session);
        }
        // Boxed: most requests find one.
        Box::pin(self.connect(dial, want, &settings.clone())).await
    }

    async fn connect(&self, dial: &Dial, want: Want, settings: &Settings) -> Result<Session> {
        let connects = &self.metrics.upstream_connects;
        match self
            .reach(dial, settings, |place, socket| self.begin(dial, place, socket, want, settings))
            .await
        {
            Ok(session) => {
                connects.ok.inc();
                Ok(session)
            }
            Err(error) => {
                match error {
                    Error::Denied { .. }
                    | Error::InCluster { .. }
                    | Error::Plaintext { .. }
                    | Error::Itself { .. }
                    | Error::CertificateChanged { .. }
                    | Error::Unverified { .. } => connects.refused.inc(),
                    _ => connects.failed.inc(),
                }
                Err(error)
            }
        }
    }

    /// Policy and TCP to each address until one comes through `begin`, within the time that is set for all.
    pub(crate) async fn reach<T, F: Future<Output = Result<T>>>(
        &self,
        dial: &Dial,
        settings: &Settings,
        begin: impl Fn(usize, Socket) -> F,
    ) -> Result<T> {
        let deadline = Instant::now() + settings.timeouts.connect;
        let late = || Error::ConnectTimeout { host: dial.host.clone() };
        let addresses: Vec<SocketAddr> = dial.addresses.iter().map(|one| one.address).collect();
        let mut waiting = reach::in_turns(&addresses);
        let mut failure = None;
        while !waiting.is_empty() && Instant::now() < deadline {
            let tcp = reach::first(&mut waiting, |place| self.tcp(dial, addresses[place], settings));
            let (place, socket) = match timeout_at(deadline, tcp).await {
                Ok(Ok(reached)) => reached,
                Ok(Err(error)) => return Err(more_telling(failure, error)),
                Err(_) => return Err(failure.unwrap_or_else(late)),
            };
            let until =
                if waiting.is_empty() { deadline } else { deadline.min(Instant::now() + NEXT_ADDRESS) };
            match timeout_at(until, begin(place, socket)).await {
                Ok(Ok(begun)) => return Ok(begun),
                // Another address must not be asked to vouch for one that has changed.
                Ok(Err(error @ Error::CertificateChanged { .. })) => return Err(error),
                Ok(Err(error)) => failure = Some(more_telling(failure, error)),
                Err(_) => failure = Some(late()),
            }
        }
        Err(failure.unwrap_or_else(late))
    }

    /// TLS, verdict; only then the first byte of HTTP.
    async fn begin(
        &self,
        dial: &Dial,
        place: usize,
        socket: Socket,
        want: Want,
        settings: &Settings,
    ) -> Result<Session> {
        let stream: Stream = match &dial.anchors {
            None => Box::new(socket),
            Some(anchors) => {
                let h2 = settings.upstream.h2 && want != Want::FreshH1;
                connect::judged(self.tls(dial, socket, h2).await?, anchors, &dial.host)?
            }
        };
        if stream.selected_alpn_proto() != Some(ALPN::H2) {
            return Ok(Session::H1 { stream, taken: Taken::New, place });
        }
        let broken = |cause: String| Error::Protocol { host: dial.host.clone(), cause };
        let connection =
            Multiplex::start(stream, &settings.timeouts).await.map_err(|error| broken(error.to_string()))?;
        let lent =
            connection.lend().ok_or_else(|| broken("no free stream on a new connection".to_owned()))?;
        if let Some(Address { pool, .. }) = dial.addresses.get(place) {
            self.pools.share(pool, connection);
        }
        Ok(Session::H2 { lent, taken: Taken::New })
    }

    /// What is to be said of a target without TLS, the worst of its addresses; none of others.
    pub(crate) fn plaintext(&self, dial: &Dial) -> Option<Plaintext> {
        if dial.anchors.is_some() {
            return None;
        }
        let settings = self.settings.load();
        let of = |Address { address, .. }: &Address| {
            policy::plaintext(&settings.upstream, &dial.candidate(*address))
        };
        dial.addresses.iter().find_map(of)
    }

    /// A handshake, not judged yet.
    pub(crate) async fn tls(&self, dial: &Dial, socket: Socket, h2: bool) -> Result<SslStream<Socket>> {
        let context = if dial.legacy_tls { &self.legacy_tls } else { &self.tls };
        connect::tls(socket, context, &dial.server_name, h2).await
    }

    async fn tcp(&self, dial: &Dial, address: SocketAddr, settings: &Settings) -> Result<Socket> {
        match self.judge(dial, address, settings) {
            Ok(Place::Outside) => {}
            Ok(Place::InCluster) => {
                self.metrics.in_cluster.observed.inc();
                let rule = policy::allowing(&dial.candidate(address));
                tracing::warn!(
                    host = dial.host,
                    %address,
                    rule,
                    "a target in this cluster, which targets.in_cluster: deny would refuse; targets.allow with this rule would not"
                );
            }
            Err(error) => {
                if matches!(error, Error::InCluster { .. }) {
                    self.metrics.in_cluster.denied.inc();
                }
                return Err(error);
            }
        }
        connect::tcp(address, &dial.host).await
    }

    fn judge(&self, dial: &Dial, address: SocketAddr, settings: &Settings) -> Result<Place> {
        let known = self.surroundings.load();
        policy::check(&settings.targets, &settings.listeners, &known, &dial.candidate(address))
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
