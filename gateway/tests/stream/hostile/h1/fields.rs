//! Fields: how they are written, whom they speak for, what `Connection` and `Upgrade` may ask.

use super::request;
use crate::hostile::Expect::{Kept, Refused, Seen};
use crate::hostile::Row;

pub const ROWS: [Row; 49] = [
    ("a folded line", request!("GET /a", "X-A: 1\r\n 2\r\n"), Refused(400)),
    ("a folded first line", b"GET /a HTTP/1.1\r\n X-A: 1\r\nHost: {host}\r\n\r\n", Refused(400)),
    ("a bare line feed", request!("GET /a", "X-A: 1\nX-B: 2\r\n"), Refused(400)),
    ("a bare carriage return", request!("GET /a", "X-A: 1\rX-B: 2\r\n"), Refused(400)),
    ("a head that ends in line feeds", b"GET /a HTTP/1.1\nHost: {host}\n\n", Refused(400)),
    ("an end in a bare line feed", b"GET /a HTTP/1.1\r\nHost: {host}\r\n\n", Refused(400)),
    ("a NUL in a name", request!("GET /a", "X-\0A: 1\r\n"), Refused(400)),
    ("a NUL in a value", request!("GET /a", "X-A: 1\0\r\n"), Refused(400)),
    ("a control character in a value", request!("GET /a", "X-A: \x08\r\n"), Refused(400)),
    ("a DEL in a value", request!("GET /a", "X-A: \x7f\r\n"), Refused(400)),
    ("non-ASCII in a name", b"GET /a HTTP/1.1\r\nHost: {host}\r\nX-\xc3\x84: 1\r\n\r\n", Refused(400)),
    (
        "non-ASCII in the name of an identity",
        "GET /a HTTP/1.1\r\nHost: {host}\r\nImpersonate\u{2010}User: admin\r\n\r\n".as_bytes(),
        Refused(400),
    ),
    ("an empty name", request!("GET /a", ": 1\r\n"), Refused(400)),
    ("a line without colon", request!("GET /a", "X-A\r\n"), Refused(400)),
    ("a name in parentheses", request!("GET /a", "(X-A): 1\r\n"), Refused(400)),
    ("a name with a space in it", request!("GET /a", "X A: 1\r\n"), Refused(400)),
    ("a space before a name", b"GET /a HTTP/1.1\r\nHost: {host}\r\n X-A: 1\r\n\r\n", Refused(400)),
    ("a space before the colon of Host", b"GET /a HTTP/1.1\r\nHost : {host}\r\n\r\n", Refused(400)),
    ("non-ASCII in a value", b"GET /a HTTP/1.1\r\nHost: {host}\r\nX-A: \xc3\x84\r\n\r\n", Seen(&["GET /a\nx-a: \u{c4}\n\n"])),
    (
        "identities in every spelling",
        request!(
            "GET /a",
            "X-Remote-User: admin\r\nx-remote-extra-a: 1\r\nProxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\n"
        ),
        Seen(&["GET /a\n\n"]),
    ),
    ("acting as somebody else", request!("GET /a", "Impersonate-User: admin\r\n"), Kept(403)),
    ("acting as a group, in capitals", request!("GET /a", "IMPERSONATE-GROUP: system:masters\r\n"), Kept(403)),
    ("acting as somebody else by a field to come", request!("GET /a", "impersonate-extra-scopes: x\r\n"), Kept(403)),
    ("acting as nobody", request!("GET /a", "Impersonate-User:\r\n"), Kept(403)),
    (
        "identities with underscores",
        request!(
            "GET /a",
            "Impersonate_User: admin\r\nX_Remote_User: admin\r\nX-Remote_Group: system:masters\r\nx_remote-group: a\r\nProxy_Authorization: Basic eA==\r\n"
        ),
        Seen(&["GET /a\n\n"]),
    ),
    (
        "framing with underscores",
        request!("GET /a", "Transfer_Encoding: chunked\r\nContent_Length: 99\r\n"),
        Seen(&["GET /a\n\n"]),
    ),
    ("two Authorizations", request!("GET /a", "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n"), Seen(&["GET /a\n\n"])),
    (
        "Connection nominates Authorization",
        request!("GET /a", "Connection: Authorization\r\nAuthorization: Bearer x\r\n"),
        Seen(&["GET /a\n\n"]),
    ),
    (
        "Connection nominates an identity",
        request!("GET /a", "Connection: Impersonate-User\r\nImpersonate-User: admin\r\n"),
        Kept(403),
    ),
    (
        "Connection nominates a field of the end",
        request!("GET /a", "Connection: X-A, Cookie\r\nX-A: 1\r\nCookie: a=1\r\nX-B: 2\r\n"),
        Seen(&["GET /a\nx-b: 2\n\n"]),
    ),
    ("Connection nominates Host", request!("GET /a", "Connection: Host\r\n"), Kept(400)),
    (
        "Connection nominates the length",
        request!("POST /a", "Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"),
        Kept(400),
    ),
    (
        "Connection nominates the coding",
        request!("POST /a", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
        Seen(&["POST /a\n\nhi"]),
    ),
    ("Connection nominates no name", request!("GET /a", "Connection: a b\r\n"), Kept(400)),
    (
        "Connection in bytes that are no text",
        b"GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: Impersonate-User\xff\r\nImpersonate-User: admin\r\n\r\n",
        Kept(403),
    ),
    (
        "hop-by-hop fields without Connection",
        request!("GET /a", "TE: trailers\r\nKeep-Alive: timeout=9\r\nUpgrade: websocket\r\nHTTP2-Settings: AAMAAABk\r\n"),
        Seen(&["GET /a\nte: trailers\n\n"]),
    ),
    (
        "an upgrade to h2c",
        request!("GET /a", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        Seen(&["GET /a\n\n"]),
    ),
    (
        "an upgrade to h2c with a body",
        request!("POST /a", "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n", "hi"),
        Seen(&["POST /a\ncontent-length: 2\n\nhi"]),
    ),
    ("Host by another name", b"GET /a HTTP/1.1\r\nHost: other.example\r\n\r\n", Kept(421)),
    ("Host with another port", b"GET /a HTTP/1.1\r\nHost: localhost:1\r\n\r\n", Kept(421)),
    ("Host without the port", b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n", Kept(421)),
    ("Host with a user", b"GET /a HTTP/1.1\r\nHost: other@{host}\r\n\r\n", Kept(400)),
    ("Host with a path", b"GET /a HTTP/1.1\r\nHost: {host}/b\r\n\r\n", Kept(400)),
    ("Host in capitals, with a dot", b"GET /a HTTP/1.1\r\nHost: LOCALHOST.:{port}\r\n\r\n", Seen(&["GET /a\n\n"])),
    ("Host in bytes that are no text", b"GET /a HTTP/1.1\r\nHost: {host}\xff\r\n\r\n", Refused(400)),
    ("an empty Host", b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", Kept(400)),
    ("no Host", b"GET /a HTTP/1.1\r\n\r\n", Refused(400)),
    ("two equal Hosts", request!("GET /a", "Host: {host}\r\n"), Refused(400)),
    (
        "X-Forwarded-Host and its like",
        request!("GET /a", "X-Forwarded-Host: other.example\r\nX-HTTP-Method-Override: DELETE\r\n"),
        Seen(&["GET /a\nx-http-method-override: DELETE\n\n"]),
    ),
];
