//! The target's side of one exchange: the request's head out, the answer's head in, over HTTP/1.1 or HTTP/2.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use http::header::HeaderMap;
use http::uri::{self, Authority, Scheme, Uri};
use http::{Method, StatusCode};

use super::body::{H1Source, Source};
use crate::error::{Error, Result, Retry};
use crate::http::buffer;
use crate::http::headers;
use crate::http::http2::{Held, Inflow, Place, Share, weight};
use crate::http::request::Request;
use crate::http::wire::{self, Framing, MAX_FIELDS, Persistence, WireError};
use crate::upstream::Taken;
use crate::upstream::multiplex::{Incoming, Opening};

/// Largest head of an answer; Go's client takes 10 MiB, real ones stay below 8 KiB.
const MAX_HEAD: usize = 64 << 10;
/// Larger ones are counted while they are here: their target may let them come slowly, or their reader stop.
const LARGE: usize = 4 << 10;

/// The head of an answer, whichever protocol brought it.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub framing: Framing,
    /// Of a large one.
    pub held: Option<Held>,
}

/// Where an answer is read from.
pub struct AnswerReader<'a> {
    pub source: Source<'a>,
    pub host: &'a str,
    pub method: &'a Method,
    pub taken: Taken,
    /// What the head of the answer says of the target's connection (HTTP/1.1).
    pub persistence: Persistence,
    /// An upgrade was asked for: a 101 is an answer.
    pub upgrade: bool,
    /// Of the target's namespace. A probe has none: those are few.
    pub share: Option<&'a Arc<Share>>,
}

/// Puts a request's head into `out`.
pub fn put_head(out: &mut BytesMut, request: &Request, authority: &str) {
    wire::put_request(
        out,
        &request.method,
        request.path.as_str(),
        authority,
        &request.headers,
        request.framing,
    );
}

/// Opens an HTTP/2 stream with the request's head, for which there is a place. The head is the request's own: an
/// error means that the target has seen nothing of it.
pub fn send_head(
    opening: Opening<'_>,
    place: Place<'_>,
    request: &Request,
    authority: &Authority,
    host: &str,
) -> Result<(Incoming, SendStream<Bytes>)> {
    let mut parts = uri::Parts::default();
    (parts.scheme, parts.authority) = (Some(Scheme::HTTPS), Some(authority.clone()));
    parts.path_and_query = Some(request.path.clone());
    let uri = Uri::from_parts(parts).map_err(|error| Error::Internal(format!("request target: {error}")))?;
    let mut head = http::Request::new(());
    *head.method_mut() = request.method.clone();
    *head.uri_mut() = uri;
    *head.version_mut() = http::Version::HTTP_2;
    head.headers_mut().clone_from(&request.headers);
    headers::toward_h2(head.headers_mut());
    let opened = opening.send(head, request.framing == Framing::None).map_err(|error| Error::Cut {
        host: host.to_owned(),
        cause: error.to_string(),
        retry: Retry::Always,
    })?;
    place.fill();
    Ok(opened)
}

impl AnswerReader<'_> {
    /// The next head: interim ones (1xx) come first. Cancelling loses nothing.
    pub async fn head(&mut self) -> Result<Answer> {
        let (host, taken, share) = (self.host, self.taken, self.share);
        let answer = match &mut self.source {
            Source::H1(h1) => h1_head(h1, self.method, host, taken, &mut self.persistence, share).await?,
            Source::Target(incoming) => h2_head(incoming, self.method, host, taken, share).await?,
            Source::Client(_) => return Err(Error::Internal("an answer is read from the client".to_owned())),
        };
        if answer.status.is_informational() {
            // The target has begun: a break after this says nothing for another try.
            self.taken = Taken::New;
        }
        if answer.status == StatusCode::SWITCHING_PROTOCOLS && !self.upgrade {
            return Err(Error::Protocol {
                host: host.to_owned(),
                cause: "101 without an upgrade".to_owned(),
            });
        }
        Ok(answer)
    }

    /// Resolves when an HTTP/1.1 target, whose answer is complete, closes or says more. One of HTTP/2 resets
    /// its stream, as the sender of the request notices.
    pub async fn closed(&mut self) {
        match &mut self.source {
            Source::H1(h1) => drop(buffer::fill(h1.io, h1.buf, buffer::READ_SIZE).await),
            Source::Target(_) | Source::Client(_) => std::future::pending().await,
        }
    }
}

/// Counts so much of a head, with its copy on the way to the client.
fn count(held: &mut Option<Held>, share: Option<&Arc<Share>>, bytes: usize) -> Result<()> {
    let Some(share) = share.filter(|_| bytes > LARGE) else { return Ok(()) };
    let held = held.get_or_insert_with(|| Held::new(share.clone()));
    if held.set(2 * bytes) { Ok(()) } else { Err(Error::NoRoom) }
}

async fn h1_head(
    source: &mut H1Source<'_>,
    method: &Method,
    host: &str,
    taken: Taken,
    persistence: &mut Persistence,
    share: Option<&Arc<Share>>,
) -> Result<Answer> {
    let invalid = |error: WireError| Error::Protocol { host: host.to_owned(), cause: format!("{error:?}") };
    let (mut seen, mut held) = (0, None);
    loop {
        let head = match wire::may_be_complete(source.buf, seen, MAX_HEAD) {
            true => wire::take_response(source.buf, MAX_HEAD).map_err(invalid)?,
            false => None,
        };
        if let Some(head) = head {
            let framing = wire::response_framing(&head, method).map_err(invalid)?;
            let ends = head.minor == 0
                || framing == Framing::UntilClose
                || headers::connection_has(&head.headers, "close");
            *persistence = if ends { Persistence::Close } else { Persistence::KeepAlive };
            *source.decoder = framing.into();
            count(&mut held, share, weight(&head.headers))?;
            return Ok(Answer { status: head.status, headers: head.headers, framing, held });
        }
        seen = source.buf.len();
        count(&mut held, share, seen)?;
        let retry = if source.buf.is_empty() { taken.retry() } else { Retry::Never };
        let cut = |cause: String| Error::Cut { host: host.to_owned(), cause, retry };
        match buffer::fill(source.io, source.buf, buffer::READ_SIZE).await {
            Ok(0) => return Err(cut("before its answer".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(cut(error.to_string())),
        }
    }
}

async fn h2_head(
    incoming: &mut Incoming,
    method: &Method,
    host: &str,
    taken: Taken,
    share: Option<&Arc<Share>>,
) -> Result<Answer> {
    let head = incoming.head().await.map_err(|error| Error::Cut {
        host: host.to_owned(),
        cause: error.to_string(),
        retry: retry(&error, taken),
    })?;
    let ended = incoming.body.as_ref().is_none_or(Inflow::is_end);
    let length = wire::length(head.headers());
    let length =
        length.map_err(|error| Error::Protocol { host: host.to_owned(), cause: format!("{error:?}") })?;
    let framing = match length {
        _ if ended || *method == Method::HEAD || matches!(head.status().as_u16(), 204 | 304) => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let (parts, ()) = head.into_parts();
    // HPACK makes a field of one byte.
    if parts.headers.len() > MAX_FIELDS {
        let cause = format!("more than {MAX_FIELDS} fields in the head of an answer");
        return Err(Error::Protocol { host: host.to_owned(), cause });
    }
    let mut held = None;
    count(&mut held, share, weight(&parts.headers))?;
    Ok(Answer { status: parts.status, headers: parts.headers, framing, held })
}

/// What an error of a stream says about its request.
fn retry(error: &h2::Error, taken: Taken) -> Retry {
    match error {
        // Such an error comes only to streams above the last one that the target will answer for (RFC 9113,
        // 6.8).
        _ if error.is_remote() && error.is_go_away() => Retry::Always,
        _ if error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) => Retry::Always,
        // The connection broke, and the request may have been acted on before.
        _ if error.is_io() => taken.retry(),
        _ => Retry::Never,
    }
}
