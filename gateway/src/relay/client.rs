//! The client's side of one exchange: its body in, the answer out, over HTTP/1.1 or HTTP/2.

use std::future::{pending, poll_fn};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, header};
use pingora_core::protocols::UniqueIDType;
use pingora_core::server::ShutdownWatch;

use super::body::{H1Sink, H1Source, Sink, Source, Writer};
use crate::error::status::Form;
use crate::error::{Error, Result};
use crate::http::buffer::{self, Reader};
use crate::http::headers;
use crate::http::http2::{Inflow, NoRoom, Outflow, Share, told_of_reset, weight};
use crate::http::wire::{self, Decoder, Encoder, Framing, Persistence};

/// Bytes of later requests that are read ahead while one is served, to see a client leave.
const MAX_PIPELINED: usize = 8 << 10;

/// Where the request's body comes from.
pub enum Body<'a> {
    H1 { io: Reader<'a>, buf: &'a mut BytesMut, decoder: &'a mut Decoder, socket: UniqueIDType },
    H2(Inflow),
}

impl Body<'_> {
    pub fn source(&mut self) -> Source<'_> {
        match self {
            Body::H1 { io, buf, decoder, .. } => {
                Source::H1(H1Source { io: &mut **io, buf, decoder, share: None })
            }
            Body::H2(stream) => Source::Client(stream),
        }
    }

    /// Takes what comes while nobody reads it yet. HTTP/1.1 leaves it in the socket.
    pub async fn waits(&mut self) -> NoRoom {
        match self {
            Body::H1 { .. } => pending().await,
            Body::H2(stream) => stream.gather(0).await,
        }
    }

    /// Whose it is from now on.
    pub fn belongs_to(&mut self, share: &Arc<Share>) -> Result<()> {
        let room = match self {
            Body::H1 { .. } => true,
            Body::H2(stream) => stream.belongs_to(share.clone()),
        };
        if room { Ok(()) } else { Err(Error::NoRoom) }
    }

    /// Resolves when a request is not worth its wait any longer: its client has left, or there is no room for what comes
    /// of its body. A client of HTTP/1.1 with a body is not seen to leave.
    pub async fn fails(&mut self, carries: bool) -> Error {
        match carries {
            true => {
                let NoRoom = self.waits().await;
                Error::NoRoom
            }
            false => Error::ClientGone(self.gone().await),
        }
    }

    /// The request is over. What was read ahead of the next lies in one buffer with its head, however large that was.
    pub fn let_go(self) {
        if let Body::H1 { buf, .. } = self {
            *buf = BytesMut::from(&buf[..]);
        }
    }

    /// Its end cannot be found any more (HTTP/1.1).
    pub fn is_broken(&self) -> bool {
        matches!(self, Body::H1 { decoder: Decoder::Broken, .. })
    }

    /// Of an HTTP/1.1 client: whether it is there shows nowhere else while nobody reads its body.
    pub fn socket(&self) -> Option<UniqueIDType> {
        match self {
            Body::H1 { socket, .. } => Some(*socket),
            Body::H2(_) => None,
        }
    }

    /// Resolves when an HTTP/1.1 client, whose request was read to its end, goes away. What it sends ahead is
    /// kept for later.
    pub async fn gone(&mut self) -> String {
        let Body::H1 { io, buf, .. } = self else { return pending().await };
        while buf.len() < MAX_PIPELINED {
            match buffer::fill(&mut **io, buf, 512).await {
                Ok(0) => return "closed while its request was served".to_owned(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
        pending().await
    }
}

/// Where the answer goes.
pub enum Reply<'a> {
    H1 { io: Writer<'a>, out: &'a mut BytesMut, minor: u8, close: bool, shutdown: &'a ShutdownWatch },
    H2 { respond: SendResponse<Bytes>, stream: Option<SendStream<Bytes>>, outflow: Outflow, answered: bool },
}

impl Reply<'_> {
    /// An interim head (1xx). HTTP/1.0 knows none.
    pub async fn interim(&mut self, status: StatusCode, headers: HeaderMap) -> Result<()> {
        match self {
            Reply::H1 { minor: 0, .. } => Ok(()),
            Reply::H1 { io, out, .. } => {
                wire::put_response(out, status, &headers, Framing::None, Persistence::KeepAlive);
                H1Sink { io: &mut **io, out, encoder: Encoder::None }.flush().await.map_err(gone)
            }
            Reply::H2 { respond, outflow, .. } => {
                let reset = poll_fn(|cx| respond.poll_reset(cx));
                let place = outflow.place(weight(&headers), reset).await.map_err(Error::ClientGone)?;
                respond.send_informational(response(status, headers)).map_err(gone)?;
                place.fill();
                Ok(())
            }
        }
    }

    /// The head of the answer, and where its body goes.
    pub async fn head(
        &mut self,
        method: &Method,
        status: StatusCode,
        mut headers: HeaderMap,
        framing: Framing,
    ) -> Result<Sink<'_>> {
        match self {
            Reply::H1 { io, out, minor, close, shutdown } => {
                let framing = for_h1(framing, *minor);
                if framing == Framing::None && may_have_body(method, status) {
                    // The end of an HTTP/2 stream said so; here only a length can.
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
                }
                // Asked now, for the drain may have begun since the request came.
                *close |= framing == Framing::UntilClose || *shutdown.borrow();
                let persistence = if *close { Persistence::Close } else { Persistence::KeepAlive };
                wire::put_response(out, status, &headers, framing, persistence);
                let encoder = if *method == Method::HEAD { Encoder::None } else { framing.into() };
                Ok(Sink::H1(H1Sink { io: &mut **io, out, encoder }))
            }
            Reply::H2 { respond, stream, outflow, answered } => {
                let end = framing == Framing::None;
                headers::audit_id_once(&mut headers);
                let reset = poll_fn(|cx| respond.poll_reset(cx));
                let place = outflow.place(weight(&headers), reset).await.map_err(Error::ClientGone)?;
                let opened = respond.send_response(response(status, headers), end).map_err(gone)?;
                *answered = true;
                place.fill();
                Ok(if end { Sink::None } else { Sink::H2(stream.insert(opened), outflow) })
            }
        }
    }

    /// HTTP/1.1: the connection is in a defined state and may carry another answer. HTTP/2: an answer was
    /// begun.
    pub fn open(&self) -> bool {
        match self {
            Reply::H1 { close, .. } => !close,
            Reply::H2 { answered, .. } => *answered,
        }
    }

    /// Resolves when an HTTP/2 client gives up before its answer began.
    pub async fn gone(&mut self) -> String {
        match self {
            Reply::H1 { .. } => pending().await,
            Reply::H2 { respond, .. } => told_of_reset(poll_fn(|cx| respond.poll_reset(cx)).await),
        }
    }

    /// A refusal in place of an answer.
    pub async fn refuse(&mut self, method: &Method, form: Form, error: &Error) -> Result<()> {
        let failure = error.failure().told(form);
        let (headers, body) = failure.answer(form);
        if let Reply::H1 { out, close, .. } = self {
            out.clear();
            *close |= matches!(error, Error::Body(_));
        }
        let framing =
            if *method == Method::HEAD { Framing::None } else { Framing::Length(body.len() as u64) };
        let mut sink = self.head(method, failure.code, headers, framing).await?;
        if framing == Framing::None { sink.flush().await } else { sink.data(body, true).await }.map_err(gone)
    }

    /// Ends an answer that was begun and cannot be finished, so that the client sees it is not whole.
    pub fn cut(&mut self) {
        match self {
            Reply::H1 { close, .. } => *close = true,
            Reply::H2 { respond, stream: None, .. } => respond.send_reset(Reason::INTERNAL_ERROR),
            Reply::H2 { stream: Some(stream), .. } => stream.send_reset(Reason::INTERNAL_ERROR),
        }
    }
}

/// Whether HTTP/1.1 looks for a body behind this head (RFC 9112, 6.3).
fn may_have_body(method: &Method, status: StatusCode) -> bool {
    let without =
        status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    !without && *method != Method::HEAD
}

/// The framing that the client's version can read.
fn for_h1(framing: Framing, minor: u8) -> Framing {
    match (framing, minor) {
        (Framing::Chunked | Framing::UntilClose, 0) => Framing::UntilClose,
        (Framing::UntilClose, _) => Framing::Chunked,
        (framing, _) => framing,
    }
}

fn response(status: StatusCode, headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn gone(error: impl std::fmt::Display) -> Error {
    Error::ClientGone(error.to_string())
}

/// Says `100 Continue` where the target's leg cannot.
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .map(HeaderValue::as_bytes)
        .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}
