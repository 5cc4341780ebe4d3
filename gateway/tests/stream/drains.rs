//! The end of the process as its clients see it: idle tunnels end soon, what runs goes on, nothing new
//! begins.

use std::sync::atomic::Ordering;
use std::time::Duration;

use connectors_testenv::eventually;
use futures::future::join_all;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{self as client, H1, H2, H2Client, collect};
use crate::target::{Target, field, read_head};
use crate::world::{TOKEN, World};

#[tokio::test]
async fn a_drain_ends_idle_tunnels_and_lets_a_request_finish() {
    let world = World::new().await;
    let slow = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        let head = read_head(&mut tls).await;
        seen.heads.lock().unwrap().push(head);
        tokio::time::sleep(Duration::from_millis(400)).await;
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    world.connect("target", &slow.url());
    let mut idle = world.tunnel("target", &slow.authority(), H1).await;
    let mut busy = world.tunnel("target", &slow.authority(), H1).await;
    busy.write_all(client::get("/", &slow.authority()).as_bytes()).await.unwrap();
    eventually("the target sees the request", async || slow.seen.heads().len() == 1).await;
    world.drain();
    let mut end = [0; 1];
    let read = tokio::time::timeout(Duration::from_secs(2), idle.read(&mut end))
        .await
        .expect("an idle tunnel outlives the drain");
    assert!(matches!(read, Ok(0)));
    let head = read_head(&mut busy).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn a_drain_lets_a_running_watch_of_an_h2_client_finish_and_takes_no_new_request() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        read_head(&mut tls).await;
        tls.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await.unwrap();
        eventually("the test lets the watch end", async || seen.bytes.load(Ordering::SeqCst) == 1).await;
        tls.write_all(b"4\r\nlast\r\n0\r\n\r\n").await.unwrap();
    })
    .await;
    world.connect("target", &target.url());
    let get = || Request::get(format!("{}/watch", target.url())).body(()).unwrap();
    let mut client = H2Client::open(&world, "target", &target.authority()).await;
    let (_, _, mut body) = client.send(get(), None).await.unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), "first");
    world.drain();
    let gone = tokio::time::timeout(Duration::from_secs(5), client.refused()).await.expect("no GOAWAY");
    assert!(gone.is_go_away() && gone.reason() == Some(h2::Reason::NO_ERROR), "{gone}");
    target.seen.bytes.store(1, Ordering::SeqCst);
    assert_eq!(collect(body).await.unwrap().0, b"last");
    eventually("the tunnel ends with its last stream", async || {
        world.gateway.parts.metrics.connections_open.get() == 0
    })
    .await;
}

/// A client that the balancer still sends here must learn at once that it has to go elsewhere.
#[tokio::test]
async fn while_a_drain_waits_for_its_streams_new_connections_are_refused() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        let head = read_head(&mut tls).await;
        seen.heads.lock().unwrap().push(head);
        std::future::pending().await
    })
    .await;
    world.connect("target", &target.url());
    let mut watch = world.tunnel("target", &target.authority(), H1).await;
    watch.write_all(client::get("/watch", &target.authority()).as_bytes()).await.unwrap();
    eventually("the watch is under way", async || target.seen.heads().len() == 1).await;
    world.drain();
    for port in [world.port, world.https] {
        eventually("it is refused", async || {
            let refused = TcpStream::connect(("127.0.0.1", port)).await;
            refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        })
        .await;
    }
    assert_eq!(world.gateway.parts.metrics.connections_open.get(), 1, "the watch has ended");
}

/// Answers after a moment, so that at any time some requests are in flight.
async fn busy_target(world: &World, server: bool) -> Target {
    let target = if server {
        Target::script(&world.leaf(), &[], H2, |tls, seen| async move {
            let mut connection: h2::server::Connection<_, bytes::Bytes> =
                h2::server::handshake(tls).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                seen.bytes.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    let _ = respond.send_response(http::Response::new(()), true);
                });
            }
        })
        .await
    } else {
        Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
            while !read_head(&mut tls).await.is_empty() {
                seen.bytes.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
        })
        .await
    };
    world.connect("target", &target.url());
    target
}

/// One request after the other until an answer says that it is the last; gives how many were answered.
async fn h1_traffic(world: &World, target: &Target) -> usize {
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H1).await;
    for answered in 1.. {
        tls.write_all(
            format!("POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\n\r\n").as_bytes(),
        )
        .await
        .unwrap();
        let head = read_head(&mut tls).await;
        assert!(head.starts_with("HTTP/1.1 200"), "a request is lost: {head:?}");
        if field(&head, "connection") == Some("close") {
            return answered;
        }
    }
    unreachable!()
}

/// The same until the connection takes no more. A request may be sent back unprocessed, as GOAWAY says; none
/// may fail otherwise.
async fn h2_traffic(mut client: H2Client, url: String) -> usize {
    for answered in 0.. {
        match client.send(Request::post(&url).body(()).unwrap(), None).await {
            Ok((status, ..)) => assert_eq!(status, 200),
            Err(error) => {
                assert!(
                    error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR),
                    "a request is lost: {error}"
                );
                return answered;
            }
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_drain_under_constant_traffic_loses_no_request() {
    for server in [false, true] {
        let world = World::new().await;
        let target = busy_target(&world, server).await;
        let client = H2Client::open(&world, "target", &target.authority()).await;
        let h1 = join_all((0..6).map(|_| h1_traffic(&world, &target)));
        let h2 = join_all((0..6).map(|_| h2_traffic(client.clone(), target.url())));
        let drain = async {
            eventually("traffic", async || target.seen.bytes.load(Ordering::SeqCst) >= 300).await;
            world.drain();
        };
        let all = async { tokio::join!(h1, h2, drain) };
        let (h1, h2, ()) = tokio::time::timeout(Duration::from_secs(20), all)
            .await
            .expect("clients are not told of the drain");
        let answered: usize = h1.iter().chain(&h2).sum();
        assert_eq!(answered, target.seen.bytes.load(Ordering::SeqCst), "{server}");
        eventually("every connection ends", async || world.gateway.parts.metrics.connections_open.get() == 0)
            .await;
    }
}

#[tokio::test]
async fn a_connection_that_came_before_the_drain_has_one_request_more() {
    let world = World::new().await;
    let target = busy_target(&world, false).await;
    let stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    eventually("it is accepted", async || world.gateway.parts.metrics.connections_open.get() == 1).await;
    world.drain();
    let stream = world.opened_over(stream, "target", &target.authority(), TOKEN).await;
    let mut tls = world.tls(stream, "localhost", H1).await.unwrap();
    tls.write_all(client::get("/", &target.authority()).as_bytes()).await.unwrap();
    let head = read_head(&mut tls).await;
    assert!(head.starts_with("HTTP/1.1 200") && field(&head, "connection") == Some("close"), "{head}");
}
