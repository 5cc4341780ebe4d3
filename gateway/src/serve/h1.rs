//! The requests of a client that speaks HTTP/1.1: one after the other, kept alive, pipelined ones in order.
//! While it waits, a connection holds no buffer and none to a target.

use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use http::Method;
use pingora_core::protocols::{Stream, UniqueIDType};
use pingora_core::server::ShutdownWatch;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::connections::let_go;
use crate::error::status::Form;
use crate::error::{Error, Result};
use crate::http::buffer;
use crate::http::headers;
use crate::http::request::{self, Request, Whereto};
use crate::http::socket::linger;
use crate::http::wire::{self, Decoder, Frame, Framing, RequestHead};
use crate::modes::Mode;
use crate::record;
use crate::relay::body::{self, H1Source};
use crate::relay::client::{self, Body, Reply};

/// What is left of a body that the target did not want is read away up to here, so that the client sees the
/// answer. As Go's server.
const MAX_DRAINED: usize = 256 << 10;
const DRAIN_TIME: Duration = Duration::from_millis(500);

struct Connection {
    socket: UniqueIDType,
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    buf: BytesMut,
    out: BytesMut,
}

/// Serves a connection to its end. `first` and, behind it, `buf` were read already.
pub async fn serve(
    mode: Mode,
    stream: Stream,
    mut first: Option<RequestHead>,
    buf: BytesMut,
    shutdown: &ShutdownWatch,
) {
    let (mode, socket) = (&mode, stream.id());
    let (read, write) = tokio::io::split(stream);
    let mut connection = Connection { socket, read, write, buf, out: BytesMut::new() };
    let mut ending = pin!(let_go(shutdown.clone()));
    loop {
        let head = tokio::select! {
            biased;
            head = connection.head(mode, &mut first) => head,
            () = &mut ending => break,
        };
        let again = match head {
            Ok(None) => return,
            // Boxed, so that an idle tunnel is small.
            Ok(Some(head)) => Box::pin(connection.exchange(mode, head, shutdown)).await,
            Err(error) => {
                Box::pin(connection.end_with(mode, &error, shutdown)).await;
                false
            }
        };
        if !again {
            break;
        }
        connection.shrink();
    }
    Box::pin(linger(&mut connection.read, &mut connection.write)).await;
}

impl Connection {
    /// The next head; none when the client has left between two. Waits for its first byte as long as a known
    /// client likes.
    async fn head(&mut self, mode: &Mode, first: &mut Option<RequestHead>) -> Result<Option<RequestHead>> {
        if let Some(head) = first.take() {
            return Ok(Some(head));
        }
        let begun = match mode.patience() {
            _ if !self.buf.is_empty() => true,
            None => self.first().await? > 0,
            // Boxed: it is for those who have not been known yet.
            Some(limit) => Box::pin(timeout(limit, self.first())).await.unwrap_or(Ok(0))? > 0,
        };
        if !begun {
            return Ok(None);
        }
        let (limit, time) = {
            let settings = mode.gateway().parts.settings.load();
            (settings.limits.head_bytes, settings.timeouts.head)
        };
        if let Some(head) = self.take(limit)? {
            return Ok(Some(head));
        }
        let mut held = None;
        let rest = async {
            loop {
                let seen = self.buf.len();
                if self.fill(buffer::READ_SIZE).await? == 0 {
                    return Err(Error::ClientGone("in the middle of a head".to_owned()));
                }
                buffer::count(&mut held, &self.buf, || mode.share())?;
                if !wire::may_be_complete(&self.buf, seen, limit) {
                    continue;
                }
                if let Some(head) = self.take(limit)? {
                    return Ok(Some(head));
                }
            }
        };
        // Boxed: few heads come in parts, and each idle tunnel would have the room.
        Box::pin(timeout(time, rest)).await.unwrap_or(Err(Error::HeadTimeout))
    }

    fn take(&mut self, limit: usize) -> Result<Option<RequestHead>> {
        wire::take_request(&mut self.buf, limit).map_err(|error| error.of_client(limit))
    }

    /// Clients that leave without TLS's farewell between two requests are no event.
    async fn first(&mut self) -> Result<usize> {
        Ok(buffer::first(&mut self.read, &mut self.buf).await.unwrap_or_default())
    }

    async fn fill(&mut self, room: usize) -> Result<usize> {
        let filled = buffer::fill(&mut self.read, &mut self.buf, room).await;
        filled.map_err(|error| Error::ClientGone(error.to_string()))
    }

    /// One request and its answer. True: another may follow.
    async fn exchange(&mut self, mode: &Mode, head: RequestHead, shutdown: &ShutdownWatch) -> bool {
        let minor = head.minor;
        let request = match request_of(head) {
            Ok(request) => request,
            Err(error) => {
                self.end_with(mode, &error, shutdown).await;
                return false;
            }
        };
        // What follows a refused upgrade may be meant for the other protocol: it must not be taken for a
        // request.
        let last = minor == 0 || request.upgrade.is_some();
        let close = last || headers::connection_has(&request.headers, "close");
        let untouched = Decoder::from(request.framing);
        let awaits = client::expects_continue(&request.headers);
        let mut decoder = Decoder::from(request.framing);
        let Connection { socket, read, write, buf, out } = self;
        let body = Body::H1 { io: read, buf, decoder: &mut decoder, socket: *socket };
        let reply = Reply::H1 { io: write, out, minor, close, shutdown };
        let again = super::serve(mode, request, body, reply, "h1").await;
        if awaits && decoder == untouched {
            // Nobody asked for the body: what comes next may be it, or another request (RFC 9110, 10.1.1).
            return again && decoder == Decoder::Done;
        }
        again && (decoder == Decoder::Done || self.drain(&mut decoder).await)
    }

    /// Reads away the rest of a body whose answer is complete. True: all of it.
    async fn drain(&mut self, decoder: &mut Decoder) -> bool {
        let mut source =
            body::Source::H1(H1Source { io: &mut self.read, buf: &mut self.buf, decoder, share: None });
        let drained = async {
            let mut left = MAX_DRAINED;
            loop {
                match source.next().await {
                    Ok(Frame::Data(data)) if data.len() <= left => left -= data.len(),
                    Ok(Frame::Data(_)) | Err(_) => return false,
                    Ok(Frame::Trailers(_) | Frame::End) => return true,
                }
            }
        };
        timeout(DRAIN_TIME, drained).await.unwrap_or(false)
    }

    /// A head that is no request: a Status, then the end of the connection.
    async fn end_with(&mut self, mode: &Mode, error: &Error, shutdown: &ShutdownWatch) {
        if matches!(error, Error::ClientGone(_)) {
            return;
        }
        // Nothing follows, and nobody counts it any more.
        self.buf = BytesMut::new();
        record::turned_away(mode.gateway(), mode.known(), error, Form::Status, "h1");
        let mut reply =
            Reply::H1 { io: &mut self.write, out: &mut self.out, minor: 1, close: true, shutdown };
        super::refuse(mode, &mut reply, &Method::GET, Form::Status, error).await;
    }

    fn shrink(&mut self) {
        self.out = BytesMut::new();
        // What was read ahead of the next request lies in the buffer of this one, however large that is.
        self.buf = BytesMut::from(&self.buf[..]);
    }
}

fn request_of(head: RequestHead) -> Result<Request> {
    let RequestHead { method, target, minor, mut headers } = head;
    let framing = wire::request_framing(&headers, minor).map_err(|error| error.of_client(0))?;
    let Whereto { scheme, authority, path } = request::parse_target(target, &mut headers)?;
    // HTTP/1.0 knows no upgrade (RFC 9110, 7.8).
    let upgrade = if minor == 0 { None } else { headers::upgrade(&headers)? };
    if upgrade.is_some() && framing != Framing::None {
        return Err(Error::Malformed("an upgrade with a body"));
    }
    Ok(Request { method, scheme, authority, path, headers, framing, upgrade, rewrite: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_ahead_keeps_nothing_of_the_large_head_before_it() {
        let (near, _far) = tokio::io::duplex(64);
        let near: Stream = Box::new(near);
        let socket = near.id();
        let (read, write) = tokio::io::split(near);
        let mut buf = BytesMut::with_capacity(64 << 10);
        buf.extend_from_slice(&[b'x'; 30 << 10]);
        buf.extend_from_slice(b"GET ");
        let head = buf.split_to(30 << 10).freeze();
        let mut connection = Connection { socket, read, write, buf, out: BytesMut::new() };
        connection.shrink();
        assert_eq!(&connection.buf[..], b"GET ");
        assert!(connection.buf.capacity() < 1 << 10 && head.is_unique());
    }
}
