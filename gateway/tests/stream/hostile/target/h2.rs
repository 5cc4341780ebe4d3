//! Answers of a target that speaks HTTP/2, frame by frame.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::io::AsyncWriteExt;

use super::{Case, Cut, Status, Told, Villain, Whole};
use crate::hostile::frames::*;
use crate::target::Tls;
use crate::world::World;

/// Name, method, frames for a stream, what the client is told, whether the connection must not be used again.
type Row = (&'static str, &'static str, fn(u32) -> Vec<u8>, Told, bool);

fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(fields))
}

fn body(stream: u32, data: &[u8]) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, data)
}

const FORGED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";

#[rustfmt::skip] // One line each.
const ROWS: [Row; 24] = [
    ("a plain answer", "GET", |s| [head(s, END_HEADERS, &[(":status", "200")]), body(s, b"hi")].concat(), Whole(200, "hi"), false),
    ("a body of a 204", "GET", |s| [head(s, END_HEADERS, &[(":status", "204")]), body(s, FORGED)].concat(), Whole(204, ""), false),
    ("a body of a 304", "GET", |s| [head(s, END_HEADERS, &[(":status", "304")]), body(s, FORGED)].concat(), Whole(304, ""), false),
    ("a body to HEAD", "HEAD", |s| [head(s, END_HEADERS, &[(":status", "200")]), body(s, FORGED)].concat(), Whole(200, ""), false),
    ("a body longer than its length", "GET", |s| [head(s, END_HEADERS, &[(":status", "200"), ("content-length", "1")]), body(s, b"hi")].concat(), Cut(200), false),
    ("a body shorter than its length", "GET", |s| [head(s, END_HEADERS, &[(":status", "200"), ("content-length", "9")]), body(s, b"hi")].concat(), Cut(200), false),
    ("a length and no body", "GET", |s| head(s, WHOLE, &[(":status", "200"), ("content-length", "9")]), Status(502), false),
    ("two lengths", "GET", |s| [head(s, END_HEADERS, &[(":status", "200"), ("content-length", "2"), ("content-length", "3")]), body(s, b"hi")].concat(), Status(502), false),
    ("connection", "GET", |s| [head(s, END_HEADERS, &[(":status", "200"), ("connection", "close")]), body(s, b"hi")].concat(), Status(502), false),
    ("transfer-encoding", "GET", |s| [head(s, END_HEADERS, &[(":status", "200"), ("transfer-encoding", "chunked")]), body(s, b"0\r\n\r\n")].concat(), Status(502), false),
    ("no status", "GET", |s| [head(s, END_HEADERS, &[("x-a", "1")]), body(s, b"hi")].concat(), Status(502), false),
    ("a status that is none", "POST", |s| [head(s, END_HEADERS, &[(":status", "2x0")]), body(s, b"hi")].concat(), Status(502), true),
    ("a 101", "GET", |s| [head(s, END_HEADERS, &[(":status", "101")]), head(s, END_HEADERS, &[(":status", "200")]), body(s, b"hi")].concat(), Status(502), false),
    ("a value with CR LF", "POST", |s| [head(s, END_HEADERS, &[(":status", "200"), ("x-a", "1\r\nset-cookie: a=1")]), body(s, b"hi")].concat(), Status(502), true),
    ("a name in capitals", "POST", |s| [head(s, END_HEADERS, &[(":status", "200"), ("X-A", "1")]), body(s, b"hi")].concat(), Status(502), true),
    ("a reset before the head", "POST", |s| frame(RST_STREAM, 0, s, &[0, 0, 0, 8]), Status(502), false),
    ("a reset in the body", "GET", |s| [head(s, END_HEADERS, &[(":status", "200")]), frame(DATA, 0, s, b"h"), frame(RST_STREAM, 0, s, &[0, 0, 0, 2])].concat(), Cut(200), false),
    ("a GOAWAY that leaves the request out", "POST", |_| frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 2]), Whole(200, "good"), false),
    ("DATA before the head", "POST", |s| body(s, b"hi"), Status(502), true),
    ("a push", "POST", |s| frame(PUSH_PROMISE, END_HEADERS, s, &[&[0, 0, 0, 2], &*block(&[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "x")])].concat()), Status(502), true),
    ("an answer to a stream that was not opened", "POST", |s| head(s + 2, WHOLE, &[(":status", "200")]), Status(502), true),
    ("an interim head", "GET", |s| [head(s, END_HEADERS, &[(":status", "103"), ("link", "</a>")]), head(s, WHOLE, &[(":status", "200")])].concat(), Whole(200, ""), false),
    ("a frame that is no HTTP/2", "POST", |_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec(), Status(502), true),
    ("trailers with framing", "GET", |s| [head(s, END_HEADERS, &[(":status", "200")]), frame(DATA, 0, s, b"hi"), head(s, WHOLE, &[("content-length", "9"), ("transfer-encoding", "chunked")])].concat(), Cut(200), false),
];

/// Answers each head with the frames of its row. Header blocks of requests are not read: one request at a
/// time is sent.
async fn serve(mut tls: Tls, desk: super::Desk<fn(u32) -> Vec<u8>>) {
    let mut preface = [0; 24];
    if tokio::io::AsyncReadExt::read_exact(&mut tls, &mut preface).await.is_err() {
        return;
    }
    let _ = tls.write_all(&frame(SETTINGS, 0, 0, &[])).await;
    while let Some((kind, flags, stream, _)) = next(&mut tls).await {
        let out = match kind {
            HEADERS => match desk.row() {
                Some(frames) => frames(stream),
                None => [head(stream, END_HEADERS, &[(":status", "200")]), body(stream, b"good")].concat(),
            },
            SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
            _ => continue,
        };
        if tls.write_all(&out).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn an_http2_answer_is_whole_or_refused_and_nothing_behind_it_is_one() {
    let world = World::of_one_worker().await;
    let villain = Villain::start(&world, b"\x02h2", serve).await;
    let mut failed = Vec::new();
    for (name, method, frames, told, spoilt) in ROWS {
        for h2 in [false, true] {
            let judged = villain.judge(&world, Case { name, method, row: frames, told, spoilt }, h2);
            if AssertUnwindSafe(judged).catch_unwind().await.is_err() {
                failed.push((name, h2));
            }
        }
    }
    assert_eq!(failed, Vec::new());
}
