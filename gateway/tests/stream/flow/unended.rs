//! Heads of requests that do not end: what they take is bounded, and so is their time.

use std::time::Duration;

use connectors_testenv::eventually;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{ROOM, at_most};
use crate::hostile::frames::{CONTINUATION, HEADERS, frame, greet, next};
use crate::http::{H2, H2Client};
use crate::target::{Target, Tls};
use crate::world::World;

/// Larger than is shipped, so that few connections are enough.
const HEAD: usize = 1 << 20;
const CLIENTS: usize = 300;
/// Without a connector, so it is answered at once.
const FIRST: &str = "GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n";

/// Begins a head behind `first` and gives the last answer once the connection has ended.
async fn begins(world: &World, first: &str) -> JoinHandle<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    let head = format!("{first}GET / HTTP/1.1\r\nHost: a\r\nx-padding: {}", "x".repeat(HEAD * 7 / 8));
    tokio::spawn(async move {
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        let _ = tokio::join!(write.write_all(head.as_bytes()), read.read_to_end(&mut answer));
        let answer = String::from_utf8(answer).unwrap();
        answer.rsplit_once("HTTP/1.1 ").map(|(_, last)| last.to_owned()).unwrap_or_default()
    })
}

/// Somebody else's request.
async fn others_get_on(world: &World) {
    let target = Target::http(&world.leaf(), true).await;
    world.connect("target", &target.url());
    let mut client = H2Client::open(world, "target", &target.authority()).await;
    let get = Request::get(target.url()).body(()).unwrap();
    assert_eq!(client.send(get, None).await.unwrap().0, 200);
}

/// What does not fit is refused, and others get on. Gives what one of the refused was told.
async fn are_bounded(world: &World, mut begun: Vec<JoinHandle<String>>) -> String {
    let gauge = world.gateway.parts.metrics.held.streams.clone();
    eventually("what does not fit is refused", async || begun.iter().any(JoinHandle::is_finished)).await;
    assert!(gauge.get() > 64 << 20, "{} MiB are counted", gauge.get() >> 20);
    assert!(gauge.get() < ROOM as i64, "{} MiB are held", gauge.get() >> 20);
    let refused = begun.extract_if(.., |one| one.is_finished()).next().unwrap().await.unwrap();
    others_get_on(world).await;
    assert!(!begun.is_empty());
    begun.iter().for_each(JoinHandle::abort);
    eventually("all is given back", async || at_most(1 << 20, gauge.get())).await;
    refused
}

async fn large_heads(first_comes_in: Duration) -> World {
    World::with(|settings| {
        (settings.limits.head_bytes, settings.timeouts.head) = (HEAD, first_comes_in);
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_do_not_end_are_bounded_the_first_of_a_connection_and_later_ones() {
    for first in ["", FIRST] {
        let world = large_heads(Duration::from_secs(60)).await;
        let mut begun = Vec::new();
        for _ in 0..CLIENTS {
            begun.push(begins(&world, first).await);
        }
        let refused = are_bounded(&world, begun).await;
        assert!(refused.starts_with("503 ") && refused.contains("\"kind\":\"Status\""), "{refused}");
    }
}

async fn https(world: &World) -> Tls {
    let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
    world.tls(stream, "c-target.demo.svc", H2).await.unwrap()
}

/// To the end of the connection.
async fn drained(tls: &mut Tls) {
    while next(tls).await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_blocks_of_http2_that_do_not_end_are_bounded() {
    let world = large_heads(Duration::from_secs(60)).await;
    world.connect("target", "https://localhost:1");
    let begun =
        [frame(HEADERS, 0, 1, &[0; 100]), frame(CONTINUATION, 0, 1, &[0; 16 << 10]).repeat(56)].concat();
    let mut all = Vec::new();
    for _ in 0..CLIENTS {
        let (mut tls, begun) = (https(&world).await, begun.clone());
        all.push(tokio::spawn(async move {
            greet(&mut tls).await;
            let _ = tls.write_all(&begun).await;
            drained(&mut tls).await;
            String::new()
        }));
    }
    are_bounded(&world, all).await;
}

#[tokio::test]
async fn a_header_block_of_http2_that_does_not_end_in_time_ends_its_connection() {
    let world = large_heads(Duration::from_secs(1)).await;
    let target = Target::http(&world.leaf(), true).await;
    world.connect("target", &target.url());
    // Known, so that it may wait for its next request as long as it likes.
    let mut tls = world.tunnel("target", &target.authority(), H2).await;
    greet(&mut tls).await;
    tls.write_all(&frame(HEADERS, 0, 1, b"")).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(8), drained(&mut tls)).await;
    assert!(ended.is_ok(), "it waits until the client is silent");
}
