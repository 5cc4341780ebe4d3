//! Connections to targets: what they take counts as their namespace's, and few of them rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use connectors_testenv::eventually;
use http::{Request, Response};
use tokio::sync::watch;

use crate::http::{H2, H2Client};
use crate::target::{Target, Tls};
use crate::world::World;

const REQUESTS: usize = 30;
const RESTING: usize = 4;
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
