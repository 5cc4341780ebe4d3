//! The end of the process as its clients see it: idle tunnels end at once, what runs goes on, nothing new begins.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{self as client, H1, H2Client, collect};
use crate::target::{Target, read_head};
use crate::world::{World, eventually};

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
    eventually("the target sees the request", || slow.seen.heads().len() == 1).await;
    world.drain();
    let mut end = [0; 1];
    let read =
        tokio::time::timeout(Duration::from_secs(2), idle.read(&mut end)).await.expect("an idle tunnel outlives the drain");
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
        eventually("the test lets the watch end", || seen.bytes.load(Ordering::SeqCst) == 1).await;
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
    eventually("the tunnel ends with its last stream", || world.gateway.parts.metrics.connections_open.get() == 0).await;
}
