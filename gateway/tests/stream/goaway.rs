//! Targets that send their clients away (GOAWAY, REFUSED_STREAM) or break off: no request is lost, and none
//! is acted on twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use connectors_testenv::eventually;
use futures::StreamExt;
use http::{Method, Request, StatusCode};

use crate::frames::{ENHANCE_YOUR_CALM, Frames, NO_ERROR, REFUSED_STREAM};
use crate::http::{H2, H2Client, collect};
use crate::target::{Seen, Target, Tls};
use crate::world::World;

const REQUESTS: usize = 600;
const AT_ONCE: usize = 16;

/// What a target does to the streams that it does not serve.
#[derive(Clone, Copy, Debug)]
enum Farewell {
    GoAway(u32),
    Refused,
    /// As Go's and the h2 crate's servers end a connection.
    Graceful,
}

/// Serves `seen.bytes` requests in all, few on each connection; `refused` counts those that came when it had
/// said its farewell.
async fn serve(tls: Tls, seen: Arc<Seen>, refused: Arc<AtomicUsize>, farewell: Farewell) {
    const SERVED: usize = 5;
    let Some(mut frames) = Frames::begin(tls).await else { return };
    for _ in 1..SERVED {
        let Some(stream) = frames.request().await else { return };
        seen.bytes.fetch_add(1, Ordering::SeqCst);
        frames.answer(stream).await;
    }
    // The last one is still in flight when the others are sent away: while it is looked for, those gather.
    let Some(last) = frames.request().await else { return };
    seen.bytes.fetch_add(1, Ordering::SeqCst);
    let above = tokio::time::timeout(Duration::from_millis(20), frames.request()).await;
    let above = above.ok().flatten();
    refused.fetch_add(usize::from(above.is_some()), Ordering::SeqCst);
    match (farewell, above) {
        (Farewell::GoAway(reason), _) => frames.go_away(last, reason).await,
        (Farewell::Refused, Some(above)) => frames.reset(above, REFUSED_STREAM).await,
        _ => {}
    }
    frames.answer(last).await;
    while let Some(stream) = frames.request().await {
        refused.fetch_add(1, Ordering::SeqCst);
        if matches!(farewell, Farewell::Refused) {
            frames.reset(stream, REFUSED_STREAM).await;
        }
    }
}

async fn serve_gracefully(tls: Tls, seen: Arc<Seen>) {
    let mut connection = h2::server::handshake(tls).await.unwrap();
    let mut served = 0;
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        seen.bytes.fetch_add(1, Ordering::SeqCst);
        served += 1;
        if served == 5 {
            connection.graceful_shutdown();
        }
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            let _ = respond.send_response(http::Response::new(()), true);
        });
    }
}

async fn leaving_target(world: &World, farewell: Farewell) -> (Target, Arc<AtomicUsize>) {
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = refused.clone();
    let target = Target::script(&world.leaf(), &[], H2, move |tls, seen| {
        let refused = counted.clone();
        async move {
            match farewell {
                Farewell::Graceful => serve_gracefully(tls, seen).await,
                _ => serve(tls, seen, refused, farewell).await,
            }
        }
    })
    .await;
    world.connect("target", &target.url());
    (target, refused)
}

async fn request(mut client: H2Client, url: String, method: Method, body: Option<Bytes>) -> StatusCode {
    let request = Request::builder().method(method).uri(url).body(()).unwrap();
    let (status, _, body) = client.send(request, body).await.unwrap();
    collect(body).await.unwrap();
    status
}

#[tokio::test]
async fn of_a_target_that_leaves_every_few_requests_none_is_lost_and_none_doubled() {
    for farewell in [
        Farewell::GoAway(NO_ERROR),
        Farewell::GoAway(ENHANCE_YOUR_CALM),
        Farewell::Refused,
        Farewell::Graceful,
    ] {
        let world = World::new().await;
        let (target, refused) = leaving_target(&world, farewell).await;
        let client = H2Client::open(&world, "target", &target.authority()).await;
        let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH];
        // A server that closes while something is unread takes its own farewell back: the kernel sends a reset.
        let bodies = !matches!(farewell, Farewell::Graceful);
        let body = |i: usize| (bodies && i % 8 > 4).then(|| Bytes::from(vec![7; 3000]));
        let all =
            (0..REQUESTS).map(|i| request(client.clone(), target.url(), methods[i % 4].clone(), body(i)));
        let statuses: Vec<StatusCode> = futures::stream::iter(all).buffer_unordered(AT_ONCE).collect().await;
        let answered = statuses.iter().filter(|status| **status == StatusCode::OK).count();
        assert_eq!(answered, REQUESTS, "{farewell:?}: {statuses:?}");
        assert_eq!(target.seen.bytes.load(Ordering::SeqCst), REQUESTS, "{farewell:?}");
        let sent_away = refused.load(Ordering::SeqCst);
        assert!(matches!(farewell, Farewell::Graceful) || sent_away >= 20, "{farewell:?}: only {sent_away}");
    }
}

#[tokio::test]
async fn a_request_whose_body_is_too_large_to_keep_is_told_so_when_its_target_leaves() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H2, |tls, seen| async move {
        let mut frames = Frames::begin(tls).await.unwrap();
        frames.give_room().await;
        while let Some(stream) = frames.request().await {
            if seen.bytes.fetch_add(1, Ordering::SeqCst) == 0 {
                // While the body comes.
                let _ = tokio::time::timeout(Duration::from_millis(50), frames.request()).await;
                frames.go_away(0, NO_ERROR).await;
            } else {
                frames.answer(stream).await;
            }
        }
    })
    .await;
    world.connect("target", &target.url());
    let mut client = H2Client::open(&world, "target", &target.authority()).await;
    let post = || Request::post(target.url()).body(()).unwrap();
    let (status, headers, body) = client.send(post(), Some(Bytes::from(vec![0; 100_000]))).await.unwrap();
    let (body, _) = collect(body).await.unwrap();
    assert_eq!((status, &headers["retry-after"]), (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap()));
    assert!(String::from_utf8(body).unwrap().contains("has not processed the request: send it again"));
    assert_eq!(
        request(client, target.url(), Method::POST, Some(Bytes::from_static(b"again"))).await,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_small_body_is_sent_again_as_it_was_to_a_target_that_leaves() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H2, |tls, seen| async move {
        // The first connection takes the whole request and says that it has not processed it.
        if seen.bytes.fetch_add(1, Ordering::SeqCst) > 0 {
            return crate::target::serve_h2(tls, seen).await;
        }
        let mut frames = Frames::begin(tls).await.unwrap();
        frames.request().await.unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(50), frames.request()).await;
        frames.go_away(0, NO_ERROR).await;
        frames.request().await;
    })
    .await;
    world.connect("target", &target.url());
    for size in [1, 3000, 64 << 10] {
        target.seen.bytes.store(0, Ordering::SeqCst);
        let mut client = H2Client::open(&world, "target", &target.authority()).await;
        let body = Bytes::from((0..size).map(|i| i as u8).collect::<Vec<_>>());
        let post = Request::post(format!("{}/echo", target.url())).body(()).unwrap();
        let (status, _, answer) = client.send(post, Some(body.clone())).await.unwrap();
        let (answer, _) = collect(answer).await.unwrap();
        assert_eq!((status, answer.len(), answer == body), (StatusCode::OK, body.len(), true), "{size}");
        world.connect("target", "https://elsewhere.example");
        world.connect("target", &target.url());
    }
}

/// How a target breaks off when it has seen a request, and may have acted on it.
#[derive(Clone, Copy, Debug)]
enum Break {
    Closes,
    TalksNonsense,
    Resets,
}

async fn breaking_target(world: &World, how: Break) -> Target {
    let target = Target::script(&world.leaf(), &[], H2, move |tls, seen| async move {
        let Some(mut frames) = Frames::begin(tls).await else { return };
        while let Some(stream) = frames.request().await {
            // The second of all.
            match (seen.bytes.fetch_add(1, Ordering::SeqCst), how) {
                (1, Break::Closes) => return,
                (1, Break::TalksNonsense) => frames.nonsense().await,
                (1, Break::Resets) => frames.reset(stream, ENHANCE_YOUR_CALM).await,
                _ => frames.answer(stream).await,
            }
        }
    })
    .await;
    world.connect("target", &target.url());
    target
}

#[tokio::test]
async fn a_request_that_may_have_been_acted_on_is_sent_again_only_if_that_is_safe() {
    for (how, method, status, seen) in [
        (Break::Closes, Method::GET, StatusCode::OK, 3),
        (Break::Closes, Method::POST, StatusCode::BAD_GATEWAY, 2),
        (Break::TalksNonsense, Method::POST, StatusCode::BAD_GATEWAY, 2),
        (Break::Resets, Method::POST, StatusCode::BAD_GATEWAY, 2),
    ] {
        let world = World::new().await;
        let target = breaking_target(&world, how).await;
        let client = H2Client::open(&world, "target", &target.authority()).await;
        assert_eq!(request(client.clone(), target.url(), Method::GET, None).await, StatusCode::OK);
        assert_eq!(request(client, target.url(), method.clone(), None).await, status, "{how:?} {method}");
        assert_eq!(target.seen.bytes.load(Ordering::SeqCst), seen, "{how:?} {method}");
    }
}

#[tokio::test]
async fn a_connection_whose_last_stream_was_given_up_idles_out() {
    let world = World::with(|settings| settings.upstream.idle = Duration::from_millis(200)).await;
    let target = Target::script(&world.leaf(), &[], H2, |tls, seen| async move {
        crate::target::serve_h2(tls, seen.clone()).await;
        seen.bytes.fetch_add(1, Ordering::SeqCst);
    })
    .await;
    world.connect("target", &target.url());
    let mut client = H2Client::open(&world, "target", &target.authority()).await;
    let watch = Request::get(format!("{}/watch", target.url())).body(()).unwrap();
    let (_, _, mut body) = client.send(watch, None).await.unwrap();
    body.data().await.unwrap().unwrap();
    drop(body);
    eventually("the target's connection ends", async || target.seen.bytes.load(Ordering::SeqCst) == 1).await;
}
