//! Requests that wait for a target which says nothing: what they take is bounded, whatever their heads are.

use std::time::Duration;

use connectors_testenv::eventually;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use tokio::task::JoinHandle;

use super::{ROOM, STREAMS};
use crate::both;
use crate::http::H2Client;
use crate::target::Target;
use crate::world::World;

const CLIENTS: usize = 6;
/// Some bytes each on the wire, for HPACK has them in its table after the first.
const FIELDS: usize = 26;

fn asks(mut client: H2Client, url: &str) -> JoinHandle<Option<StatusCode>> {
    let mut request = Request::get(format!("{url}/")).body(()).unwrap();
    for _ in 0..FIELDS {
        let value = HeaderValue::try_from("x".repeat(2400)).unwrap();
        request.headers_mut().append(HeaderName::from_static("x-padding"), value);
    }
    tokio::spawn(async move { client.send(request, None).await.ok().map(|(status, ..)| status) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_heads_for_a_target_that_says_nothing_are_bounded() {
    let world = World::with(|settings| settings.timeouts.response_header = Duration::from_secs(120)).await;
    let silent = both::target(&world, true, |incoming, _| async move {
        let _kept = incoming;
        std::future::pending().await
    })
    .await;
    let neighbour = Target::http(&world.leaf(), true).await;
    world.connect("next/target", &neighbour.url());
    let gauge = world.gateway.parts.metrics.stream_bytes_held.clone();
    let mut asked = Vec::new();
    for _ in 0..CLIENTS {
        let client = H2Client::open(&world, "target", &silent.authority()).await;
        asked.extend((0..STREAMS).map(|_| asks(client.clone(), &silent.url())));
    }
    eventually("what does not fit is refused", async || asked.iter().any(JoinHandle::is_finished)).await;
    assert!(gauge.get() > 64 << 20, "{} MiB are counted", gauge.get() >> 20);
    assert!(gauge.get() < ROOM as i64, "{} MiB are held", gauge.get() >> 20);
    let refused = asked.extract_if(.., |one| one.is_finished()).next().unwrap();
    assert_eq!(refused.await.unwrap(), Some(StatusCode::SERVICE_UNAVAILABLE));
    // The client is of the same namespace as the connector that has no room.
    let mut client = H2Client::open(&world, "next/target", &neighbour.authority()).await;
    let get = Request::get(neighbour.url()).body(()).unwrap();
    assert_eq!(client.send(get, None).await.unwrap().0, 200);
    assert!(!asked.is_empty());
    asked.iter().for_each(JoinHandle::abort);
    drop((asked, client));
    eventually("all is given back", async || gauge.get() == 0).await;
}
