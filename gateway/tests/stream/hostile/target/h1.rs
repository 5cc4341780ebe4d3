//! Answers of a target that speaks HTTP/1.1.

use tokio::io::AsyncWriteExt;

use super::{Case, Cut, GOOD, Status, Told, Villain, Whole, request};
use crate::world::World;

/// What becomes of the target's connection behind the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It stays open and is good for the next request.
    Reused,
    /// It stays open, but must not be used again.
    Spoilt,
    /// The target closes it.
    Closed,
}

use Then::{Closed, Reused, Spoilt};

/// Name, method, answer, what the client is told, the connection.
type Row = (&'static str, &'static str, &'static [u8], Told, Then);

#[rustfmt::skip] // One line each.
const ROWS: [Row; 45] = [
    ("a plain answer", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Whole(200, "hi"), Reused),
    ("chunks with extensions and trailers", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\n\r\n", Whole(200, "hi"), Reused),
    ("length and chunks", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Status(502), Spoilt),
    ("two equal lengths", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", Status(502), Spoilt),
    ("two lengths", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\nhi", Status(502), Spoilt),
    ("a signed length", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", Status(502), Spoilt),
    ("a negative length", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", Status(502), Spoilt),
    ("another coding", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Status(502), Spoilt),
    ("chunks of HTTP/1.0", "GET", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Status(502), Spoilt),
    ("a folded line", "GET", b"HTTP/1.1 200 OK\r\nX-A: 1\r\n Set-Cookie: a=1\r\nContent-Length: 2\r\n\r\nhi", Status(502), Spoilt),
    ("a bare line feed", "GET", b"HTTP/1.1 200 OK\r\nX-A: 1\nSet-Cookie: a=1\r\nContent-Length: 2\r\n\r\nhi", Status(502), Spoilt),
    ("a bare carriage return", "GET", b"HTTP/1.1 200 OK\r\nX-A: 1\rSet-Cookie: a=1\r\nContent-Length: 2\r\n\r\nhi", Status(502), Spoilt),
    ("a NUL in a value", "GET", b"HTTP/1.1 200 OK\r\nX-A: \0\r\nContent-Length: 2\r\n\r\nhi", Status(502), Spoilt),
    ("a space before a colon", "GET", b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi", Status(502), Spoilt),
    ("an empty name", "GET", b"HTTP/1.1 200 OK\r\n: 1\r\nContent-Length: 2\r\n\r\nhi", Status(502), Spoilt),
    ("a status of two digits", "GET", b"HTTP/1.1 99 X\r\nContent-Length: 2\r\n\r\nhi", Status(502), Spoilt),
    ("a status of four digits", "GET", b"HTTP/1.1 2000 X\r\nContent-Length: 2\r\n\r\nhi", Status(502), Spoilt),
    ("a status below 100", "GET", b"HTTP/1.1 042 X\r\nContent-Length: 2\r\n\r\nhi", Status(502), Spoilt),
    ("HTTP/2.0 in a line", "GET", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", Status(502), Spoilt),
    ("no HTTP at all", "GET", b"<html>hello</html>\r\n\r\n", Status(502), Spoilt),
    ("SSH", "GET", b"SSH-2.0-OpenSSH_9.6\r\n", Status(502), Spoilt),
    ("a 101 to what was no upgrade", "GET", b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi", Status(502), Spoilt),
    ("an interim head", "GET", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Whole(200, "hi"), Reused),
    ("an interim head with framing", "GET", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Whole(200, "hi"), Reused),
    ("a 100 that nobody has asked for", "GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Whole(200, "hi"), Reused),
    ("an end before the head", "POST", b"", Status(502), Closed),
    ("an end in the head", "GET", b"HTTP/1.1 200 OK\r\nContent-Le", Status(502), Closed),
    ("an end in the body", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi", Cut(200), Closed),
    ("an end in a chunk", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhi", Cut(200), Closed),
    ("an end before the last chunk", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", Cut(200), Closed),
    ("an end in the trailers", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-A", Cut(200), Closed),
    ("a chunk size that is none", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0x2\r\nhi\r\n0\r\n\r\n", Cut(200), Spoilt),
    ("a chunk longer than its size", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n2\r\nhello\r\n0\r\n\r\n", Cut(200), Spoilt),
    ("bytes behind the body", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP", Whole(200, "hi"), Spoilt),
    ("an answer behind the body", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", Whole(200, "hi"), Spoilt),
    ("an answer behind the last chunk", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", Whole(200, "hi"), Spoilt),
    ("a body to HEAD", "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", Whole(200, ""), Spoilt),
    ("a body of a 204", "GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 43\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", Whole(204, ""), Spoilt),
    ("chunks of a 204", "GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", Whole(204, ""), Spoilt),
    ("a body of a 304", "GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 43\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", Whole(304, ""), Spoilt),
    ("Connection: close and no end", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", Whole(200, "hi"), Spoilt),
    ("HTTP/1.0", "GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", Whole(200, "hi"), Spoilt),
    ("no length and the end", "GET", b"HTTP/1.1 200 OK\r\n\r\nhi", Whole(200, "hi"), Closed),
    ("Connection nominates the length", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Content-Length, X-A\r\nX-A: 1\r\n\r\nhi", Whole(200, "hi"), Reused),
    ("Proxy-Authenticate", "GET", b"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nhi", Whole(407, "hi"), Reused),
];

async fn run(rows: &[Row]) {
    let world = World::of_one_worker().await;
    let villain = Villain::start(&world, b"\x08http/1.1", |mut tls, desk| async move {
        while request(&mut tls).await {
            let (answer, then) = desk.row().unwrap_or((GOOD, Reused));
            if tls.write_all(answer).await.is_err() || then == Closed {
                return;
            }
        }
    })
    .await;
    for (name, method, answer, told, then) in rows {
        for h2 in [false, true] {
            let case = Case { name, method, row: (*answer, *then), told: *told, spoilt: *then != Reused };
            villain.judge(&world, case, h2).await;
        }
    }
}

#[tokio::test]
async fn an_answer_is_whole_or_refused_and_nothing_behind_it_is_one() {
    run(&ROWS).await;
}

#[tokio::test]
async fn a_target_that_never_comes_to_its_answer_is_cut() {
    let leak = |text: String| &*text.into_bytes().leak();
    let behind = format!("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{:5000}", "x");
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged".repeat(300);
    run(&[
        ("interim heads for ever", "GET", leak("HTTP/1.1 103 X\r\n\r\n".repeat(1000)), Status(502), Spoilt),
        (
            "a head of 100 KB",
            "GET",
            leak(format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(100_000))),
            Status(502),
            Spoilt,
        ),
        ("a head without end", "GET", leak("a".repeat(100_000)), Status(502), Spoilt),
        (
            "20,000 fields",
            "GET",
            leak(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: 1\r\n".repeat(20_000))),
            Status(502),
            Spoilt,
        ),
        // Part of it is still in the TLS library when the body has ended.
        (
            "13 KB behind the body",
            "GET",
            leak(behind + &forged),
            Whole(200, Box::leak(format!("{:5000}", "x").into_boxed_str())),
            Spoilt,
        ),
    ])
    .await;
}
