//! Connections to targets: what they take counts as their namespace's, and few of them rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use connectors_testenv::eventually;
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::http::{H1, H2, H2Client};
use crate::target::{Target, Tls, read_head};
use crate::world::World;

const REQUESTS: usize = 30;
const RESTING: usize = 4;
const STREAMS: u32 = 50;
/// Less than a connection of HTTP/2 with TLS takes.
const EACH: usize = 40 << 10;

/// Takes one request at a time, and answers when it may.
async fn one_by_one(tls: Tls, open: Arc<AtomicUsize>, may: watch::Receiver<bool>) {
    open.fetch_add(1, Ordering::SeqCst);
    let mut one = h2::server::Builder::new();
    let mut connection = one.max_concurrent_streams(1).handshake::<_, Bytes>(tls).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut may = may.clone();
        tokio::spawn(async move {
            may.wait_for(|may| *may).await.unwrap();
            let _ = respond.send_response(Response::new(()), true);
        });
    }
    open.fetch_sub(1, Ordering::SeqCst);
}

/// Takes `STREAMS` requests at a time, and answers them when it may.
async fn by_the_handful(tls: Tls, may: watch::Receiver<bool>) {
    let mut some = h2::server::Builder::new();
    let mut connection = some.max_concurrent_streams(STREAMS).handshake::<_, Bytes>(tls).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut may = may.clone();
        tokio::spawn(async move {
            may.wait_for(|may| *may).await.unwrap();
            let _ = respond.send_response(Response::new(()), true);
        });
    }
}

#[tokio::test]
async fn a_burst_opens_as_many_connections_as_its_streams_need() {
    let world = World::of_one_worker().await;
    let may = watch::Sender::new(false);
    let answers = may.subscribe();
    let target =
        Target::script(&world.leaf(), &[], H2, move |tls, _| by_the_handful(tls, answers.clone())).await;
    world.connect("target", &target.url());
    let client = H2Client::open(&world, "target", &target.authority()).await;
    let ask = || {
        let (mut client, get) = (client.clone(), Request::get(target.url()).body(()).unwrap());
        tokio::spawn(async move { client.send(get, None).await.unwrap().0 })
    };
    let asked: Vec<_> = (0..3 * STREAMS).map(|_| ask()).collect();
    eventually("it opens all that it needs", async || target.seen.connections() >= 3).await;
    may.send(true).unwrap();
    for one in asked {
        assert_eq!(one.await.unwrap(), 200);
    }
    assert_eq!(target.seen.connections(), 3);
}

#[tokio::test]
async fn whoever_comes_before_a_target_has_said_how_many_streams_it_takes_is_served_however_few_they_are() {
    let world = World::of_one_worker().await;
    let target = Target::script(&world.leaf(), &[], H2, |tls, _| async move {
        // Its settings come late; the first request is there before.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut one = h2::server::Builder::new();
        let mut connection = one.max_concurrent_streams(1).handshake::<_, Bytes>(tls).await.unwrap();
        let mut watches = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            match request.uri().path() {
                "/watch" => watches.push(respond),
                _ => drop(respond.send_response(Response::new(()), true)),
            }
        }
    })
    .await;
    world.connect("target", &target.url());
    let client = H2Client::open(&world, "target", &target.authority()).await;
    let ask = |path: &str| {
        let (mut client, get) =
            (client.clone(), Request::get(format!("{}{path}", target.url())).body(()).unwrap());
        tokio::spawn(async move { client.send(get, None).await.unwrap().0 })
    };
    let _watch = ask("/watch");
    eventually("the watch is on its way", async || target.seen.connections() == 1).await;
    // TLS is through, and the target has not said a word of HTTP/2.
    tokio::time::sleep(Duration::from_millis(150)).await;
    let other = tokio::time::timeout(Duration::from_secs(10), ask("/other")).await;
    assert_eq!(other.expect("it waits behind the watch").unwrap(), 200);
}

#[tokio::test]
async fn requests_of_a_burst_share_no_connection_of_http1() {
    let world = World::of_one_worker().await;
    let (there, may) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(false));
    let (came, answers) = (there.clone(), may.subscribe());
    let target = Target::script(&world.leaf(), &[], H1, move |mut tls, _| {
        let (came, mut may) = (came.clone(), answers.clone());
        async move {
            read_head(&mut tls).await;
            came.fetch_add(1, Ordering::SeqCst);
            may.wait_for(|may| *may).await.unwrap();
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            let _ = tls.read_u8().await;
        }
    })
    .await;
    world.connect("target", &target.url());
    let client = H2Client::open(&world, "target", &target.authority()).await;
    let mut asked = Vec::new();
    for _ in 0..REQUESTS {
        let (mut client, get) = (client.clone(), Request::get(target.url()).body(()).unwrap());
        asked.push(tokio::spawn(async move { client.send(get, None).await.unwrap().0 }));
    }
    eventually("each has its connection", async || there.load(Ordering::SeqCst) == REQUESTS).await;
    may.send(true).unwrap();
    for one in asked {
        assert_eq!(one.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn connections_of_a_target_that_wants_one_for_each_request_are_counted_and_few_of_them_rest() {
    let world = World::with(|settings| {
        (settings.threads, settings.upstream.pool_size) = (Some(1), RESTING);
    })
    .await;
    let (open, may) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(false));
    let (opened, answers) = (open.clone(), may.subscribe());
    let script = move |tls, _| one_by_one(tls, opened.clone(), answers.clone());
    let target = Target::script(&world.leaf(), &[], H2, script).await;
    world.connect("target", &target.url());
    let gauge = world.gateway.parts.metrics.held.requests.clone();
    let held = || usize::try_from(gauge.get()).unwrap();
    let client = H2Client::open(&world, "target", &target.authority()).await;
    let mut asked = Vec::new();
    for _ in 0..REQUESTS {
        let (mut client, get) = (client.clone(), Request::get(target.url()).body(()).unwrap());
        asked.push(tokio::spawn(async move { client.send(get, None).await.unwrap().0 }));
    }
    eventually("each has its connection", async || held() > REQUESTS * EACH).await;
    may.send(true).unwrap();
    for one in asked {
        assert_eq!(one.await.unwrap(), 200);
    }
    eventually("few of them rest", async || open.load(Ordering::SeqCst) == RESTING).await;
    eventually("and count", async || held() > RESTING * EACH && held() < 2 * RESTING * EACH).await;
}
