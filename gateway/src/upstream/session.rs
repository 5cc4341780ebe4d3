//! From a dial to a connection that may be written to: a pooled one, or policy, TCP, TLS and verdict.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::tls::SslStream;
use pingora_core::protocols::{ALPN, Stream};
use tokio::time::{Instant, timeout_at};

use super::coming::Making;
use super::dial::{Address, Dial, Left, Session, Taken, Want};
use super::multiplex::Multiplex;
use super::policy::{self, Place};
use super::reach;
use super::{Upstream, connect};
use crate::error::{Error, Result};
use crate::settings::{Plaintext, Settings};

/// Bytes that a connection takes, with TLS.
const TLS: usize = 24 << 10;
/// And with HTTP/2.
const H2: usize = 48 << 10;

impl Upstream {
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
        let deadline = Instant::now() + settings.timeouts.connect;
        let making = match self.found_or_made(dial, want, settings, deadline).await? {
            Ok(session) => return Ok(session),
            Err(making) => making.map(Arc::new),
        };
        let begin = |place, socket| self.begin(dial, (place, socket), want, making.clone(), settings);
        let made = self.reach(dial, settings, deadline, begin).await;
        self.count(&made);
        match (&made, making) {
            (Ok(Session::H1 { .. }), Some(making)) => making.came(),
            // Its own task says when its target has told how many streams it takes.
            (Ok(Session::H2 { .. }), _) | (_, None) => {}
            (Err(_), Some(making)) => making.failed(),
        }
        made
    }

    fn count(&self, made: &Result<Session>) {
        let connects = &self.metrics.upstream_connects;
        match made {
            Ok(_) => connects.ok.inc(),
            Err(
                Error::Denied { .. }
                | Error::InCluster { .. }
                | Error::Plaintext { .. }
                | Error::Itself { .. }
                | Error::CertificateChanged { .. }
                | Error::NoRoom
                | Error::Unverified { .. },
            ) => connects.refused.inc(),
            Err(_) => connects.failed.inc(),
        }
    }

    /// One that another request is having made, or leave to make one, if others may use it.
    async fn found_or_made(
        &self,
        dial: &Dial,
        want: Want,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<std::result::Result<Session, Option<Making>>> {
        let Some(Address { pool, .. }) = dial.addresses.first() else { return Ok(Err(None)) };
        if want != Want::Any || !settings.upstream.h2 || dial.anchors.is_none() {
            return Ok(Err(None));
        }
        let look = || dial.pooled(true, |address| self.judge(dial, address, settings).is_ok());
        let found = timeout_at(deadline, pool.coming().found_or_made(look, || dial.each())).await;
        match found {
            Ok(found) => Ok(found.map_err(Some)),
            Err(_late) => Err(Error::ConnectTimeout { host: dial.host.clone() }),
        }
    }

    /// Policy and TCP to each address until one comes through `begin`, within the time that is set for all.
    pub(crate) async fn reach<T, F: Future<Output = Result<T>>>(
        &self,
        dial: &Dial,
        settings: &Settings,
        deadline: Instant,
        begin: impl Fn(usize, Socket) -> F,
    ) -> Result<T> {
        let addresses: Vec<SocketAddr> = dial.addresses.iter().map(|one| one.address).collect();
        let tcp = |place: usize| self.tcp(dial, addresses[place], settings);
        reach::first(reach::in_turns(&addresses), deadline, tcp, begin)
            .await?
            .ok_or_else(|| Error::ConnectTimeout { host: dial.host.clone() })
    }

    /// TLS, verdict; only then the first byte of HTTP.
    async fn begin(
        &self,
        dial: &Dial,
        (place, socket): (usize, Socket),
        want: Want,
        making: Option<Arc<Making>>,
        settings: &Settings,
    ) -> Result<Session> {
        let h2 = settings.upstream.h2 && want != Want::FreshH1;
        let takes = match &dial.anchors {
            // A request that waits counts for this one, too.
            None => 0,
            Some(_) if h2 => H2,
            Some(_) => TLS,
        };
        let mut held = dial.share.takes(takes).ok_or(Error::NoRoom)?;
        let stream: Stream = match &dial.anchors {
            None => Box::new(socket),
            Some(anchors) => connect::judged(self.tls(dial, socket, h2).await?, anchors, &dial.host)?,
        };
        let pool = dial.addresses.get(place).map(|Address { pool, .. }| pool);
        let is_h2 = stream.selected_alpn_proto() == Some(ALPN::H2);
        if let Some(pool) = pool.filter(|_| h2) {
            pool.spoke(is_h2);
        }
        if !is_h2 {
            held.shrink(TLS);
            return Ok(Session::H1 { stream, held, taken: Taken::New, place });
        }
        let broken = |cause: String| Error::Protocol { host: dial.host.clone(), cause };
        let connection = Multiplex::start(stream, &settings.timeouts, dial.share.clone(), held, making)
            .await
            .map_err(|error| broken(error.to_string()))?;
        let lent =
            connection.lend().ok_or_else(|| broken("no free stream on a new connection".to_owned()))?;
        if let Some(pool) = pool {
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
            Err(error) => return Err(self.told_in_cluster(error)),
        }
        connect::tcp(address, &dial.host).await
    }

    /// A refusal inside of the cluster is counted and logged with the rule that would allow it, whoever asked.
    pub(super) fn told_in_cluster(&self, error: Error) -> Error {
        if let Error::InCluster { host, address, rule } = &error {
            self.metrics.in_cluster.denied.inc();
            tracing::warn!(
                host,
                address,
                rule,
                "a target in this cluster was refused; targets.allow with this rule would allow it"
            );
        }
        error
    }

    fn judge(&self, dial: &Dial, address: SocketAddr, settings: &Settings) -> Result<Place> {
        let known = self.surroundings.load();
        policy::check(&settings.targets, &settings.listeners, &known, &dial.candidate(address))
    }

    /// Gives a connection back. One of HTTP/1.1 that is spent is closed; a stream of HTTP/2 that has not
    /// ended was reset when it was dropped.
    pub fn release(&self, dial: &Dial, session: Session, left: Left) {
        if let Session::H1 { stream, held, place, .. } = session
            && let Some(Address { pool, .. }) = dial.addresses.get(place).filter(|_| left == Left::Clean)
        {
            self.pools.keep(pool, stream, held);
        }
    }
}
