//! The walk of one connection on the proxy port: head → authenticate → route → authorize → 200 → TLS → requests. Every refusal before the
//! 200 is a 407, a 403 for what is no address of the connector, or a malformed head; all else is told inside, where clients show it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use connectors_api::proxy_auth::{ConnectorRef, Login};
use openssl::ssl::{Ssl, SslContext};
use pingora_core::protocols::tls::SslStream;
use pingora_core::protocols::{ALPN, Ssl as _, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::authenticate::{Identity, Rejection};
use crate::authorize::Verdict;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::head::{self, Connect};
use crate::io::Replay;
use crate::metrics::Refusal;
use crate::principal::Principal;
use crate::relay::{self, wire};
use crate::request::{self, Standing};
use crate::route::{Entry, Table};

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const CHALLENGE: &str = "Basic realm=\"connectors\"";
/// First byte of a TLS record that holds a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// A refused client may still be sending: what it sent is read for so long, or the reset of a close would take our answer away from it.
const LINGER: Duration = Duration::from_millis(500);

/// One tunnel, shared by the streams in it.
pub struct Tunnel {
    pub gateway: Arc<Gateway>,
    pub principal: Arc<Principal>,
    /// The login's token had ended: a tunnel without authority of its own.
    pub expired: bool,
    pub connector: ConnectorRef,
    /// What the CONNECT named: lower case, no brackets.
    pub host: String,
    pub port: u16,
    pub lease: ArcSwapOption<Standing>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.gateway.parts.metrics.tunnels_open.dec();
    }
}

/// Serves one connection to its end.
pub async fn serve(gateway: Arc<Gateway>, mut stream: Stream, shutdown: &ShutdownWatch) {
    let settings = gateway.parts.settings.load();
    let (limit, head_time, tls_time) = (settings.limits.head_bytes, settings.timeouts.head, settings.timeouts.handshake);
    drop(settings);
    let mut ending = shutdown.clone();
    let connect = tokio::select! {
        connect = head::read(&mut stream, limit, Instant::now() + head_time) => connect,
        // Half a head must not hold up a drain.
        _ = ending.wait_for(|ending| *ending) => return,
    };
    let admitted = match connect {
        Ok(None) => return,
        Ok(Some(connect)) => admit(gateway.clone(), connect).await,
        Err(error) => Err(error),
    };
    let (tunnel, context, rest) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return refuse(&gateway, stream, &error).await,
    };
    match Box::pin(open(&tunnel, stream, context, rest, Instant::now() + tls_time)).await {
        Ok((stream, ALPN::H2)) => relay::h2::serve(&tunnel, stream, shutdown).await,
        Ok((stream, _)) => relay::h1::serve(&tunnel, stream, shutdown).await,
        Err(error) => {
            gateway.parts.metrics.refused(Refusal::Handshake);
            tracing::debug!(connector = %tunnel.connector, host = %tunnel.host, %error, "no TLS in the tunnel");
        }
    }
}

/// Who is it, and is what it asks for a tunnel that we open at all?
async fn admit(gateway: Arc<Gateway>, connect: Connect) -> Result<(Arc<Tunnel>, SslContext, Bytes)> {
    let Connect { host, port, login, rest } = connect;
    let login = login.map_err(|error| Error::Login(error.to_string()))?;
    let most = gateway.parts.settings.load().limits.connectors_per_login;
    if login.connectors.len() > most {
        return Err(Error::Login(format!("the login names more than {most} connectors")));
    }
    let (principal, expired) = match gateway.parts.authenticator.authenticate(&login.token).await {
        Ok(Identity::Valid(principal)) => (principal, false),
        Ok(Identity::Expired(principal)) => (principal, true),
        Err(Rejection::Invalid(why)) => return Err(Error::Login(why.to_owned())),
        Err(Rejection::Unavailable) => return Err(Error::ReviewUnavailable),
    };
    let table = gateway.parts.table.load_full();
    let connector = route(&table, &login, &host, port)?;
    reachable(&gateway, &principal, &table, &connector, &login, (&host, port)).await?;
    // Also for who is refused inside: the refusal needs a handshake. Only known principals come this far, and the key stays here.
    let known = has_target(&table, &connector, &host, port);
    let context = gateway.leaves.context(&host, known).await?;
    gateway.parts.metrics.tunnels.inc();
    gateway.parts.metrics.tunnels_open.inc();
    let lease = ArcSwapOption::empty();
    Ok((Arc::new(Tunnel { gateway, principal, expired, connector, host, port, lease }), context, rest))
}

/// The first connector of the login that has this address; without one, the first that the answer inside can speak of.
fn route(table: &Table, login: &Login, host: &str, port: u16) -> Result<ConnectorRef> {
    let serves = |connector: &&ConnectorRef| has_target(table, connector, host, port);
    let connector = login.connectors.iter().find(serves).or_else(|| login.connectors.first());
    connector.cloned().ok_or_else(|| Error::Login("the login names no connector".to_owned()))
}

fn has_target(table: &Table, connector: &ConnectorRef, host: &str, port: u16) -> bool {
    let entry = table.lookup(connector);
    matches!(entry, Some(Entry::Usable(route)) if route.targets.iter().any(|target| request::serves(target, host, port)))
}

/// An address that is not the connector's is refused at once, but only to those who may use the connector: others must not learn its
/// addresses. They, and the users of an unusable connector, are answered inside.
async fn reachable(
    gateway: &Gateway,
    principal: &Principal,
    table: &Table,
    connector: &ConnectorRef,
    login: &Login,
    (host, port): (&str, u16),
) -> Result<()> {
    let usable = matches!(table.lookup(connector), Some(Entry::Usable(_)));
    if !usable || has_target(table, connector, host, port) {
        return Ok(());
    }
    match gateway.parts.authorizer.may_use(principal, connector).await {
        Ok(Verdict::Allowed) => Err(request::not_a_target(host, port, &connectors_api::proxy_auth::user(&login.connectors))),
        Ok(Verdict::Denied { .. }) | Err(_) => Ok(()),
    }
}

/// The 200 and the handshake. Plain HTTP inside is told so; a wrong SNI ends the handshake.
async fn open(
    tunnel: &Tunnel,
    mut stream: Stream,
    context: SslContext,
    rest: Bytes,
    deadline: Instant,
) -> Result<(Stream, ALPN)> {
    let gone = |error: std::io::Error| Error::ClientGone(error.to_string());
    stream.write_all(ESTABLISHED).await.map_err(gone)?;
    stream.flush().await.map_err(gone)?;
    let rest = timeout_at(deadline, first_bytes(&mut stream, rest)).await.unwrap_or(Err(Error::HeadTimeout))?;
    if rest.first() != Some(&TLS_HANDSHAKE) {
        let error = Error::Malformed("plain HTTP inside of the tunnel: the target's URL must be https");
        refuse(&tunnel.gateway, stream, &error).await;
        return Err(error);
    }
    let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
    let ssl = Ssl::new(&context).map_err(|error| internal(&error))?;
    let mut tls = SslStream::new(ssl, Replay::new(rest, stream)).map_err(|error| internal(&error))?;
    match timeout_at(deadline, tls.accept()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(Error::ClientGone(format!("TLS handshake: {error}"))),
        Err(_) => return Err(Error::HeadTimeout),
    }
    let alpn = tls.selected_alpn_proto().unwrap_or(ALPN::H1);
    Ok((Box::new(tls), alpn))
}

async fn first_bytes(stream: &mut Stream, rest: Bytes) -> Result<Bytes> {
    if !rest.is_empty() {
        return Ok(rest);
    }
    let mut buf = BytesMut::with_capacity(relay::body::READ_SIZE);
    match stream.read_buf(&mut buf).await {
        Ok(0) => Err(Error::ClientGone("before its TLS handshake".to_owned())),
        Ok(_) => Ok(buf.freeze()),
        Err(error) => Err(Error::ClientGone(error.to_string())),
    }
}

/// Answers in the clear and closes.
async fn refuse(gateway: &Gateway, mut stream: Stream, error: &Error) {
    if let Some(refusal) = error.refusal() {
        gateway.parts.metrics.refused(refusal);
    }
    if let Error::ClientGone(why) = error {
        tracing::debug!(%why, "client left before its tunnel");
        return;
    }
    tracing::info!(target: "access", blame = error.blame().as_str(), status = error.code(), cause = %error, "connect refused");
    let failure = error.failure();
    let (mut headers, body) = relay::status_headers(&failure);
    if failure.code == http::StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        headers.insert(http::header::PROXY_AUTHENTICATE, http::HeaderValue::from_static(CHALLENGE));
    }
    let mut out = BytesMut::new();
    wire::put_response(&mut out, failure.code, &headers, false, true);
    out.extend_from_slice(&body);
    if stream.write_all(&out).await.is_ok() && stream.flush().await.is_ok() {
        linger(&mut stream).await;
    }
}

/// Closes our side, then reads away what the client still sends, bounded.
pub async fn linger(stream: &mut Stream) {
    let _ = AsyncWriteExt::shutdown(stream).await;
    let mut sink = [0; 4096];
    let drained = async { while matches!(stream.read(&mut sink).await, Ok(n) if n > 0) {} };
    let _ = tokio::time::timeout(LINGER, drained).await;
}
