//! A CONNECT: authenticate → route → authorize → 200 → TLS → requests. Every refusal before the 200 is a 407, a 403 for what is no address
//! of the connector, or a malformed head; all else is told inside, where clients show it. Comes after `entry`.

use std::iter;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use connectors_api::proxy_auth::{ConnectorRef, Login};
use connectors_api::target::PathMatch;
use openssl::ssl::SslContext;
use pingora_core::protocols::{ALPN, Ssl as _, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::admit::authenticate::{Identity, Rejection};
use crate::admit::authorize::Verdict;
use crate::admit::passage::{self, Aim, Client, Origin, Passage};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::home::principal::Principal;
use crate::http::request::{Request, Scheme};
use crate::listen::detect;
use crate::listen::head::Connect;
use crate::metrics::Refusal;
use crate::modes::Front;
use crate::relay::body;
use crate::serve;
use crate::table::route::{Entry, Route, Table};
use crate::tls::handshake;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// First byte of a TLS record that holds a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// One tunnel, shared by the streams in it.
pub struct Tunnel {
    /// For the first connector of the login that has the tunnel's host.
    pub first: Arc<Passage>,
    /// For the others: their addresses differ by path.
    others: Vec<Arc<Passage>>,
}

impl Tunnel {
    fn new(gateway: &Arc<Gateway>, passages: impl Iterator<Item = Passage>) -> Result<Tunnel> {
        let mut passages = passages.map(Arc::new);
        let first = passages.next().ok_or_else(|| Error::Login("the login names no connector".to_owned()))?;
        gateway.parts.metrics.tunnels.inc();
        gateway.parts.metrics.tunnels_open.inc();
        Ok(Tunnel { first, others: passages.collect() })
    }

    /// The first whose address covers the path; without one the first, which says so.
    pub fn passage(&self, request: &Request) -> Result<Arc<Passage>> {
        if request.scheme == Some(Scheme::Http) {
            return Err(Error::Malformed("an http URL inside of a tunnel"));
        }
        if self.others.is_empty() {
            return Ok(self.first.clone());
        }
        let table = self.first.gateway.parts.table.load();
        let covers = |passage: &&Arc<Passage>| match &passage.aim {
            Aim::Origin(origin) => covers(&table, &passage.connector, origin, request.path.as_str()),
            Aim::Address => false,
        };
        Ok(iter::once(&self.first).chain(&self.others).find(covers).unwrap_or(&self.first).clone())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.first.gateway.parts.metrics.tunnels_open.dec();
    }
}

/// Serves one tunnel to its end.
pub async fn serve(gateway: Arc<Gateway>, stream: Stream, connect: Connect, address: Option<IpAddr>, shutdown: &ShutdownWatch) {
    let deadline = Instant::now() + gateway.parts.settings.load().timeouts.handshake;
    // Boxed, each for itself: what waits in one of them for days has no room for the others.
    let (tunnel, context, rest) = match Box::pin(admit(&gateway, connect, address)).await {
        Ok(admitted) => admitted,
        Err(error) => return Box::pin(detect::refuse(&gateway, stream, &error)).await,
    };
    let opened = Box::pin(open(&tunnel, stream, &context, rest, deadline)).await;
    drop(context);
    let front = Front::Tunnel(Arc::new(tunnel));
    match opened {
        Ok((stream, ALPN::H2)) => Box::pin(serve::h2::serve(&front, stream, shutdown)).await,
        Ok((stream, _)) => Box::pin(serve::h1::serve(&front, stream, None, BytesMut::new(), shutdown)).await,
        Err(error) => {
            gateway.parts.metrics.refused(Refusal::Handshake);
            let Front::Tunnel(tunnel) = &front else { return };
            tracing::debug!(connector = %tunnel.first.connector, host = %tunnel.first.host(), %error, "no TLS in the tunnel");
        }
    }
}

/// Who is it, and is what it asks for a tunnel that we open at all?
async fn admit(gateway: &Arc<Gateway>, connect: Connect, address: Option<IpAddr>) -> Result<(Tunnel, SslContext, Bytes)> {
    let Connect { origin, login, rest } = connect;
    let login = login.map_err(|error| Error::Login(error.to_string()))?;
    bounded(gateway, &login)?;
    let (principal, expired) = match gateway.parts.authenticator.authenticate(&login.token).await {
        Ok(Identity::Valid(principal)) => (principal, false),
        Ok(Identity::Expired(principal)) => (principal, true),
        Err(Rejection::Invalid(why)) => return Err(Error::Login(why.to_owned())),
        Err(Rejection::Unavailable) => return Err(Error::ReviewUnavailable),
    };
    let table = gateway.parts.table.load_full();
    let connectors = serving(&table, &login, &origin);
    let first = connectors.first().ok_or_else(|| Error::Login("the login names no connector".to_owned()))?;
    reachable(gateway, &principal, &table, first, &login, &origin).await?;
    // Also for who is refused inside: the refusal needs a handshake. Only known principals come this far, and the key stays here.
    let context = gateway.leaves.context(&origin.host, has_target(&table, first, &origin))?;
    let passages = connectors.into_iter().map(|connector| {
        let aim = Aim::Origin(origin.clone());
        let mut passage = Passage::new(gateway.clone(), principal.clone(), connector, aim, Client { address, secure: true });
        passage.expired = expired;
        passage
    });
    Ok((Tunnel::new(gateway, passages)?, context, rest))
}

/// Each connector costs look-ups.
pub fn bounded(gateway: &Gateway, login: &Login) -> Result<()> {
    let most = gateway.parts.settings.load().limits.connectors_per_login;
    match login.connectors.len() > most {
        true => Err(Error::Login(format!("the login names more than {most} connectors"))),
        false => Ok(()),
    }
}

/// The connectors of the login that have this address; without one, the first, that the answer inside can speak of.
pub fn serving(table: &Table, login: &Login, origin: &Origin) -> Vec<ConnectorRef> {
    let mut serving: Vec<_> = login.connectors.iter().filter(|connector| has_target(table, connector, origin)).cloned().collect();
    if serving.is_empty() {
        serving.extend(login.connectors.first().cloned());
    }
    serving
}

fn has_target(table: &Table, connector: &ConnectorRef, origin: &Origin) -> bool {
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

/// An address that is not the connector's is refused at once, but only to those who may use the connector: others must not learn its
/// addresses. They, and the users of an unusable connector, are answered later, when a request is admitted.
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
        Ok(Verdict::Allowed) => Err(passage::not_a_target(origin, &connectors_api::proxy_auth::user(&login.connectors))),
        Ok(Verdict::Denied { .. }) | Err(_) => Ok(()),
    }
}

/// The 200 and the handshake. Plain HTTP inside is told so; a wrong SNI ends the handshake.
async fn open(
    tunnel: &Tunnel,
    mut stream: Stream,
    context: &SslContext,
    rest: Bytes,
    deadline: Instant,
) -> Result<(Stream, ALPN)> {
    let gone = |error: std::io::Error| Error::ClientGone(error.to_string());
    stream.write_all(ESTABLISHED).await.map_err(gone)?;
    stream.flush().await.map_err(gone)?;
    let rest = timeout_at(deadline, first_bytes(&mut stream, rest)).await.unwrap_or(Err(Error::HeadTimeout))?;
    if rest.first() != Some(&TLS_HANDSHAKE) {
        let error = Error::Malformed("plain HTTP inside of the tunnel: the target's URL must be https");
        detect::refuse(&tunnel.first.gateway, stream, &error).await;
        return Err(error);
    }
    let tls = handshake::accept(stream, rest, context, deadline).await?;
    let alpn = tls.selected_alpn_proto().unwrap_or(ALPN::H1);
    Ok((Box::new(tls), alpn))
}

async fn first_bytes(stream: &mut Stream, rest: Bytes) -> Result<Bytes> {
    if !rest.is_empty() {
        return Ok(rest);
    }
    let mut buf = BytesMut::with_capacity(body::READ_SIZE);
    match stream.read_buf(&mut buf).await {
        Ok(0) => Err(Error::ClientGone("before its TLS handshake".to_owned())),
        Ok(_) => Ok(buf.freeze()),
        Err(error) => Err(Error::ClientGone(error.to_string())),
    }
}
