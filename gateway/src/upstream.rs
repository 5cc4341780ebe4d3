//! Connections to targets: own name resolution, the dial policy, TLS with our verdict, pools per route. Comes after `credential`; `relay`
//! and `upstream/fetch` (for probes) speak HTTP over what this gives.

pub mod fetch;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use connectors_api::target::Target;
use moka::future::Cache;
use openssl::x509::X509;
use openssl::x509::store::X509Store;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::v2::{Connector, H2HandshakeSettings, handshake};
use pingora_core::protocols::http::v2::client::Http2Session;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_error::ErrorType;
use tokio::time::{Instant, timeout_at};

use crate::accept::KEEPALIVE;
use crate::credential::Credentials;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::parts::Parts;
use crate::passage;
use crate::route::Route;
use crate::settings::Settings;
use crate::target_policy::{self, ApiServer};
use crate::trust::{self, Anchors, Judged, Verdict};

/// How long resolved addresses are used. Cluster DNS has 5–30 s.
const DIAL_LIFE: Duration = Duration::from_secs(20);
const DIALS: u64 = 20_000;
/// Concurrent streams on one HTTP/2 connection to a target; Go's server allows 250.
const MAX_STREAMS: u32 = 200;
/// What one stream may have on its way to a reader that has stopped.
pub const STREAM_WINDOW: u32 = 256 << 10;
/// With several addresses, one that does not answer may take this long before the next is tried.
const NEXT_ADDRESS: Duration = Duration::from_millis(1500);

pub struct Upstream {
    connector: Connector,
    dials: Cache<(u64, String), Arc<Dial>>,
    system: Arc<X509Store>,
    settings: Arc<ArcSwap<Settings>>,
    credentials: Arc<Credentials>,
    metrics: Arc<Metrics>,
    api_server: ApiServer,
}

/// A target of a route, resolved: whom to dial and how to know it.
pub struct Dial {
    pub host: String,
    /// For `Host` and `:authority`.
    pub authority: String,
    namespace: String,
    tls: bool,
    peers: Vec<HttpPeer>,
}

impl Dial {
    pub fn default_port(&self) -> u16 {
        if self.tls { 443 } else { 80 }
    }
}

/// A verified connection, or a stream of one. `peer`: which address of the dial it belongs to, for its way back to the pool.
pub enum Session {
    H1 { stream: Stream, reused: bool, peer: usize },
    H2 { session: Box<Http2Session>, reused: bool, peer: usize },
}

/// Which connection a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A pooled one, or a new one.
    Any,
    /// A new one: the pool may hold more that the target has closed.
    Fresh,
    /// A new one that speaks HTTP/1.1: for upgrades. No pooled one, since it might be dead, and nobody could say then whether an exec has run.
    FreshH1,
}

impl Upstream {
    pub fn new(parts: &Parts, api_server: ApiServer) -> anyhow::Result<Upstream> {
        let settings = parts.settings.load();
        Ok(Upstream {
            connector: Connector::new(Some(ConnectorOptions::new(settings.upstream.pool_size))),
            dials: Cache::builder().max_capacity(DIALS).time_to_live(DIAL_LIFE).build(),
            system: trust::system_roots()?,
            settings: parts.settings.clone(),
            credentials: parts.credentials.clone(),
            metrics: parts.metrics.clone(),
            api_server,
        })
    }

    /// Resolves a target of the route, single flight, remembered for some seconds.
    pub async fn dial(&self, route: &Route, target: &Target) -> Result<Arc<Dial>> {
        let key = (route.pool_key, target.origin());
        let found = self.dials.try_get_with(key, self.resolve(route, target)).await;
        found.map_err(|error| Error::clone(&error))
    }

    async fn resolve(&self, route: &Route, target: &Target) -> Result<Arc<Dial>> {
        let given = self.credentials.certificates(route).await.map_err(|error| passage::unusable(route, error))?;
        let anchors = Arc::new(self.anchors(route, target, &given)?);
        let peers = self.peers(route, target, &anchors, false).await?;
        Ok(Arc::new(Dial::new(route, target, peers)))
    }

    fn anchors(&self, route: &Route, target: &Target, given: &[X509]) -> Result<Anchors> {
        let policy = self.settings.load().upstream.unverified;
        let anchors = Anchors::new(target, policy, self.system.clone(), given, &route.trust.pins);
        anchors.map_err(|error| Error::Internal(format!("trust store: {error}")))
    }

    async fn peers(&self, route: &Route, target: &Target, anchors: &Arc<Anchors>, keep_chain: bool) -> Result<Vec<HttpPeer>> {
        let settings = self.settings.load_full();
        let unresolvable = |cause: String| Error::Unresolvable { host: target.host.clone(), cause };
        let lookup = tokio::net::lookup_host((target.host.as_str(), target.port));
        let found =
            tokio::time::timeout(settings.timeouts.connect, lookup).await.map_err(|_| unresolvable("timed out".to_owned()))?;
        let mut addresses: Vec<SocketAddr> = found.map_err(|error| unresolvable(error.to_string()))?.collect();
        // The same order each time: a pool is per address.
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(unresolvable("no address".to_owned()));
        }
        let peer = |address| peer(address, target, route.pool_key, anchors.clone(), &settings, keep_chain);
        Ok(addresses.into_iter().map(peer).collect())
    }

    /// A connection that is verified and may be written to.
    pub async fn session(&self, dial: &Dial, want: Want) -> Result<Session> {
        if want == Want::Any {
            for (index, peer) in dial.peers.iter().enumerate() {
                if let Some(session) = self.pooled(peer, index).await {
                    return Ok(session);
                }
            }
        }
        let settings = self.settings.load_full();
        let deadline = Instant::now() + settings.timeouts.connect;
        let mut failure = Error::ConnectTimeout { host: dial.host.clone() };
        for (index, peer) in dial.peers.iter().enumerate() {
            let peer = &*suited(peer, want);
            let last = index + 1 == dial.peers.len();
            let until = if last { deadline } else { deadline.min(Instant::now() + NEXT_ADDRESS) };
            match timeout_at(until, self.connect(dial, peer, index, &settings)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = Error::ConnectTimeout { host: dial.host.clone() },
            }
            // Another address must not be asked to vouch for one that has changed.
            if matches!(failure, Error::CertificateChanged { .. }) || Instant::now() >= deadline {
                break;
            }
        }
        let connects = &self.metrics.upstream_connects;
        match failure {
            Error::Denied { .. } | Error::CertificateChanged { .. } | Error::Unverified { .. } => connects.refused.inc(),
            _ => connects.failed.inc(),
        }
        Err(failure)
    }

    async fn pooled(&self, peer: &HttpPeer, index: usize) -> Option<Session> {
        if peer.options.alpn != ALPN::H1
            && let Ok(Some(session)) = self.connector.reused_http_session(peer).await
        {
            return Some(Session::H2 { session: Box::new(session), reused: true, peer: index });
        }
        let stream = self.connector.transport().reused_stream(peer).await?;
        Some(Session::H1 { stream, reused: true, peer: index })
    }

    /// Policy, TCP, TLS, verdict; only then the first byte of HTTP.
    async fn connect(&self, dial: &Dial, peer: &HttpPeer, index: usize, settings: &Settings) -> Result<Session> {
        let stream = self.verified(dial, peer, settings).await?;
        self.metrics.upstream_connects.ok.inc();
        if stream.selected_alpn_proto() != Some(ALPN::H2) {
            return Ok(Session::H1 { stream, reused: false, peer: index });
        }
        let mut h2 = H2HandshakeSettings::new();
        h2.max_streams = MAX_STREAMS as usize;
        // pingora waits 5 s for the answer, then ends the connection and all its streams.
        h2.ping_interval = Some(settings.timeouts.ping);
        h2.stream_window_size = Some(STREAM_WINDOW);
        h2.connection_window_size = Some(connection_window(MAX_STREAMS));
        let broken = |cause: String| Error::Protocol { host: dial.host.clone(), cause };
        let connection = handshake(stream, h2).await.map_err(|error| broken(error.to_string()))?;
        let session = connection.spawn_stream().await.map_err(|error| broken(error.to_string()))?;
        let session = session.ok_or_else(|| broken("no free stream on a new connection".to_owned()))?;
        if connection.more_streams_allowed() {
            self.connector.in_use_pool().insert(peer.reuse_hash(), connection);
        }
        Ok(Session::H2 { session: Box::new(session), reused: false, peer: index })
    }

    async fn verified(&self, dial: &Dial, peer: &HttpPeer, settings: &Settings) -> Result<Stream> {
        let stream = self.raw(dial, peer, settings).await?;
        if !dial.tls {
            return Ok(stream);
        }
        let digest = stream.get_ssl_digest();
        let judged = digest.as_ref().and_then(|digest| digest.extension.get::<Judged>());
        match judged.map(|judged| &judged.verdict) {
            Some(Verdict::Trusted) => Ok(stream),
            Some(Verdict::Changed { fingerprint }) => {
                Err(Error::CertificateChanged { host: dial.host.clone(), cause: format!("key {fingerprint}") })
            }
            Some(Verdict::Unknown { cause }) => Err(Error::Unverified { host: dial.host.clone(), cause: cause.clone() }),
            None => Err(Error::Internal("a connection without a verdict".to_owned())),
        }
    }

    /// Connected, not judged yet.
    async fn raw(&self, dial: &Dial, peer: &HttpPeer, settings: &Settings) -> Result<Stream> {
        let Some(address) = peer.address().as_inet() else { return Err(Error::Internal("a peer without address".to_owned())) };
        let asked = target_policy::Dial { namespace: &dial.namespace, host: &dial.host, address: *address };
        target_policy::check(&settings.targets, &self.api_server.load(), &asked)?;
        self.connector.transport().new_stream(peer).await.map_err(|error| unreachable(dial, &error))
    }

    /// Gives a connection back. `clean`: its exchange is over to the last byte, with nothing unread; otherwise HTTP/1.1 is closed. A stream
    /// of HTTP/2 is reset if it has not ended, and its connection is always given back: one without streams would never idle out else.
    pub fn release(&self, dial: &Dial, session: Session, clean: bool) {
        let idle = Some(self.settings.load().upstream.idle);
        match session {
            Session::H1 { stream, peer, .. } => {
                if let Some(peer) = dial.peers.get(peer).filter(|_| clean) {
                    self.connector.transport().release_stream(stream, peer.reuse_hash(), idle);
                }
            }
            Session::H2 { session, peer, .. } => {
                if let Some(peer) = dial.peers.get(peer) {
                    self.connector.release_http_session(*session, peer, idle);
                }
            }
        }
    }
}

impl Dial {
    fn new(route: &Route, target: &Target, peers: Vec<HttpPeer>) -> Dial {
        Dial {
            host: target.host.clone(),
            authority: target.authority(),
            namespace: route.connector.namespace.clone(),
            tls: target.tls,
            peers,
        }
    }
}

/// Room for all streams of a connection at once: those whose readers have stopped leave the others theirs. Greater ones than 2 GiB do not
/// exist (RFC 9113, 6.9.1).
pub fn connection_window(streams: u32) -> u32 {
    streams.saturating_mul(STREAM_WINDOW).clamp(STREAM_WINDOW, i32::MAX as u32)
}

/// A peer with the ALPN for what is wanted.
fn suited(peer: &HttpPeer, want: Want) -> Cow<'_, HttpPeer> {
    if want != Want::FreshH1 {
        return Cow::Borrowed(peer);
    }
    let mut peer = peer.clone();
    peer.options.alpn = ALPN::H1;
    Cow::Owned(peer)
}

fn peer(
    address: SocketAddr,
    target: &Target,
    pool_key: u64,
    anchors: Arc<Anchors>,
    settings: &Settings,
    keep_chain: bool,
) -> HttpPeer {
    // The host is never empty: an empty SNI would change what pingora does. For an IP address OpenSSL's wrapper sends none.
    let mut peer = HttpPeer::new(address, target.tls, target.host.clone());
    peer.group_key = pool_key;
    let options = &mut peer.options;
    options.verify_cert = false;
    options.verify_hostname = false;
    options.alpn = if settings.upstream.h2 && !keep_chain { ALPN::H2H1 } else { ALPN::H1 };
    options.max_h2_streams = MAX_STREAMS as usize;
    options.tcp_keepalive = Some(KEEPALIVE);
    options.total_connection_timeout = Some(settings.timeouts.connect);
    options.upstream_tls_handshake_complete_hook = Some(Arc::new(move |ssl| {
        let served =
            if keep_chain { ssl.peer_cert_chain().map(|chain| chain.iter().map(ToOwned::to_owned).collect()) } else { None };
        Some(Arc::new(Judged { verdict: anchors.judge(ssl), served: served.unwrap_or_default() }))
    }));
    peer
}

/// The client is told what a `dial` error says, without the address; the log has the rest.
fn unreachable(dial: &Dial, error: &pingora_error::Error) -> Error {
    tracing::debug!(host = %dial.host, %error, "connect failed");
    let words = match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => return Error::ConnectTimeout { host: dial.host.clone() },
        ErrorType::ConnectRefused => "connection refused",
        ErrorType::ConnectNoRoute => "no route to host",
        ErrorType::TLSHandshakeFailure => "TLS handshake failed",
        _ => "connection failed",
    };
    Error::Unreachable { host: dial.host.clone(), cause: words.to_owned() }
}
