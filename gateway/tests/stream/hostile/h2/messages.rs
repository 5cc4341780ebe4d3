//! Messages: pseudo-fields, fields of HTTP/1.1, identities, lengths, trailers.

use super::Expect::{Bare, Ended, Refused, Reset, Seen};
use super::{At, Row};
use crate::hostile::frames::{CONTINUATION, END_HEADERS, END_STREAM, PROTOCOL_ERROR, WHOLE, frame, literal};

const MALFORMED: super::Expect = Reset(PROTOCOL_ERROR);
/// The h2 crate takes what it cannot read as a field for an error of the connection, which RFC 9113, 5.4.2
/// leaves to it.
const UNREADABLE: super::Expect = Ended(PROTOCOL_ERROR);

/// A GET with these pseudo-fields and no others.
fn pseudo(at: &At, fields: &[(&str, &str)]) -> Vec<u8> {
    at.head(WHOLE, &at.only(fields))
}

fn path(at: &At, path: &str) -> Vec<u8> {
    at.head(WHOLE, &at.block("GET", path, &[]))
}

fn raw(at: &At, name: &[u8], value: &[u8]) -> Vec<u8> {
    at.head(WHOLE, &[at.block("GET", "/a", &[]), literal(name, value)].concat())
}

fn trailers(at: &At, fields: &[(&str, &str)]) -> Vec<u8> {
    let trailers = at.head(WHOLE, &crate::hostile::frames::block(fields));
    [at.post(&[]), at.data(0, b"hi"), trailers].concat()
}

pub const ROWS: [Row; 62] = [
    ("a plain GET", |at| at.get(&[]), Seen("GET /a\n\n")),
    ("150 fields", |at| at.get(&[("x-many", "1"); 150]), Refused(431)),
    ("connection", |at| at.get(&[("connection", "close")]), MALFORMED),
    ("connection nominates an identity", |at| at.get(&[("connection", "impersonate-user")]), MALFORMED),
    ("keep-alive", |at| at.get(&[("keep-alive", "timeout=5")]), MALFORMED),
    ("proxy-connection", |at| at.get(&[("proxy-connection", "close")]), MALFORMED),
    (
        "transfer-encoding",
        |at| [at.post(&[("transfer-encoding", "chunked")]), at.data(END_STREAM, b"0\r\n\r\n")].concat(),
        MALFORMED,
    ),
    ("upgrade to h2c", |at| at.get(&[("upgrade", "h2c")]), MALFORMED),
    ("upgrade to websocket", |at| at.get(&[("upgrade", "websocket")]), MALFORMED),
    ("te: trailers", |at| at.get(&[("te", "trailers")]), Seen("GET /a\nte: trailers\n\n")),
    ("te: gzip", |at| at.get(&[("te", "gzip")]), MALFORMED),
    ("a name in capitals", |at| at.get(&[("X-A", "1")]), UNREADABLE),
    ("an empty name", |at| at.get(&[("", "1")]), UNREADABLE),
    ("a name with a space", |at| at.get(&[("x a", "1")]), UNREADABLE),
    ("a name with a colon", |at| at.get(&[("x:a", "1")]), UNREADABLE),
    ("a name with CR LF", |at| at.get(&[("x\r\nimpersonate-user", "admin")]), UNREADABLE),
    ("a name with a NUL", |at| at.get(&[("x\0", "1")]), UNREADABLE),
    ("a name that is not ASCII", |at| at.get(&[("x-\u{e4}", "1")]), UNREADABLE),
    ("a value with CR LF", |at| at.get(&[("x-a", "1\r\nimpersonate-user: admin")]), UNREADABLE),
    ("a value with LF", |at| at.get(&[("x-a", "1\nimpersonate-user: admin")]), UNREADABLE),
    ("a value with a NUL", |at| at.get(&[("x-a", "1\0")]), UNREADABLE),
    ("a value that is not ASCII", |at| raw(at, b"x-a", b"\xc3\x84"), Seen("GET /a\nx-a: \u{c4}\n\n")),
    (
        "no method",
        |at| pseudo(at, &[(":scheme", "https"), (":path", "/a"), (":authority", &at.authority)]),
        MALFORMED,
    ),
    (
        "no scheme",
        |at| pseudo(at, &[(":method", "GET"), (":path", "/a"), (":authority", &at.authority)]),
        MALFORMED,
    ),
    (
        "no path",
        |at| pseudo(at, &[(":method", "GET"), (":scheme", "https"), (":authority", &at.authority)]),
        MALFORMED,
    ),
    (
        "no host at all",
        |at| pseudo(at, &[(":method", "GET"), (":scheme", "https"), (":path", "/a")]),
        Refused(400),
    ),
    (
        "host in place of :authority",
        |at| {
            pseudo(at, &[(":method", "GET"), (":scheme", "https"), (":path", "/a"), ("host", &at.authority)])
        },
        Seen("GET /a\n\n"),
    ),
    ("host beside an equal :authority", |at| at.get(&[("host", &at.authority)]), Seen("GET /a\n\n")),
    ("host beside another :authority", |at| at.get(&[("host", "other.example")]), Refused(400)),
    ("two hosts", |at| at.get(&[("host", &at.authority), ("host", &at.authority)]), Refused(400)),
    ("two methods", |at| at.get(&[(":method", "POST")]), MALFORMED),
    ("two paths", |at| at.head(WHOLE, &[at.block("GET", "/a", &[(":path", "/b")])].concat()), MALFORMED),
    (
        "two authorities",
        |at| at.head(WHOLE, &at.block("GET", "/a", &[(":authority", "other.example")])),
        MALFORMED,
    ),
    (
        "a pseudo-field behind a field",
        |at| {
            pseudo(
                at,
                &[
                    (":method", "GET"),
                    (":scheme", "https"),
                    (":path", "/a"),
                    ("x-a", "1"),
                    (":authority", &at.authority),
                ],
            )
        },
        MALFORMED,
    ),
    ("a pseudo-field of answers", |at| at.get(&[(":status", "200")]), MALFORMED),
    ("a pseudo-field that nobody knows", |at| at.get(&[(":x", "1")]), UNREADABLE),
    (
        "an extended CONNECT",
        |at| at.head(END_HEADERS, &at.block("CONNECT", "/a", &[(":protocol", "websocket")])),
        MALFORMED,
    ),
    ("a protocol for a GET", |at| at.get(&[(":protocol", "websocket")]), MALFORMED),
    ("a CONNECT", |at| pseudo(at, &[(":method", "CONNECT"), (":authority", &at.authority)]), Refused(400)),
    ("a method with a space", |at| at.head(WHOLE, &at.block("GET /b HTTP/1.1", "/a", &[])), UNREADABLE),
    ("a method with CR LF", |at| at.head(WHOLE, &at.block("GET\r\n", "/a", &[])), UNREADABLE),
    ("an empty method", |at| at.head(WHOLE, &at.block("", "/a", &[])), UNREADABLE),
    ("a TRACE", |at| at.head(WHOLE, &at.block("TRACE", "/a", &[])), Refused(501)),
    ("an empty path", |at| path(at, ""), MALFORMED),
    ("a star", |at| path(at, "*"), Refused(400)),
    ("a path without slash", |at| path(at, "a"), MALFORMED),
    ("a URL for a path", |at| path(at, "http://other.example/a"), MALFORMED),
    ("a path with a space", |at| path(at, "/a HTTP/1.1"), MALFORMED),
    ("a path with CR LF", |at| path(at, "/a HTTP/1.1\r\nx-a: 1"), MALFORMED),
    (
        "an authority with a user",
        |at| path(&At { authority: format!("x@{}", at.authority), login: at.login.clone() }, "/a"),
        Refused(400),
    ),
    (
        "an authority with a path",
        |at| path(&At { authority: format!("{}/b", at.authority), login: at.login.clone() }, "/a"),
        MALFORMED,
    ),
    (
        "identities in every spelling",
        |at| {
            at.get(&[
                ("impersonate_group", "a"),
                ("x-remote-user", "admin"),
                ("proxy-authorization", "Basic eA=="),
            ])
        },
        Seen("GET /a\n\n"),
    ),
    ("acting as somebody else", |at| at.get(&[("impersonate-user", "admin")]), Refused(403)),
    ("HTTP2-Settings", |at| at.get(&[("http2-settings", "AAMAAABk")]), Seen("GET /a\n\n")),
    (
        "cookies in pieces",
        |at| at.get(&[("cookie", "a=1"), ("cookie", "b=2")]),
        Seen("GET /a\ncookie: a=1; b=2\n\n"),
    ),
    ("a length and no body", |at| at.get(&[("content-length", "5")]), MALFORMED),
    (
        "a body longer than its length",
        |at| [at.post(&[("content-length", "1")]), at.data(END_STREAM, b"hi")].concat(),
        MALFORMED,
    ),
    (
        "two lengths",
        |at| {
            [at.post(&[("content-length", "2"), ("content-length", "3")]), at.data(END_STREAM, b"hi")]
                .concat()
        },
        MALFORMED,
    ),
    (
        "a signed length",
        |at| [at.post(&[("content-length", "+2")]), at.data(END_STREAM, b"hi")].concat(),
        MALFORMED,
    ),
    (
        "trailers that speak for someone else",
        |at| {
            trailers(
                at,
                &[
                    ("authorization", "Bearer x"),
                    ("impersonate-user", "admin"),
                    ("content-length", "9"),
                    ("host", "x"),
                    ("x-sum", "1"),
                ],
            )
        },
        Seen("POST /a\n\nhi+x-sum: 1"),
    ),
    (
        "a list of fields over the limit",
        |at| {
            let long = "a".repeat(15_000);
            let head = frame(1, END_STREAM, 1, &at.block("GET", "/a", &[]));
            let more: Vec<u8> = (0..5)
                .flat_map(|i| {
                    frame(
                        CONTINUATION,
                        if i == 4 { END_HEADERS } else { 0 },
                        1,
                        &literal(b"x-long", long.as_bytes()),
                    )
                })
                .collect();
            [head, more].concat()
        },
        Bare(431),
    ),
    (
        "a body longer than the head says, in padding",
        |at| [at.post(&[("content-length", "2")]), at.data(END_STREAM | 8, b"\x03hi\0\0\0")].concat(),
        Seen("POST /a\ncontent-length: 2\n\nhi"),
    ),
];

pub const OF_A_TUNNEL: [Row; 12] = [
    (
        "another authority",
        |at| path(&At { authority: "other.example".to_owned(), login: at.login.clone() }, "/base/a"),
        Refused(421),
    ),
    (
        "the same host, another port",
        |at| path(&At { authority: "localhost:1".to_owned(), login: at.login.clone() }, "/base/a"),
        Refused(421),
    ),
    (
        "the scheme http",
        |at| {
            pseudo(
                at,
                &[
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":path", "/base/a"),
                    (":authority", &at.authority),
                ],
            )
        },
        Refused(400),
    ),
    (
        "a scheme that nobody knows",
        |at| {
            pseudo(
                at,
                &[
                    (":method", "GET"),
                    (":scheme", "gopher"),
                    (":path", "/base/a"),
                    (":authority", &at.authority),
                ],
            )
        },
        Refused(400),
    ),
    ("inside", |at| path(at, "/base/a"), Seen("GET /base/a\n\n")),
    ("outside", |at| path(at, "/basement"), Refused(403)),
    ("two slashes", |at| path(at, "//base/a"), Refused(403)),
    ("dot segments", |at| path(at, "/base/../other"), Refused(400)),
    ("escaped dots", |at| path(at, "/base/%2e%2e/other"), Refused(400)),
    ("an escaped slash", |at| path(at, "/base%2fother"), Refused(403)),
    ("a backslash", |at| path(at, "/base/..\\other"), Refused(400)),
    ("a fragment", |at| path(at, "/base/a#/../b"), Seen("GET /base/a\n\n")),
];
