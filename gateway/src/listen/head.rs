//! The first head of a connection: from a bounded buffer, under a deadline that the accept started. What was read past it is kept. Comes
//! after `entry`; a CONNECT goes on to `tunnel`, any other head to `reverse`.

use std::future::Future;

use bytes::{Bytes, BytesMut};
use connectors_api::proxy_auth::{self, Login, LoginError};
use connectors_api::target::Authority;
use http::header::{self, HeaderMap};
use pingora_core::protocols::Stream;
use tokio::time::Instant;

use crate::admit::passage::Origin;
use crate::error::{Error, Result};
use crate::http::wire::{self, RequestHead, WireError};
use crate::relay::body;

/// What a client of HTTP/2 sends first (RFC 9113, 3.4). No method of HTTP/1.1 is called so.
const HTTP2: &[u8] = b"PRI ";

/// How a connection begins, and what was read beyond.
pub enum First {
    Head(RequestHead, BytesMut),
    /// HTTP/2 with prior knowledge: nothing was taken off the buffer.
    Http2(BytesMut),
}

/// A CONNECT that is well formed; the login may still be nobody's.
pub struct Connect {
    pub origin: Origin,
    pub login: std::result::Result<Login, LoginError>,
    /// Bytes behind the head: the beginning of the client's TLS.
    pub rest: Bytes,
}

/// Reads the first bytes. None: the client left without one. `http2`: is expected too.
pub async fn read(stream: &mut Stream, limit: usize, http2: bool, deadline: Instant) -> Result<Option<First>> {
    within(deadline, take(stream, limit, http2)).await
}

async fn within<T>(deadline: Instant, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout_at(deadline, work).await.unwrap_or(Err(Error::HeadTimeout))
}

async fn take(stream: &mut Stream, limit: usize, http2: bool) -> Result<Option<First>> {
    let mut buf = BytesMut::with_capacity(body::READ_SIZE);
    loop {
        match body::fill(stream, &mut buf, body::READ_SIZE).await {
            Ok(0) if buf.is_empty() => return Ok(None),
            Ok(0) => return Err(Error::ClientGone("in the middle of its head".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(Error::ClientGone(error.to_string())),
        }
        if http2 && buf.starts_with(HTTP2) {
            return Ok(Some(First::Http2(buf)));
        }
        if http2 && HTTP2.starts_with(&buf) {
            continue;
        }
        match wire::take_request(&mut buf, limit) {
            Ok(Some(head)) => return Ok(Some(First::Head(head, buf))),
            Ok(None) => {}
            Err(WireError::TooLarge) => return Err(Error::HeadTooLarge(limit)),
            Err(WireError::Invalid(why)) => return Err(Error::Malformed(why)),
        }
    }
}

/// A CONNECT has no body (RFC 9110, 9.3.6): whoever announces one would hide bytes from us.
pub fn connect(head: &RequestHead, rest: Bytes) -> Result<Connect> {
    if head.headers.contains_key(header::CONTENT_LENGTH) || head.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Error::Malformed("a CONNECT must not announce a body"));
    }
    let text = std::str::from_utf8(&head.target).map_err(|_| Error::Malformed("the CONNECT authority is not valid"))?;
    let authority = Authority::parse(text).map_err(|_| Error::Malformed("the CONNECT authority is not host:port"))?;
    let port = authority.port.ok_or(Error::Malformed("the CONNECT authority has no port"))?;
    let login = login(&head.headers)?;
    Ok(Connect { origin: Origin { tls: true, host: authority.host, port }, login, rest })
}

/// The one login of a head: who asks, and by which connectors.
pub fn login(headers: &HeaderMap) -> Result<std::result::Result<Login, LoginError>> {
    let mut logins = headers.get_all(header::PROXY_AUTHORIZATION).into_iter();
    match (logins.next(), logins.next()) {
        (Some(value), None) => Ok(proxy_auth::parse_basic(value.as_bytes())),
        (None, _) => Err(Error::Login("no Proxy-Authorization was sent".to_owned())),
        (Some(_), Some(_)) => Err(Error::Malformed("two Proxy-Authorization headers")),
    }
}
