//! Bodies of HTTP/1.1 out of a buffer and into one: by length, in chunks with trailers, until the end of the
//! connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::HeaderMap;

use super::{Field, Framing, MAX_FIELDS, WireError, headers, note, put_headers, split};

/// A chunk's size line and a trailer section: nobody needs more.
const MAX_CHUNK_LINE: usize = 4096;
const MAX_TRAILERS: usize = 16 << 10;

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
    /// It was not valid: nobody knows where it ends, and nothing behind it may be taken for a message.
    Broken,
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
        let piece = self.piece(buf);
        if piece.is_err() {
            *self = Decoder::Broken;
        }
        piece
    }

    fn piece(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        loop {
            match self {
                Decoder::Done => return Ok(Some(Frame::End)),
                Decoder::Broken => return Err(WireError::Invalid("the body was not valid")),
                Decoder::Length(left) | Decoder::ChunkData(left) => {
                    let Some(data) = take(buf, left) else { return Ok(None) };
                    if *left == 0 {
                        *self = if matches!(self, Decoder::Length(_)) {
                            Decoder::Done
                        } else {
                            Decoder::ChunkEnd
                        };
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
    let rest_ok =
        rest.first().is_none_or(|byte| *byte == b';') && !rest.contains(&b'\r') && !rest.contains(&0);
    if digits == 0 || digits > 15 || !rest_ok {
        return Err(BROKEN);
    }
    let size = size
        .iter()
        .fold(0u64, |sum, digit| sum * 16 + u64::from(char::from(*digit).to_digit(16).unwrap_or(0)));
    buf.advance(end + 1);
    Ok(Some(size))
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
                *left = left
                    .checked_sub(data.len() as u64)
                    .ok_or(WireError::Invalid("a body longer than its length"))?;
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
