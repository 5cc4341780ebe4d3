//! The stream of bytes that an upgrade becomes: early ones, half-closes, readers that stop, ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use connectors_testenv::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{agreeing, echo, upgraded, within};
use crate::http::H1;
use crate::target::{Target, read_head};
use crate::upgrade_load::{SPDY, WEBSOCKET, agreement, request};
use crate::world::World;

#[tokio::test]
async fn more_than_the_gateway_holds_may_be_sent_ahead_of_the_answer() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        let head = read_head(&mut tls).await;
        // Later than the client's bytes.
        while seen.bytes.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tls.write_all(agreement(&head).as_bytes()).await.unwrap();
        let mut all = Vec::new();
        tls.read_to_end(&mut all).await.unwrap();
        tls.write_all(&all).await.unwrap();
        let _ = tls.shutdown().await;
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    let early: Vec<u8> = (0..150_000u32).map(|i| (i % 253) as u8).collect();
    tls.write_all(request(SPDY, "/attach", &target.authority()).as_bytes()).await.unwrap();
    tls.write_all(&early).await.unwrap();
    // Even its end may come before the answer.
    tls.shutdown().await.unwrap();
    target.seen.bytes.store(1, Ordering::SeqCst);
    assert!(within(read_head(&mut tls)).await.starts_with("HTTP/1.1 101 "));
    let mut got = Vec::new();
    within(tls.read_to_end(&mut got)).await.unwrap();
    assert!(got == early, "{} bytes", got.len());
}

#[tokio::test]
async fn half_closes_pass_in_both_directions() {
    let (world, target) = agreeing(|mut tls, _| async move {
        // The client ends first, then hears the rest.
        let mut all = Vec::new();
        tls.read_to_end(&mut all).await.unwrap();
        all.reverse();
        tls.write_all(&all).await.unwrap();
        let _ = tls.shutdown().await;
    })
    .await;
    let mut tls = upgraded(&world, &target, SPDY).await;
    tls.write_all(b"stdin").await.unwrap();
    tls.shutdown().await.unwrap();
    let mut got = String::new();
    within(tls.read_to_string(&mut got)).await.unwrap();
    assert_eq!(got, "nidts");

    let (world, target) = agreeing(|mut tls, seen| async move {
        tls.write_all(b"output").await.unwrap();
        tls.shutdown().await.unwrap();
        let mut all = Vec::new();
        tls.read_to_end(&mut all).await.unwrap();
        seen.bytes.store(all.len(), Ordering::SeqCst);
    })
    .await;
    let mut tls = upgraded(&world, &target, WEBSOCKET).await;
    let mut got = String::new();
    within(tls.read_to_string(&mut got)).await.unwrap();
    assert_eq!(got, "output");
    tls.write_all(&[7; 1000]).await.unwrap();
    tls.shutdown().await.unwrap();
    eventually("what was sent after the target's end arrives", async || {
        target.seen.bytes.load(Ordering::SeqCst) == 1000
    })
    .await;
}

#[tokio::test]
async fn a_lot_flows_both_ways_at_once() {
    let (world, target) = agreeing(echo).await;
    let tls = upgraded(&world, &target, WEBSOCKET).await;
    let (mut read, mut write) = tokio::io::split(tls);
    let sent: Vec<u8> = (0..8_000_000u32).map(|i| (i % 253) as u8).collect();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    within(read.read_to_end(&mut got)).await.unwrap();
    writer.await.unwrap();
    assert!(got == sent, "{} bytes came back", got.len());
}

/// The most that was seen, once nothing has moved for half a second.
async fn settled(moved: impl Fn() -> usize) -> usize {
    let (mut last, mut since) = (moved(), Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if moved() != last {
            (last, since) = (moved(), Instant::now());
        }
        // What the kernel's socket buffers take, not the gateway.
        assert!(last < 64 << 20, "{last} bytes were taken for a reader that reads none");
    }
    last
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer_in_either_direction() {
    let (world, target) = agreeing(|mut tls, seen| async move {
        while tls.write_all(&[0; 65536]).await.is_ok() {
            seen.bytes.fetch_add(65536, Ordering::SeqCst);
        }
    })
    .await;
    let tls = upgraded(&world, &target, SPDY).await;
    assert!(settled(|| target.seen.bytes.load(Ordering::SeqCst)).await > 0);
    drop(tls);

    let (world, target) = agreeing(|tls, _| async move {
        let _held = tls;
        std::future::pending::<()>().await;
    })
    .await;
    let mut tls = upgraded(&world, &target, SPDY).await;
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = sent.clone();
    let writer = tokio::spawn(async move {
        while tls.write_all(&[0; 65536]).await.is_ok() {
            counted.fetch_add(65536, Ordering::SeqCst);
        }
    });
    assert!(settled(|| sent.load(Ordering::SeqCst)).await > 0);
    writer.abort();
}

#[tokio::test]
async fn a_stream_ends_when_either_end_dies() {
    let (world, target) = agreeing(|mut tls, _| async move {
        tls.write_all(b"last words").await.unwrap();
        // Gone without the farewell of TLS.
    })
    .await;
    let mut tls = upgraded(&world, &target, SPDY).await;
    let mut got = Vec::new();
    let _ = within(tls.read_to_end(&mut got)).await;
    assert_eq!(got, b"last words");

    let (world, target) = agreeing(|mut tls, seen| async move {
        while matches!(tls.read(&mut [0; 64]).await, Ok(n) if n > 0) {}
        seen.bytes.store(1, Ordering::SeqCst);
    })
    .await;
    drop(upgraded(&world, &target, SPDY).await);
    eventually("the target is told", async || target.seen.bytes.load(Ordering::SeqCst) == 1).await;
    let open = || world.gateway.parts.metrics.requests.open();
    eventually("the stream is closed", async || open() == 0).await;
}

#[tokio::test]
async fn silence_and_a_drain_end_no_stream() {
    let world = World::with(|settings| {
        settings.timeouts.head = Duration::from_millis(100);
        settings.timeouts.handshake = Duration::from_millis(500);
        settings.timeouts.response_header = Duration::from_millis(100);
        settings.upstream.idle = Duration::from_millis(100);
    })
    .await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        let head = read_head(&mut tls).await;
        tls.write_all(agreement(&head).as_bytes()).await.unwrap();
        echo(tls, seen).await;
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = upgraded(&world, &target, WEBSOCKET).await;
    let open = || world.gateway.parts.metrics.requests.open();
    assert_eq!(open(), 1, "the drain waits for it");
    world.drain();
    tokio::time::sleep(Duration::from_millis(800)).await;
    tls.write_all(b"still here").await.unwrap();
    let mut got = [0; 10];
    within(tls.read_exact(&mut got)).await.unwrap();
    assert_eq!((&got, open()), (b"still here", 1));
    tls.shutdown().await.unwrap();
    eventually("the stream is closed", async || open() == 0).await;
}
