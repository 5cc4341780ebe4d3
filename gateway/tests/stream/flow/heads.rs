//! Requests that wait for a target which says nothing, or not all: what they take is bounded, whatever their heads are.

use std::time::Duration;

use connectors_testenv::eventually;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{ROOM, STREAMS, at_most};
use crate::both;
use crate::http::{H2, H2Client};
use crate::target::{Target, read_head};
use crate::world::{TOKEN, World};

const CLIENTS: usize = 6;
/// Connections to a target: fewer than are opened.
const RESTING: usize = 16;
/// Of a head without an end, as much as is waited for.
const UNENDED: usize = 60 << 10;
/// Some bytes each on the wire, for HPACK has them in its table after the first.
const FIELDS: usize = 26;

/// The status, and whether the client is told to send it again: its target may have acted on it.
async fn answered(client: &mut H2Client, request: Request<()>) -> Option<(StatusCode, bool)> {
    let (status, headers, _) = client.send(request, None).await.ok()?;
    Some((status, headers.contains_key(header::RETRY_AFTER)))
}

fn asks(mut client: H2Client, url: &str) -> JoinHandle<Option<(StatusCode, bool)>> {
    let mut request = Request::get(format!("{url}/")).body(()).unwrap();
    for _ in 0..FIELDS {
        let value = HeaderValue::try_from("x".repeat(2400)).unwrap();
        request.headers_mut().append(HeaderName::from_static("x-padding"), value);
    }
    tokio::spawn(async move { answered(&mut client, request).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_heads_for_a_target_that_says_nothing_are_bounded() {
    let world = World::with(|settings| {
        settings.timeouts.response_header = Duration::from_secs(120);
        settings.upstream.pool_size = RESTING;
    })
    .await;
    let silent = both::target(&world, true, |incoming, _| async move {
        let _kept = incoming;
        std::future::pending().await
    })
    .await;
    let neighbour = Target::http(&world.leaf(), true).await;
    world.connect("next/target", &neighbour.url());
    let gauge = world.gateway.parts.metrics.held.requests.clone();
    let mut asked = Vec::new();
    for _ in 0..CLIENTS {
        let client = H2Client::open(&world, "target", &silent.authority()).await;
        asked.extend((0..STREAMS).map(|_| asks(client.clone(), &silent.url())));
    }
    eventually("what does not fit is refused", async || asked.iter().any(JoinHandle::is_finished)).await;
    assert!(gauge.get() > 64 << 20, "{} MiB are counted", gauge.get() >> 20);
    assert!(gauge.get() < ROOM as i64, "{} MiB are held", gauge.get() >> 20);
    let refused = asked.extract_if(.., |one| one.is_finished()).next().unwrap();
    assert_eq!(refused.await.unwrap().unwrap().0, StatusCode::SERVICE_UNAVAILABLE);
    // The client is of the same namespace as the connector that has no room.
    let mut client = H2Client::open(&world, "next/target", &neighbour.authority()).await;
    let get = Request::get(neighbour.url()).body(()).unwrap();
    assert_eq!(client.send(get, None).await.unwrap().0, 200);
    assert!(!asked.is_empty());
    asked.iter().for_each(JoinHandle::abort);
    drop((asked, client));
    // But for the connections that rest: of the target as many as may, and the neighbour's one.
    eventually("all is given back", async || at_most((RESTING as i64 + 1) * (48 << 10), gauge.get())).await;
}

/// Without TLS, for there are a thousand of them. Begins each answer and never ends its head.
async fn endless_heads() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_head(&mut stream).await;
                let begun = format!("HTTP/1.1 200 OK\r\nx-padding: {}", "x".repeat(UNENDED));
                let _ = stream.write_all(begun.as_bytes()).await;
                stream.read_u8().await
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_answers_that_do_not_end_are_bounded() {
    let world = World::with(|settings| settings.timeouts.response_header = Duration::from_secs(120)).await;
    let port = endless_heads().await;
    world.connect("target", &format!("http://127.0.0.1:{port}"));
    let gauge = world.gateway.parts.metrics.held.streams.clone();
    let mut asked = Vec::new();
    for _ in 0..CLIENTS {
        let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
        let client = H2Client::over(world.tls(stream, "c-target.demo.svc", H2).await.unwrap()).await;
        let get = || {
            let request = Request::get("https://c-target.demo.svc/");
            request.header("authorization", format!("Bearer {TOKEN}")).body(()).unwrap()
        };
        asked.extend((0..STREAMS).map(|_| {
            let (mut client, request) = (client.clone(), get());
            tokio::spawn(async move { answered(&mut client, request).await })
        }));
    }
    eventually("what does not fit is refused", async || asked.iter().any(JoinHandle::is_finished)).await;
    assert!(gauge.get() > 64 << 20, "{} MiB are counted", gauge.get() >> 20);
    assert!(gauge.get() < ROOM as i64, "{} MiB are held", gauge.get() >> 20);
    // Others were refused before they had gone to the target, and may be sent again.
    let given_up = async {
        loop {
            for ended in asked.extract_if(.., |one| one.is_finished()) {
                if ended.await.unwrap() == Some((StatusCode::SERVICE_UNAVAILABLE, false)) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), given_up)
        .await
        .expect("no answer that had begun is given up");
    asked.iter().for_each(JoinHandle::abort);
    drop(asked);
    eventually("all is given back", async || at_most(1 << 20, gauge.get())).await;
}
