//! HTTP/1.1 on the wire, without I/O: heads and bodies out of a buffer, and into one. Strict where leniency would let the target see
//! another message than we do. `head` reads CONNECTs with it, `h1` and `upstream` everything else.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

/// Fields of one head. Kubernetes clients send about ten.
const MAX_FIELDS: usize = 100;
/// A chunk's size line and a trailer section: nobody needs more.
const MAX_CHUNK_LINE: usize = 4096;
const MAX_TRAILERS: usize = 16 << 10;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    TooLarge,
    Invalid(&'static str),
}

/// Byte range of a field's name and value inside of the head.
#[derive(Clone, Copy, Default)]
struct Field {
    name: (u32, u32),
    value: (u32, u32),
}

/// Takes one request head off the buffer; none if it is not complete yet. `limit` bounds its size.
pub fn take_request(buf: &mut BytesMut, limit: usize) -> Result<Option<RequestHead>, WireError> {
    let mut fields = [Field::default(); MAX_FIELDS];
    let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut slots);
    let Some(end) = complete(parsed.parse(buf), buf.len(), limit)? else { return Ok(None) };
    let method = parsed.method.unwrap_or_default();
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| WireError::Invalid("the method is not valid"))?;
    let target = range(buf, parsed.path.unwrap_or_default().as_bytes());
    let minor = parsed.version.unwrap_or(1);
    let count = note(buf, parsed.headers, &mut fields);
    let head = split(buf, end)?;
    let headers = headers(&head, &fields[..count])?;
    Ok(Some(RequestHead { method, target: slice(&head, target), minor, headers }))
}

/// Takes one response head off the buffer; none if it is not complete yet.
pub fn take_response(buf: &mut BytesMut, limit: usize) -> Result<Option<ResponseHead>, WireError> {
    let mut fields = [Field::default(); MAX_FIELDS];
    let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut slots);
    let Some(end) = complete(parsed.parse(buf), buf.len(), limit)? else { return Ok(None) };
    let status =
        StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| WireError::Invalid("the status is not valid"))?;
    let minor = parsed.version.unwrap_or(1);
    let count = note(buf, parsed.headers, &mut fields);
    let head = split(buf, end)?;
    let headers = headers(&head, &fields[..count])?;
    Ok(Some(ResponseHead { status, minor, headers }))
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
        let (Ok(name), Ok(value)) = (name, value) else { return Err(WireError::Invalid("a header field is not valid")) };
        headers.append(name, value);
    }
    Ok(headers)
}

/// Request framing. Two lengths, a length beside chunks, another coding than chunked: refused, for the target might choose differently.
pub fn request_framing(headers: &HeaderMap, minor: u8) -> Result<Framing, WireError> {
    match (chunked(headers, minor)?, length(headers)?) {
        (true, Some(_)) => Err(WireError::Invalid("Content-Length and Transfer-Encoding contradict each other")),
        (true, None) => Ok(Framing::Chunked),
        (false, Some(0)) | (false, None) => Ok(Framing::None),
        (false, Some(length)) => Ok(Framing::Length(length)),
    }
}

/// Response framing (RFC 9112, 6.3), as strict.
pub fn response_framing(head: &ResponseHead, to: &Method) -> Result<Framing, WireError> {
    let empty = *to == Method::HEAD || head.status.is_informational() || matches!(head.status.as_u16(), 204 | 304);
    match (chunked(&head.headers, head.minor)?, length(&head.headers)?) {
        (true, Some(_)) => Err(WireError::Invalid("Content-Length and Transfer-Encoding contradict each other")),
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

/// A piece of a body.
#[derive(Debug)]
pub enum Frame {
    Data(Bytes),
    /// Ends the body.
    Trailers(HeaderMap),
    End,
}

/// Reads a body off a buffer that the caller fills.
#[derive(Debug, PartialEq)]
pub enum Decoder {
    Done,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
}

impl From<Framing> for Decoder {
    fn from(framing: Framing) -> Decoder {
        match framing {
            Framing::None | Framing::Length(0) => Decoder::Done,
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::ChunkSize,
            Framing::UntilClose => Decoder::UntilClose,
        }
    }
}

impl Decoder {
    /// The next piece, or none if the buffer must be filled first.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        loop {
            match self {
                Decoder::Done => return Ok(Some(Frame::End)),
                Decoder::Length(left) | Decoder::ChunkData(left) => {
                    let Some(data) = take(buf, left) else { return Ok(None) };
                    if *left == 0 {
                        *self = if matches!(self, Decoder::Length(_)) { Decoder::Done } else { Decoder::ChunkEnd };
                    }
                    return Ok(Some(Frame::Data(data)));
                }
                Decoder::UntilClose if buf.is_empty() => return Ok(None),
                Decoder::UntilClose => return Ok(Some(Frame::Data(buf.split().freeze()))),
                Decoder::ChunkSize => match chunk_size(buf)? {
                    None => return Ok(None),
                    Some(0) => *self = Decoder::Trailers,
                    Some(size) => *self = Decoder::ChunkData(size),
                },
                Decoder::ChunkEnd => match buf.get(..2) {
                    None => return Ok(None),
                    Some(b"\r\n") => {
                        buf.advance(2);
                        *self = Decoder::ChunkSize;
                    }
                    Some(_) => return Err(WireError::Invalid("a chunk is longer than its size")),
                },
                Decoder::Trailers => return self.trailers(buf),
            }
        }
    }

    /// The connection ended: the end of a body that lasts until then, a broken one otherwise.
    pub fn closed(&mut self) -> Option<Frame> {
        match self {
            Decoder::UntilClose => {
                *self = Decoder::Done;
                Some(Frame::End)
            }
            _ => None,
        }
    }

    fn trailers(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        if buf.starts_with(b"\r\n") {
            buf.advance(2);
            *self = Decoder::Done;
            return Ok(Some(Frame::End));
        }
        let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut fields = [Field::default(); MAX_FIELDS];
        let (end, count) = match httparse::parse_headers(buf, &mut slots) {
            Ok(httparse::Status::Complete((end, parsed))) => (end, note(buf, parsed, &mut fields)),
            Ok(httparse::Status::Partial) if buf.len() <= MAX_TRAILERS => return Ok(None),
            _ => return Err(WireError::Invalid("the trailers are not valid")),
        };
        let section = split(buf, end)?;
        *self = Decoder::Done;
        Ok(Some(Frame::Trailers(headers(&section, &fields[..count])?)))
    }
}

fn take(buf: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    if buf.is_empty() {
        return None;
    }
    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
    *left -= n as u64;
    Some(buf.split_to(n).freeze())
}

/// Hex digits, an optional extension that is dropped, CRLF.
fn chunk_size(buf: &mut BytesMut) -> Result<Option<u64>, WireError> {
    const BROKEN: WireError = WireError::Invalid("a chunk size is not valid");
    let Some(end) = buf.iter().take(MAX_CHUNK_LINE).position(|byte| *byte == b'\n') else {
        return if buf.len() >= MAX_CHUNK_LINE { Err(BROKEN) } else { Ok(None) };
    };
    let line = buf.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(BROKEN)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    let rest_ok = rest.first().is_none_or(|byte| *byte == b';') && !rest.contains(&b'\r') && !rest.contains(&0);
    if digits == 0 || digits > 15 || !rest_ok {
        return Err(BROKEN);
    }
    let size = size.iter().fold(0u64, |sum, digit| sum * 16 + u64::from(char::from(*digit).to_digit(16).unwrap_or(0)));
    buf.advance(end + 1);
    Ok(Some(size))
}

/// Writes a request head. A `Content-Length` stands in `headers`; `Host` and `Transfer-Encoding` must not.
pub fn put_request(out: &mut BytesMut, method: &Method, path: &str, host: &str, headers: &HeaderMap, framing: Framing) {
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

/// Writes a response head. A `Content-Length` in `headers` is written as it is: it is the only one in an answer to HEAD.
pub fn put_response(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap, chunked: bool, close: bool) {
    out.reserve(512);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.put_slice(b"\r\n");
    put_headers(out, headers);
    if chunked {
        out.put_slice(b"transfer-encoding: chunked\r\n");
    }
    if close {
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

/// Frames a body into a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// No body, or one that the leg's framing does not carry (an answer to HEAD).
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

impl From<Framing> for Encoder {
    fn from(framing: Framing) -> Encoder {
        match framing {
            Framing::None => Encoder::None,
            Framing::Length(length) => Encoder::Length(length),
            Framing::Chunked => Encoder::Chunked,
            Framing::UntilClose => Encoder::UntilClose,
        }
    }
}

impl Encoder {
    pub fn data(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), WireError> {
        match self {
            _ if data.is_empty() => {}
            Encoder::None => return Err(WireError::Invalid("a body where none may be")),
            Encoder::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WireError::Invalid("a body longer than its length"))?;
                out.put_slice(data);
            }
            Encoder::Chunked => {
                let mut hex = [0u8; 16];
                out.put_slice(hex_of(data.len() as u64, &mut hex));
                out.put_slice(b"\r\n");
                out.put_slice(data);
                out.put_slice(b"\r\n");
            }
            Encoder::UntilClose => out.put_slice(data),
        }
        Ok(())
    }

    pub fn end(&mut self, trailers: Option<&HeaderMap>, out: &mut BytesMut) -> Result<(), WireError> {
        match self {
            Encoder::Length(left) if *left > 0 => Err(WireError::Invalid("a body shorter than its length")),
            Encoder::Chunked => {
                out.put_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    put_headers(out, trailers);
                }
                out.put_slice(b"\r\n");
                Ok(())
            }
            Encoder::Length(_) | Encoder::None | Encoder::UntilClose => Ok(()),
        }
    }
}

fn hex_of(number: u64, buf: &mut [u8; 16]) -> &[u8] {
    let mut at = buf.len();
    let mut left = number;
    loop {
        at -= 1;
        buf[at] = b"0123456789abcdef"[(left % 16) as usize];
        left /= 16;
        if left == 0 {
            return &buf[at..];
        }
    }
}

#[cfg(test)]
mod tests;
