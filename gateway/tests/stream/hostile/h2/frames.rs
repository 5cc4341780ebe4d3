//! Frames that break the rules of a connection or of a stream, and legal ones that few clients send.

use super::Expect::{Ended, Reset, Seen};
use super::{At, Row};
use crate::hostile::frames::*;

/// What the h2 crate says of a frame or a block that it cannot decode, whichever rule it breaks.
const UNREADABLE: u32 = PROTOCOL_ERROR;

/// A request on stream 3 that goes nowhere.
fn refused(at: &At) -> Vec<u8> {
    frame(HEADERS, WHOLE, 3, &at.block("GET", "/a", &[("host", "other.example")]))
}

pub const ROWS: [Row; 35] = [
    ("DATA on no stream", |_| frame(DATA, END_STREAM, 0, b"hi"), Ended(PROTOCOL_ERROR)),
    ("DATA on an idle stream", |_| frame(DATA, END_STREAM, 1, b"hi"), Ended(PROTOCOL_ERROR)),
    (
        "HEADERS on no stream",
        |at| frame(HEADERS, WHOLE, 0, &at.block("GET", "/a", &[])),
        Ended(PROTOCOL_ERROR),
    ),
    (
        "HEADERS on a stream of the server",
        |at| frame(HEADERS, WHOLE, 2, &at.block("GET", "/a", &[])),
        Ended(PROTOCOL_ERROR),
    ),
    (
        "a PUSH_PROMISE of a client",
        |at| [at.post(&[]), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])].concat(),
        Ended(PROTOCOL_ERROR),
    ),
    (
        "CONTINUATION without HEADERS",
        |at| frame(CONTINUATION, END_HEADERS, 1, &at.block("GET", "/a", &[])),
        Ended(PROTOCOL_ERROR),
    ),
    (
        "a frame between HEADERS and CONTINUATION",
        |at| {
            [frame(HEADERS, END_STREAM, 1, &at.block("GET", "/a", &[])), frame(PING, 0, 0, &[0; 8])].concat()
        },
        Ended(PROTOCOL_ERROR),
    ),
    (
        "CONTINUATION of another stream",
        |at| {
            [
                frame(HEADERS, END_STREAM, 1, &at.block("GET", "/a", &[])),
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ]
            .concat()
        },
        Ended(PROTOCOL_ERROR),
    ),
    (
        "a head in many pieces",
        |at| {
            let block = at.block("GET", "/a", &[]);
            let rest: Vec<u8> =
                block[1..].chunks(60).flat_map(|piece| frame(CONTINUATION, 0, 1, piece)).collect();
            [frame(HEADERS, END_STREAM, 1, &block[..1]), rest, frame(CONTINUATION, END_HEADERS, 1, &[])]
                .concat()
        },
        Seen("GET /a\n\n"),
    ),
    (
        "DATA behind the end of its stream",
        |at| [refused(at), frame(DATA, END_STREAM, 3, b"hi")].concat(),
        Ended(PROTOCOL_ERROR),
    ),
    (
        "HEADERS behind the end of their stream",
        |at| [refused(at), refused(at)].concat(),
        Ended(PROTOCOL_ERROR),
    ),
    (
        "HEADERS on an older stream",
        |at| {
            [
                frame(HEADERS, WHOLE, 5, &at.block("GET", "/a", &[("content-length", "1")])),
                frame(HEADERS, WHOLE, 3, &at.block("GET", "/a", &[])),
            ]
            .concat()
        },
        Ended(PROTOCOL_ERROR),
    ),
    (
        "trailers with a pseudo-field",
        |at| [at.post(&[]), at.head(WHOLE, &block(&[(":path", "/b")]))].concat(),
        Seen("POST /a\n\n"),
    ),
    (
        "a second head without end",
        |at| [at.post(&[]), at.head(END_HEADERS, &block(&[("x-a", "1")]))].concat(),
        Reset(PROTOCOL_ERROR),
    ),
    (
        "a head in more pieces than one can need",
        |at| {
            [
                frame(HEADERS, END_STREAM, 1, &at.block("GET", "/a", &[])),
                frame(CONTINUATION, 0, 1, &[]).repeat(50),
            ]
            .concat()
        },
        Ended(ENHANCE_YOUR_CALM),
    ),
    ("a frame over the limit", |_| frame(DATA, 0, 1, &[0; 16_385]), Ended(FRAME_SIZE_ERROR)),
    (
        "padding longer than its frame",
        |at| [at.post(&[]), at.data(PADDED, b"\x09hi")].concat(),
        Ended(PROTOCOL_ERROR),
    ),
    (
        "padding longer than its HEADERS",
        |at| at.head(WHOLE | PADDED, &[vec![255], at.block("GET", "/a", &[])[..9].to_vec()].concat()),
        Ended(PROTOCOL_ERROR),
    ),
    ("a PING of seven bytes", |_| frame(PING, 0, 0, &[0; 7]), Ended(UNREADABLE)),
    ("a PING on a stream", |_| frame(PING, 0, 1, &[0; 8]), Ended(PROTOCOL_ERROR)),
    ("SETTINGS on a stream", |_| frame(SETTINGS, 0, 1, &[]), Ended(PROTOCOL_ERROR)),
    ("SETTINGS of five bytes", |_| frame(SETTINGS, 0, 0, &[0; 5]), Ended(UNREADABLE)),
    ("a SETTINGS acknowledgement with content", |_| frame(SETTINGS, ACK, 0, &[0; 6]), Ended(UNREADABLE)),
    (
        "an initial window over the limit",
        |_| frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
        Ended(UNREADABLE),
    ),
    ("a frame size below the minimum", |_| frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]), Ended(PROTOCOL_ERROR)),
    ("a window that is opened by nothing", |_| frame(WINDOW_UPDATE, 0, 0, &[0; 4]), Ended(PROTOCOL_ERROR)),
    (
        "a connection's window beyond 2^31",
        |_| {
            [
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]),
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]),
            ]
            .concat()
        },
        Ended(FLOW_CONTROL_ERROR),
    ),
    (
        "a stream's window beyond 2^31",
        |at| {
            [
                at.post(&[]),
                frame(WINDOW_UPDATE, 0, 1, &[0x7f, 255, 255, 255]),
                frame(WINDOW_UPDATE, 0, 1, &[0x7f, 255, 255, 255]),
            ]
            .concat()
        },
        Reset(FLOW_CONTROL_ERROR),
    ),
    ("a RST_STREAM of an idle stream", |_| frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), Ended(PROTOCOL_ERROR)),
    (
        "a RST_STREAM of three bytes",
        |at| [at.post(&[]), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
        Ended(UNREADABLE),
    ),
    (
        "a PRIORITY of four bytes",
        |at| [at.post(&[]), frame(PRIORITY, 0, 1, &[0; 4])].concat(),
        Ended(UNREADABLE),
    ),
    ("a header block that is not HPACK", |at| at.head(WHOLE, &[0xff; 12]), Ended(UNREADABLE)),
    ("an entry that the table does not have", |at| at.head(WHOLE, &[0xfe]), Ended(UNREADABLE)),
    (
        "a type of frame that nobody knows",
        |at| [frame(0xfa, 0xff, 0, b"hello"), at.get(&[])].concat(),
        Seen("GET /a\n\n"),
    ),
    (
        "a body in padded and empty pieces",
        |at| {
            [
                at.post(&[]),
                at.data(0, b""),
                at.data(PADDED, b"\x02h\0\0"),
                at.data(0, b""),
                at.data(PADDED, b"\x01i\0"),
                at.data(END_STREAM, b""),
            ]
            .concat()
        },
        Seen("POST /a\n\nhi"),
    ),
];
