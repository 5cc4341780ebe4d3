//! The CONNECT head: from a bounded buffer, under a deadline that the accept started. What was read past it belongs to the tunnel.
//! Comes after `accept`, before `authenticate`.

use std::future::Future;

use bytes::{Bytes, BytesMut};
use connectors_api::proxy_auth::{self, Login, LoginError};
use connectors_api::target::Authority;
use http::{Method, header};
use pingora_core::protocols::Stream;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::relay::body;
use crate::relay::wire::{self, RequestHead, WireError};

/// A CONNECT that is well formed; the login may still be nobody's.
pub struct Connect {
    /// Lower case, no brackets, no trailing dot.
    pub host: String,
    pub port: u16,
    pub login: std::result::Result<Login, LoginError>,
    /// Bytes behind the head: the beginning of the client's TLS.
    pub rest: Bytes,
}

/// Reads one head. None: the client left without a byte.
pub async fn read(stream: &mut Stream, limit: usize, deadline: Instant) -> Result<Option<Connect>> {
    let mut buf = BytesMut::with_capacity(body::READ_SIZE);
    let Some(head) = within(deadline, take(stream, &mut buf, limit)).await? else { return Ok(None) };
    connect(head, buf.freeze()).map(Some)
}

async fn within<T>(deadline: Instant, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout_at(deadline, work).await.unwrap_or(Err(Error::HeadTimeout))
}

async fn take(stream: &mut Stream, buf: &mut BytesMut, limit: usize) -> Result<Option<RequestHead>> {
    loop {
        match wire::take_request(buf, limit) {
            Ok(Some(head)) => return Ok(Some(head)),
            Ok(None) => {}
            Err(WireError::TooLarge) => return Err(Error::HeadTooLarge(limit)),
            Err(WireError::Invalid(why)) => return Err(Error::Malformed(why)),
        }
        match body::fill(stream, buf, body::READ_SIZE).await {
            Ok(0) if buf.is_empty() => return Ok(None),
            Ok(0) => return Err(Error::ClientGone("in the middle of its head".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(Error::ClientGone(error.to_string())),
        }
    }
}

/// A CONNECT has no body (RFC 9110, 9.3.6): whoever announces one would hide bytes from us.
fn connect(head: RequestHead, rest: Bytes) -> Result<Connect> {
    if head.method != Method::CONNECT {
        return Err(Error::NotConnect(head.method.to_string()));
    }
    if head.headers.contains_key(header::CONTENT_LENGTH) || head.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Error::Malformed("a CONNECT must not announce a body"));
    }
    let text = std::str::from_utf8(&head.target).map_err(|_| Error::Malformed("the CONNECT authority is not valid"))?;
    let authority = Authority::parse(text).map_err(|_| Error::Malformed("the CONNECT authority is not host:port"))?;
    let port = authority.port.ok_or(Error::Malformed("the CONNECT authority has no port"))?;
    let mut logins = head.headers.get_all(header::PROXY_AUTHORIZATION).into_iter();
    let login = match (logins.next(), logins.next()) {
        (Some(value), None) => proxy_auth::parse_basic(value.as_bytes()),
        (None, _) => return Err(Error::Login("no Proxy-Authorization was sent".to_owned())),
        (Some(_), Some(_)) => return Err(Error::Malformed("two Proxy-Authorization headers")),
    };
    Ok(Connect { host: authority.host, port, login, rest })
}
