//! HTTP/2 by hand: frames with any content, header blocks without compression, and what came back.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
/// A head without body.
pub const WHOLE: u8 = END_HEADERS | END_STREAM;

pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block: literals, never indexed.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name.as_bytes(), value.as_bytes())).collect()
}

pub fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        if text.len() < 127 {
            out.push(text.len() as u8);
        } else {
            let mut rest = text.len() - 127;
            out.push(127);
            while rest >= 128 {
                out.push(rest as u8 | 128);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
        out.extend_from_slice(text);
    }
    out
}

/// What a peer has sent, as far as the rows ask.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of stream 1.
    pub status: Option<u16>,
    pub body: Vec<u8>,
    pub reset: Option<u32>,
    pub goaway: Option<u32>,
    pub closed: bool,
}

pub async fn greet(io: &mut (impl AsyncWrite + Unpin)) {
    io.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
}

/// Reads until stream 1 or the connection has ended.
pub async fn outcome(io: &mut (impl AsyncRead + Unpin)) -> Outcome {
    let mut seen = Outcome::default();
    loop {
        let Some((kind, flags, stream, payload)) = next(io).await else {
            seen.closed = true;
            return seen;
        };
        match (kind, stream) {
            (HEADERS, 1) => seen.status = Some(status(&payload)),
            (DATA, 1) => seen.body.extend_from_slice(&payload),
            (RST_STREAM, 1) => seen.reset = Some(code(&payload)),
            (GOAWAY, 0) => seen.goaway = Some(code(&payload[4..])),
            _ => continue,
        }
        if seen.reset.is_some() || seen.goaway.is_some() || stream == 1 && flags & END_STREAM != 0 {
            return seen;
        }
    }
}

/// One frame: type, flags, stream, payload. None at the end of the connection.
pub async fn next(io: &mut (impl AsyncRead + Unpin)) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    io.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], code(&head[5..]), payload))
}

fn code(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// The status is the first field of an answer: an entry of the static table, or three digits in Huffman's
/// code.
fn status(block: &[u8]) -> u16 {
    match block[0] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        0x08 | 0x48 if block[1] & 0x80 != 0 => digits(&block[2..]),
        0x08 | 0x48 => String::from_utf8_lossy(&block[2..5]).parse().unwrap(),
        other => panic!("an answer that begins with {other:x}"),
    }
}

/// 0 to 2 have five bits, the other digits six (RFC 7541, appendix B).
fn digits(bytes: &[u8]) -> u16 {
    let bits = bytes[..3].iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << 8;
    let (mut number, mut at) = (0, 0);
    for _ in 0..3 {
        let five = bits << at >> 27;
        let (digit, length) = if five < 3 { (five, 5) } else { ((bits << at >> 26) - 0b01_1001 + 3, 6) };
        number = number * 10 + digit as u16;
        at += length;
    }
    number
}

#[test]
fn a_status_in_huffmans_code_is_read() {
    // 421 is 011010 00010 00001, padded with ones.
    assert_eq!(digits(&[0b0110_1000, 0b0100_0001, 0xff]), 421);
}
