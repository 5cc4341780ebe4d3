//! HTTP/1.1 on the wire, without I/O: heads and bodies out of a buffer, and into one. Strict where leniency
//! would let the target see another message than we do. `listen/head` reads first heads with it, `serve/h1`
//! and `relay` everything else.

mod codec;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::error::Error;

pub use codec::{Decoder, Encoder, Frame};

/// Fields of one head, of HTTP/2 too. Kubernetes clients send about ten.
pub const MAX_FIELDS: usize = 100;

pub struct RequestHead {
    pub method: Method,
    /// Request target as sent: origin-form, absolute-form, or the authority of a CONNECT.
    pub target: Bytes,
    /// Minor version: 0 or 1.
    pub minor: u8,
    pub headers: HeaderMap,
}

pub struct ResponseHead {
    pub status: StatusCode,
    pub minor: u8,
    pub headers: HeaderMap,
}

/// How a body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// Responses only.
    UntilClose,
}

/// Whether a connection of HTTP/1.1 may carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    KeepAlive,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    TooLarge,
    Invalid(&'static str),
}

impl WireError {
    /// Of a client's request; `limit` as it was given to the reader.
    pub fn of_client(self, limit: usize) -> Error {
        match self {
            WireError::TooLarge => Error::HeadTooLarge(limit),
            WireError::Invalid(why) => Error::Malformed(why),
        }
    }
}

/// Byte range of a field's name and value inside of the head.
#[derive(Clone, Copy, Default)]
struct Field {
    name: (u32, u32),
    value: (u32, u32),
}

/// Whether reading on may have completed the head whose first `seen` bytes are known to be none yet. What
/// arrives byte by byte is not read anew from its beginning with each.
pub fn may_be_complete(buf: &[u8], seen: usize, limit: usize) -> bool {
    let new = buf.get(seen.saturating_sub(3)..).unwrap_or_default();
    seen == 0 || buf.len() > limit || new.windows(3).any(|end| end == b"\n\r\n" || end.ends_with(b"\n\n"))
}

/// Takes one request head off the buffer; none if it is not complete yet. `limit` bounds its size.
pub fn take_request(buf: &mut BytesMut, limit: usize) -> Result<Option<RequestHead>, WireError> {
    let mut fields = [Field::default(); MAX_FIELDS];
    let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut slots);
    let Some(end) = complete(parsed.parse(buf), buf.len(), limit)? else { return Ok(None) };
    let method = parsed.method.unwrap_or_default();
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| WireError::Invalid("the method is not valid"))?;
    let target = range(buf, parsed.path.unwrap_or_default().as_bytes());
    let minor = parsed.version.unwrap_or(1);
    let count = note(buf, parsed.headers, &mut fields);
    let head = split(buf, end)?;
    let headers = headers(&head, &fields[..count])?;
    Ok(Some(RequestHead { method, target: slice(&head, target), minor, headers }))
}

/// Takes one response head off the buffer; none if it is not complete yet. Bytes bound it, not lines: an API
/// server may send a Warning for each of many objects.
pub fn take_response(buf: &mut BytesMut, limit: usize) -> Result<Option<ResponseHead>, WireError> {
    let mut fields = [Field::default(); MAX_FIELDS];
    let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut slots);
    match parsed.parse(buf) {
        Err(httparse::Error::TooManyHeaders) => take_long_response(buf, limit),
        outcome => {
            let Some(end) = complete(outcome, buf.len(), limit)? else { return Ok(None) };
            let (code, minor) = (parsed.code, parsed.version);
            let count = note(buf, parsed.headers, &mut fields);
            response_head(buf, end, code, minor, &fields[..count])
        }
    }
}

/// The same with room for as many fields as there are lines.
fn take_long_response(buf: &mut BytesMut, limit: usize) -> Result<Option<ResponseHead>, WireError> {
    let seen = buf.get(..limit).unwrap_or(buf);
    let lines = seen.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut fields = vec![Field::default(); lines];
    let mut slots = vec![httparse::EMPTY_HEADER; lines];
    let mut parsed = httparse::Response::new(&mut slots);
    let Some(end) = complete(parsed.parse(buf), buf.len(), limit)? else { return Ok(None) };
    let (code, minor) = (parsed.code, parsed.version);
    let count = note(buf, parsed.headers, &mut fields);
    response_head(buf, end, code, minor, &fields[..count])
}

fn response_head(
    buf: &mut BytesMut,
    end: usize,
    code: Option<u16>,
    minor: Option<u8>,
    fields: &[Field],
) -> Result<Option<ResponseHead>, WireError> {
    let status = StatusCode::from_u16(code.unwrap_or_default())
        .map_err(|_| WireError::Invalid("the status is not valid"))?;
    let head = split(buf, end)?;
    Ok(Some(ResponseHead { status, minor: minor.unwrap_or(1), headers: headers(&head, fields)? }))
}

fn complete(parsed: httparse::Result<usize>, have: usize, limit: usize) -> Result<Option<usize>, WireError> {
    match parsed {
        Ok(httparse::Status::Complete(end)) if end > limit => Err(WireError::TooLarge),
        Ok(httparse::Status::Complete(end)) => Ok(Some(end)),
        Ok(httparse::Status::Partial) if have > limit => Err(WireError::TooLarge),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(WireError::TooLarge),
        Err(_) => Err(WireError::Invalid("the head is not valid HTTP/1.1")),
    }
}

/// Splits the head off. httparse takes a bare LF for a line end where another parser may not: refused.
fn split(buf: &mut BytesMut, end: usize) -> Result<Bytes, WireError> {
    let head = buf.split_to(end).freeze();
    let bare = |(at, byte): (usize, &u8)| *byte == b'\n' && (at == 0 || head[at - 1] != b'\r');
    match head.iter().enumerate().any(bare) {
        true => Err(WireError::Invalid("a line of the head ends without carriage return")),
        false => Ok(head),
    }
}

/// Where `part`, a slice of `whole`, lies in it. Heads are far smaller than 4 GiB.
fn range(whole: &[u8], part: &[u8]) -> (u32, u32) {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    (start as u32, (start + part.len()) as u32)
}

fn slice(head: &Bytes, (start, end): (u32, u32)) -> Bytes {
    head.slice(start as usize..end as usize)
}

fn note(buf: &[u8], parsed: &[httparse::Header<'_>], fields: &mut [Field]) -> usize {
    for (field, header) in fields.iter_mut().zip(parsed) {
        *field = Field { name: range(buf, header.name.as_bytes()), value: range(buf, header.value) };
    }
    parsed.len()
}

/// Values share the head's memory.
fn headers(head: &Bytes, fields: &[Field]) -> Result<HeaderMap, WireError> {
    let mut headers = HeaderMap::with_capacity(fields.len() + 2);
    for field in fields {
        let name = HeaderName::from_bytes(&head[field.name.0 as usize..field.name.1 as usize]);
        let value = HeaderValue::from_maybe_shared(slice(head, field.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(WireError::Invalid("a header field is not valid"));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

/// Request framing. Two lengths, a length beside chunks, another coding than chunked: refused, for the target
/// might choose differently.
pub fn request_framing(headers: &HeaderMap, minor: u8) -> Result<Framing, WireError> {
    match (chunked(headers, minor)?, length(headers)?) {
        (true, Some(_)) => {
            Err(WireError::Invalid("Content-Length and Transfer-Encoding contradict each other"))
        }
        (true, None) => Ok(Framing::Chunked),
        (false, Some(0)) | (false, None) => Ok(Framing::None),
        (false, Some(length)) => Ok(Framing::Length(length)),
    }
}

/// Response framing (RFC 9112, 6.3), as strict.
pub fn response_framing(head: &ResponseHead, to: &Method) -> Result<Framing, WireError> {
    let empty =
        *to == Method::HEAD || head.status.is_informational() || matches!(head.status.as_u16(), 204 | 304);
    match (chunked(&head.headers, head.minor)?, length(&head.headers)?) {
        (true, Some(_)) => {
            Err(WireError::Invalid("Content-Length and Transfer-Encoding contradict each other"))
        }
        _ if empty => Ok(Framing::None),
        (true, None) => Ok(Framing::Chunked),
        (false, Some(length)) => Ok(Framing::Length(length)),
        (false, None) => Ok(Framing::UntilClose),
    }
}

fn chunked(headers: &HeaderMap, minor: u8) -> Result<bool, WireError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None) if minor > 0 && coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(WireError::Invalid("the Transfer-Encoding is not exactly chunked")),
    }
}

/// Digits only: no sign, no space, no list; one field.
pub fn length(headers: &HeaderMap) -> Result<Option<u64>, WireError> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).into_iter();
    let (first, second) = (lengths.next(), lengths.next());
    let Some(value) = first else { return Ok(None) };
    let digits = value.as_bytes();
    let plain = second.is_none() && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number = value.to_str().ok().filter(|_| plain).and_then(|text| text.parse().ok());
    number.map(Some).ok_or(WireError::Invalid("the Content-Length is not one number"))
}

/// Writes a request head. A `Content-Length` stands in `headers`; `Host` and `Transfer-Encoding` must not.
pub fn put_request(
    out: &mut BytesMut,
    method: &Method,
    path: &str,
    host: &str,
    headers: &HeaderMap,
    framing: Framing,
) {
    out.reserve(256 + path.len());
    for part in [method.as_str(), " ", path, " HTTP/1.1\r\nhost: ", host, "\r\n"] {
        out.put_slice(part.as_bytes());
    }
    put_headers(out, headers);
    if framing == Framing::Chunked {
        out.put_slice(b"transfer-encoding: chunked\r\n");
    }
    out.put_slice(b"\r\n");
}

/// Writes a response head. A `Content-Length` in `headers` is written as it is: it is the only one in an
/// answer to HEAD.
pub fn put_response(
    out: &mut BytesMut,
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
    persistence: Persistence,
) {
    put_answer(out, (status, status.canonical_reason().unwrap_or("Unknown")), headers, framing, persistence);
}

/// Of the answer to a CONNECT that is refused most clients show the reason phrase and nothing else: a sentence
/// may stand there.
pub fn put_refusal(out: &mut BytesMut, status: StatusCode, sentence: &str, headers: &HeaderMap) {
    let phrase: String =
        sentence.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    put_answer(out, (status, &phrase), headers, Framing::None, Persistence::Close);
}

fn put_answer(
    out: &mut BytesMut,
    (status, phrase): (StatusCode, &str),
    headers: &HeaderMap,
    framing: Framing,
    persistence: Persistence,
) {
    out.reserve(512);
    for part in ["HTTP/1.1 ", status.as_str(), " ", phrase, "\r\n"] {
        out.put_slice(part.as_bytes());
    }
    put_headers(out, headers);
    if framing == Framing::Chunked {
        out.put_slice(b"transfer-encoding: chunked\r\n");
    }
    if persistence == Persistence::Close {
        out.put_slice(b"connection: close\r\n");
    }
    out.put_slice(b"\r\n");
}

fn put_headers(out: &mut BytesMut, headers: &HeaderMap) {
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.put_slice(part);
        }
    }
}

#[cfg(test)]
mod tests;
