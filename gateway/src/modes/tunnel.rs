//! A CONNECT: who is it, which connector has this host, the 200, TLS. Every refusal before the 200 is a 407,
//! a 403 for what is no address of the connector, what a host is told that is nobody's, or a malformed head; all
//! else is told inside, where clients show it whole.

use std::iter;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use connectors_api::proxy_auth::{Login, LoginError};
use connectors_api::target::Authority;
use http::header;
use openssl::ssl::SslContext;
use pingora_core::protocols::{ALPN, Ssl as _, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::login;
use crate::admit::authenticate::{Identity, Rejection};
use crate::admit::grant;
use crate::admit::passage::{Aim, Client, Passage};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::http::buffer;
use crate::http::request::{Request, Scheme};
use crate::http::wire::RequestHead;
use crate::table::route::Origin;
use crate::tls::handshake;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// First byte of a TLS record that holds a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// A CONNECT that is well formed; the login may still be nobody's.
pub struct Connect {
    pub origin: Origin,
    pub login: std::result::Result<Login, LoginError>,
    /// Bytes behind the head: the beginning of the client's TLS.
    pub rest: Bytes,
}

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
            Aim::Origin(origin) => login::covers(&table, &passage.connector, origin, request.path.as_str()),
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

/// A CONNECT has no body (RFC 9110, 9.3.6): whoever announces one would hide bytes from us.
pub fn connect(head: &RequestHead, rest: Bytes) -> Result<Connect> {
    if head.headers.contains_key(header::CONTENT_LENGTH)
        || head.headers.contains_key(header::TRANSFER_ENCODING)
    {
        return Err(Error::Malformed("a CONNECT must not announce a body"));
    }
    let text = std::str::from_utf8(&head.target)
        .map_err(|_| Error::Malformed("the CONNECT authority is not valid"))?;
    let authority =
        Authority::parse(text).map_err(|_| Error::Malformed("the CONNECT authority is not host:port"))?;
    let port = authority.port.ok_or(Error::Malformed("the CONNECT authority has no port"))?;
    let login = login::login(&head.headers)?;
    Ok(Connect { origin: Origin { tls: true, host: authority.host, port }, login, rest })
}

/// Who is it, and is what it asks for a tunnel that we open at all?
pub async fn admit(
    gateway: &Arc<Gateway>,
    connect: Connect,
    address: Option<IpAddr>,
) -> Result<(Tunnel, SslContext, Bytes)> {
    let Connect { origin, login: given, rest } = connect;
    let given = given.map_err(|error| Error::Login(error.to_string()))?;
    login::bounded(gateway, &given)?;
    let (principal, expired) = match gateway.parts.authenticator.authenticate(&given.token).await {
        Ok(Identity::Valid(principal)) => (principal, false),
        Ok(Identity::Expired(principal)) => (principal, true),
        Err(Rejection::Invalid(why)) => return Err(Error::Login(why.to_owned())),
        Err(Rejection::Unavailable) => return Err(Error::ReviewUnavailable),
    };
    let table = gateway.parts.table.load_full();
    let connectors = login::serving(&table, &given, &origin);
    let first = connectors.first().ok_or_else(|| Error::Login("the login names no connector".to_owned()))?;
    // Whose token has ended is told nothing before a request brings a valid one.
    if !expired {
        login::reachable(gateway, &principal, &table, first, &given, &origin).await?;
    }
    let passages = connectors.into_iter().map(|connector| {
        let aim = Aim::Origin(origin.clone());
        let mut passage = Passage::new(
            gateway.clone(),
            principal.clone(),
            connector,
            aim,
            Client { address, secure: true },
        );
        passage.expired = expired;
        passage
    });
    let passages: Vec<Passage> = passages.collect();
    // Also for who is refused inside: the refusal needs a handshake. Only known principals come this far, and
    // only with the host of somebody's connector.
    let context = match gateway.leaves.context(&origin.host) {
        Err(nobodys @ Error::NobodysHost(_)) => return Err(told_before(&passages, nobodys).await),
        other => other?,
    };
    Ok((Tunnel::new(gateway, passages.into_iter())?, context, rest))
}

/// Without a leaf nothing can be told inside: what a request would have been told, else that the host is
/// nobody's.
async fn told_before(passages: &[Passage], nobodys: Error) -> Error {
    match passages.first() {
        Some(first) if !first.expired => grant::current(first).await.err().unwrap_or(nobodys),
        _ => nobodys,
    }
}

/// A tunnel in which no TLS began.
pub enum Unopened {
    /// The client speaks plain HTTP inside: it can be told so.
    Plain(Stream, Error),
    Failed(Error),
}

impl From<Error> for Unopened {
    fn from(error: Error) -> Unopened {
        Unopened::Failed(error)
    }
}

/// The 200 and the handshake. A wrong SNI ends the handshake.
pub async fn open(
    mut stream: Stream,
    context: &SslContext,
    rest: Bytes,
    deadline: Instant,
) -> std::result::Result<(Stream, ALPN), Unopened> {
    let gone = |error: std::io::Error| Error::ClientGone(error.to_string());
    stream.write_all(ESTABLISHED).await.map_err(gone)?;
    stream.flush().await.map_err(gone)?;
    let rest =
        timeout_at(deadline, first_bytes(&mut stream, rest)).await.unwrap_or(Err(Error::HeadTimeout))?;
    if rest.first() != Some(&TLS_HANDSHAKE) {
        let error = Error::Malformed("plain HTTP inside of the tunnel: the target's URL must be https");
        return Err(Unopened::Plain(stream, error));
    }
    let tls = handshake::accept(stream, rest, context, deadline).await?;
    let alpn = tls.selected_alpn_proto().unwrap_or(ALPN::H1);
    Ok((Box::new(tls), alpn))
}

async fn first_bytes(stream: &mut Stream, rest: Bytes) -> Result<Bytes> {
    if !rest.is_empty() {
        return Ok(rest);
    }
    let mut buf = BytesMut::with_capacity(buffer::READ_SIZE);
    match stream.read_buf(&mut buf).await {
        Ok(0) => Err(Error::ClientGone("before its TLS handshake".to_owned())),
        Ok(_) => Ok(buf.freeze()),
        Err(error) => Err(Error::ClientGone(error.to_string())),
    }
}
