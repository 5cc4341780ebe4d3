//! Where a body ends: lengths, codings, chunks, trailers, `Expect`, what stands behind a body.

use super::request;
use crate::hostile::Expect::{Cut, Refused, Seen};
use crate::hostile::Row;

pub const ROWS: [Row; 55] = [
    (
        "length before chunks",
        request!("POST /a", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "chunks before length",
        request!("POST /a", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "a length of 0 beside chunks",
        request!("POST /a", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "two different lengths",
        request!("POST /a", "Content-Length: 5\r\nContent-Length: 0\r\n", "hello"),
        Refused(400),
    ),
    (
        "two equal lengths",
        request!("POST /a", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        Refused(400),
    ),
    ("a list of equal lengths", request!("POST /a", "Content-Length: 5, 5\r\n", "hello"), Refused(400)),
    ("a length and a comma", request!("POST /a", "Content-Length: 5,\r\n", "hello"), Refused(400)),
    ("a length with a plus", request!("POST /a", "Content-Length: +5\r\n", "hello"), Refused(400)),
    ("a length with a minus", request!("POST /a", "Content-Length: -5\r\n", "hello"), Refused(400)),
    ("a length with a space in it", request!("POST /a", "Content-Length: 5 0\r\n", "hello"), Refused(400)),
    ("a hexadecimal length", request!("POST /a", "Content-Length: 0x5\r\n", "hello"), Refused(400)),
    ("a length with an underscore", request!("POST /a", "Content-Length: 5_0\r\n", "hello"), Refused(400)),
    ("a length with a fraction", request!("POST /a", "Content-Length: 5.0\r\n", "hello"), Refused(400)),
    ("a length with an exponent", request!("POST /a", "Content-Length: 5e0\r\n", "hello"), Refused(400)),
    ("an empty length", request!("POST /a", "Content-Length:\r\n"), Refused(400)),
    ("a length in quotes", request!("POST /a", "Content-Length: \"5\"\r\n", "hello"), Refused(400)),
    (
        "a length beyond 64 bits",
        request!("POST /a", "Content-Length: 18446744073709551621\r\n", "hello"),
        Refused(400),
    ),
    (
        "a length in digits of another script",
        "POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: \u{665}\r\n\r\nhello".as_bytes(),
        Refused(400),
    ),
    (
        "a space before the colon of a length",
        request!("POST /a", "Content-Length : 5\r\n", "hello"),
        Refused(400),
    ),
    (
        "a space before the colon of a coding",
        request!("POST /a", "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "a tab before the colon of a coding",
        request!("POST /a", "Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "a vertical tab before the coding",
        request!("POST /a", "Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "a coding on a folded line",
        request!("POST /a", "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "chunked and identity",
        request!("POST /a", "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "identity alone",
        request!("POST /a", "Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "hello"),
        Refused(400),
    ),
    (
        "gzip and chunked",
        request!("POST /a", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "chunked twice on one line",
        request!("POST /a", "Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "chunked twice on two lines",
        request!("POST /a", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "chunked with a parameter",
        request!("POST /a", "Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "chunked in quotes",
        request!("POST /a", "Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "chunked and a comma",
        request!("POST /a", "Transfer-Encoding: chunked,\r\n", "0\r\n\r\n"),
        Refused(400),
    ),
    (
        "an empty coding",
        request!("POST /a", "Transfer-Encoding:\r\nContent-Length: 5\r\n", "hello"),
        Refused(400),
    ),
    (
        "chunks of an HTTP/1.0 client",
        b"POST /a HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunks, in capitals",
        request!("POST /a", "TRANSFER-ENCODING: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        Seen(&["POST /a\n\nhello"]),
    ),
    (
        "chunk extensions",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "5;a=\"b\"\r\nhello\r\n0;last\r\n\r\n"),
        Seen(&["POST /a\n\nhello"]),
    ),
    (
        "leading zeros of a chunk size",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "0005\r\nhello\r\n000\r\n\r\n"),
        Seen(&["POST /a\n\nhello"]),
    ),
    (
        "a line feed in a chunk extension",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "5;a\nhello\r\n0\r\n\r\n"),
        Refused(400),
    ),
    (
        "a carriage return in a chunk extension",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        Refused(400),
    ),
    (
        "a space behind a chunk size",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "5 \r\nhello\r\n0\r\n\r\n"),
        Refused(400),
    ),
    (
        "a signed chunk size",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n0\r\n\r\n"),
        Refused(400),
    ),
    (
        "a hexadecimal prefix of a chunk size",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n"),
        Refused(400),
    ),
    (
        "a chunk size beyond 64 bits",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        Refused(400),
    ),
    (
        "a chunk that is longer than its size",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "4\r\nhello\r\n0\r\n\r\n"),
        Refused(400),
    ),
    (
        "chunks that end in line feeds",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "5\nhello\n0\n\n"),
        Refused(400),
    ),
    (
        "a trailer without colon",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "0\r\nbroken\r\n\r\n"),
        Refused(400),
    ),
    (
        "a folded trailer",
        request!("POST /a", "Transfer-Encoding: chunked\r\n", "0\r\nX-A: 1\r\n 2\r\n\r\n"),
        Refused(400),
    ),
    (
        "trailers that speak for someone else",
        request!(
            "POST /a",
            "Transfer-Encoding: chunked\r\n",
            "2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\nImpersonate-User: admin\r\nX-Remote-User: admin\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: x\r\nX-Sum: 1\r\n\r\n"
        ),
        Seen(&["POST /a\n\nhi+x-sum: 1"]),
    ),
    (
        "a GET with a length",
        request!("GET /a", "Content-Length: 5\r\n", "hello"),
        Seen(&["GET /a\ncontent-length: 5\n\nhello"]),
    ),
    (
        "a GET with chunks",
        request!("GET /a", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        Seen(&["GET /a\n\nhello"]),
    ),
    (
        "a HEAD with a length",
        request!("HEAD /a", "Content-Length: 5\r\n", "hello"),
        Seen(&["HEAD /a\ncontent-length: 5\n\nhello"]),
    ),
    (
        "a length of 0 and another request",
        request!("POST /a", "Content-Length: 0\r\n", "GET /b HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        Seen(&["POST /a\ncontent-length: 0\n\n", "GET /b\n\n"]),
    ),
    (
        "no length and another request",
        request!("POST /a", "", "GET /b HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        Seen(&["POST /a\n\n", "GET /b\n\n"]),
    ),
    (
        "requests sent ahead, the second with a body that looks like one",
        request!(
            "GET /a",
            "",
            "POST /b HTTP/1.1\r\nHost: {host}\r\nContent-Length: 18\r\n\r\nGET /c HTTP/1.1\r\n\rGET /d HTTP/1.1\r\nHost: {host}\r\n\r\n"
        ),
        Seen(&["GET /a\n\n", "POST /b\ncontent-length: 18\n\nGET /c HTTP/1.1\r\n\r", "GET /d\n\n"]),
    ),
    (
        "lengths by a name that only resembles",
        request!("POST /a", "Content_Length: 5\r\nContent-Lengt: 9\r\n"),
        Seen(&["POST /a\ncontent-lengt: 9\n\n"]),
    ),
    ("an end in the middle of a head", b"POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Le", Cut),
];
