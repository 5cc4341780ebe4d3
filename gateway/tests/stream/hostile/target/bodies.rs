//! Bodies that do not come to their end: the client dies, or the target answers early. What was not sent
//! whole never looks whole to the target, and its connection carries nothing else.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use connectors_testenv::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{H1, H2, exchange, get};
use crate::target::{Target, Tls, read_body, read_head};
use crate::world::World;

/// One connection of a target: the head, and every byte behind it.
#[derive(Clone, Default, Debug)]
struct Wire {
    head: String,
    body: Vec<u8>,
    /// The end came by a farewell of TLS, by a reset, or not yet.
    over: bool,
}

/// Notes the bytes of uploads as they come, and answers a GET.
async fn recorder(world: &World, early: &'static [u8]) -> (Target, Arc<Mutex<Vec<Wire>>>) {
    let wires = Arc::new(Mutex::new(Vec::new()));
    let noted = wires.clone();
    let target = Target::script(&world.leaf(), &[], H1, move |tls, _| {
        let wires = noted.clone();
        async move { record(tls, &wires, early).await }
    })
    .await;
    world.connect("target", &target.url());
    (target, wires)
}

async fn record(mut tls: Tls, wires: &Mutex<Vec<Wire>>, early: &[u8]) {
    let at = {
        let mut wires = wires.lock().unwrap();
        wires.push(Wire::default());
        wires.len() - 1
    };
    let mut head = read_head(&mut tls).await;
    while head.starts_with("GET ") {
        let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood").await;
        head = read_head(&mut tls).await;
    }
    wires.lock().unwrap()[at].head = head;
    let _ = tls.write_all(early).await;
    let mut buf = [0; 1024];
    while let Ok(n @ 1..) = tls.read(&mut buf).await {
        wires.lock().unwrap()[at].body.extend_from_slice(&buf[..n]);
    }
    wires.lock().unwrap()[at].over = true;
}

#[tokio::test]
async fn a_client_that_dies_in_its_body_leaves_no_whole_request_behind() {
    for (framing, part) in [("Content-Length: 10", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n")]
    {
        for farewell in [false, true] {
            let world = World::of_one_worker().await;
            let (target, wires) = recorder(&world, b"").await;
            let authority = target.authority();
            // The upload takes a pooled connection.
            let mut first = world.tunnel("target", &authority, H1).await;
            exchange(&mut first, &get("/", &authority)).await;
            let mut tls = world.tunnel("target", &authority, H1).await;
            let request = format!("POST /a HTTP/1.1\r\nHost: {authority}\r\n{framing}\r\n\r\n{part}");
            tls.write_all(request.as_bytes()).await.unwrap();
            eventually("the first part arrives", async || wires.lock().unwrap()[0].body == part.as_bytes())
                .await;
            if farewell {
                tls.shutdown().await.unwrap();
            }
            drop(tls);
            eventually("the target's connection ends", async || wires.lock().unwrap()[0].over).await;
            assert_eq!(
                wires.lock().unwrap()[0].body,
                part.as_bytes(),
                "{framing}: nothing that ends the body"
            );
            exchange(&mut first, &get("/", &authority)).await;
            assert_eq!(wires.lock().unwrap().len(), 2, "{framing}: a new connection");
        }
    }
}

#[tokio::test]
async fn an_http2_client_that_resets_or_dies_in_its_body_leaves_no_whole_request_behind() {
    for dies in [false, true] {
        let world = World::of_one_worker().await;
        let (target, wires) = recorder(&world, b"").await;
        let authority = target.authority();
        let tls = world.tunnel("target", &authority, H2).await;
        let (mut send, connection) = h2::client::handshake(tls).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = ::http::Request::post(format!("https://{authority}/a")).body(()).unwrap();
        let (_response, mut stream) = send.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
        let part = b"5\r\nhello\r\n";
        eventually("the first part arrives", async || {
            wires.lock().unwrap().first().is_some_and(|wire| wire.body == part)
        })
        .await;
        if dies {
            connection.abort();
        } else {
            stream.send_reset(h2::Reason::CANCEL);
        }
        eventually("the target's connection ends", async || wires.lock().unwrap()[0].over).await;
        assert_eq!(wires.lock().unwrap()[0].body, part, "nothing that ends the body");
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_arrives_and_who_wants_no_more_is_not_asked_again_on_that_connection()
 {
    const EARLY: &[u8] =
        b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    for (framing, part, rest) in [
        ("Content-Length: 10", "hello", "world"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n", "5\r\nworld\r\n0\r\n\r\n"),
    ] {
        let world = World::of_one_worker().await;
        let (target, wires) = recorder(&world, EARLY).await;
        let authority = target.authority();
        let mut tls = world.tunnel("target", &authority, H1).await;
        tls.write_all(format!("POST /a HTTP/1.1\r\nHost: {authority}\r\n{framing}\r\n\r\n{part}").as_bytes())
            .await
            .unwrap();
        let head = read_head(&mut tls).await;
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
        assert_eq!(read_body(&mut tls, &head).await.unwrap(), b"no");
        // The client keeps its word; what it sends is read away, and its next request is its next one.
        tls.write_all(rest.as_bytes()).await.unwrap();
        let (head, body) = exchange(&mut tls, &get("/", &authority)).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && body == b"good", "{head}");
        assert_eq!(wires.lock().unwrap().len(), 2, "{framing}: a new connection");
    }
}

/// A client that has heard a final answer in place of `100 Continue` may leave its body out (RFC 9110,
/// 10.1.1): nobody can say whether what comes next is that body or another request.
#[tokio::test]
async fn behind_a_body_that_was_awaited_and_never_asked_for_comes_nothing() {
    let world = World::of_one_worker().await;
    let (target, wires) = recorder(&world, b"HTTP/1.1 403 X\r\nContent-Length: 2\r\n\r\nno").await;
    let authority = target.authority();
    let fields = "Expect: 100-continue\r\nContent-Length: 60\r\n";
    for (request, status) in [
        (format!("POST /a HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n"), "403"),
        (format!("POST /a HTTP/1.1\r\nHost: localhost:1\r\n{fields}\r\n"), "421"),
    ] {
        let mut tls = world.tunnel("target", &authority, H1).await;
        tls.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut tls).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        read_body(&mut tls, &head).await.unwrap();
        let _ = tls.write_all(get("/smuggled", &authority).as_bytes()).await;
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), tls.read_to_end(&mut rest)).await;
        assert!(
            read.is_ok() && rest.is_empty(),
            "the connection goes on: {}",
            String::from_utf8_lossy(&rest)
        );
    }
    assert!(wires.lock().unwrap().iter().all(|wire| wire.body.is_empty()), "{wires:?}");
}

#[tokio::test]
async fn an_http2_target_sees_that_a_body_was_cut() {
    let world = World::of_one_worker().await;
    let ends = Arc::new(Mutex::new(Vec::new()));
    let noted = ends.clone();
    let target = Target::script(&world.leaf(), &[], H2, move |tls, seen| {
        let noted = noted.clone();
        async move {
            let mut requests = h2::server::handshake(tls).await.unwrap();
            while let Some(Ok((request, respond))) = requests.accept().await {
                seen.heads.lock().unwrap().push(request.uri().to_string());
                let noted = noted.clone();
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    let mut last = body.data().await;
                    while matches!(last, Some(Ok(_))) {
                        last = body.data().await;
                    }
                    noted.lock().unwrap().push(last.is_some());
                    // Until here, or the stream would be reset from this side.
                    drop(respond);
                });
            }
        }
    })
    .await;
    world.connect("target", &target.url());
    let authority = target.authority();
    for (path, part) in [
        ("/a", "Content-Length: 10\r\n\r\nhello"),
        ("/b", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ] {
        let mut tls = world.tunnel("target", &authority, H1).await;
        tls.write_all(format!("POST {path} HTTP/1.1\r\nHost: {authority}\r\n{part}").as_bytes())
            .await
            .unwrap();
        eventually("the head arrives", async || {
            target.seen.heads().pop().is_some_and(|url| url.ends_with(path))
        })
        .await;
        drop(tls);
        eventually("the target's stream ends", async || !ends.lock().unwrap().is_empty()).await;
        assert_eq!(std::mem::take(&mut *ends.lock().unwrap()), [true], "{part}: it looks whole");
    }
}

/// What a target says on a connection that rests in the pool is no answer to the request that comes next.
#[tokio::test]
async fn an_answer_that_nobody_has_asked_for_is_not_given_to_the_next_who_asks() {
    let world = World::of_one_worker().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        while !read_head(&mut tls).await.is_empty() {
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood").await;
            // By then the answer has been delivered, and the connection is in the pool.
            tokio::time::sleep(Duration::from_millis(10)).await;
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await;
            seen.bytes.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    world.connect("target", &target.url());
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H1).await;
    for asked in 1..=3 {
        assert_eq!(exchange(&mut tls, &get("/", &authority)).await.1, b"good");
        assert_eq!(target.seen.connections(), asked);
        eventually("the forged answer", async || target.seen.bytes.load(Ordering::SeqCst) == asked).await;
    }
}
