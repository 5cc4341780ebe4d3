//! The first head of a connection: from a bounded buffer, under a deadline that the accept started. What was
//! read past it is kept.

use std::future::Future;
use std::sync::Arc;

use bytes::BytesMut;
use pingora_core::protocols::Stream;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::http::buffer;
use crate::http::http2::Share;
use crate::http::wire::{self, RequestHead};

/// What a client of HTTP/2 sends first (RFC 9113, 3.4). No method of HTTP/1.1 is called so.
const HTTP2: &[u8] = b"PRI ";

/// How a connection begins, and what was read beyond.
pub enum First {
    Head(RequestHead, BytesMut),
    /// HTTP/2 with prior knowledge: nothing was taken off the buffer.
    Http2(BytesMut),
}

/// Reads the first bytes. None: the client left without one. `http2`: is expected too. A large head counts in
/// `share` while it comes.
pub async fn read(
    stream: &mut Stream,
    limit: usize,
    http2: bool,
    deadline: Instant,
    share: impl Fn() -> Arc<Share>,
) -> Result<Option<First>> {
    within(deadline, take(stream, limit, http2, share)).await
}

async fn within<T>(deadline: Instant, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout_at(deadline, work).await.unwrap_or(Err(Error::HeadTimeout))
}

async fn take(
    stream: &mut Stream,
    limit: usize,
    http2: bool,
    share: impl Fn() -> Arc<Share>,
) -> Result<Option<First>> {
    let (mut buf, mut held) = (BytesMut::with_capacity(buffer::READ_SIZE), None);
    loop {
        let seen = buf.len();
        match buffer::fill(stream, &mut buf, buffer::READ_SIZE).await {
            Ok(0) if buf.is_empty() => return Ok(None),
            Ok(0) => return Err(Error::ClientGone("in the middle of its head".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(Error::ClientGone(error.to_string())),
        }
        buffer::count(&mut held, &buf, &share)?;
        if http2 && buf.starts_with(HTTP2) {
            return Ok(Some(First::Http2(buf)));
        }
        if http2 && HTTP2.starts_with(&buf) {
            continue;
        }
        if !wire::may_be_complete(&buf, seen, limit) {
            continue;
        }
        if let Some(head) = wire::take_request(&mut buf, limit).map_err(|error| error.of_client(limit))? {
            return Ok(Some(First::Head(head, buf)));
        }
    }
}
