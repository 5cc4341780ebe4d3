//! Bodies of requests that nobody reads yet, or any more: bounded, and counted as what those have who sent them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use connectors_gateway::http::http2::STREAM_WINDOW;
use connectors_testenv::eventually;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, StatusCode};
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{ROOM, STREAMS};
use crate::http::{H2, H2Client};
use crate::target::{Seen, Target, Tls};
use crate::world::{TOKEN, WAITING, World};

const CLIENTS: usize = 4;

/// Streams of a client whose requests have begun and whose bodies have not.
struct Begun {
    answer: ResponseFuture,
    body: SendStream<Bytes>,
}

async fn begin(tls: Tls, requests: impl IntoIterator<Item = Request<()>>) -> Vec<Begun> {
    let (mut send, connection): (SendRequest<Bytes>, _) = h2::client::handshake(tls).await.unwrap();
    tokio::spawn(connection);
    let mut begun = Vec::new();
    for request in requests {
        send = send.ready().await.unwrap();
        let (answer, body) = send.send_request(request, false).unwrap();
        begun.push(Begun { answer, body });
    }
    begun
}

fn posts(url: &str, token: &str) -> Vec<Request<()>> {
    let post =
        |number| Request::post(format!("{url}/{number}")).header("authorization", format!("Bearer {token}"));
    (0..STREAMS).map(|number| post(number).body(()).unwrap()).collect()
}

/// Sends as much as a stream's first window takes; gives the answer, if one comes.
fn fill(Begun { answer, mut body }: Begun) -> JoinHandle<Option<StatusCode>> {
    tokio::spawn(async move {
        let mut left = STREAM_WINDOW as usize;
        body.reserve_capacity(left);
        while left > 0 {
            let Some(Ok(room)) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await else { break };
            let piece = room.min(left);
            left -= piece;
            if body.send_data(Bytes::from(vec![0; piece]), false).is_err() {
                break;
            }
        }
        answer.await.ok().map(|answer| answer.status())
    })
}

/// What does not fit is refused while the others wait.
async fn are_bounded(gauge: &IntGauge, begun: Vec<Begun>) -> Vec<JoinHandle<Option<StatusCode>>> {
    let sending: Vec<_> = begun.into_iter().map(fill).collect();
    eventually("bodies are taken and counted", async || gauge.get() > 64 << 20).await;
    eventually("what does not fit is refused", async || sending.iter().any(JoinHandle::is_finished)).await;
    assert!(gauge.get() < ROOM as i64, "{} MiB are held", gauge.get() >> 20);
    let (over, waiting): (Vec<_>, Vec<_>) = sending.into_iter().partition(JoinHandle::is_finished);
    for one in over {
        assert!(matches!(one.await.unwrap(), None | Some(StatusCode::SERVICE_UNAVAILABLE)));
    }
    assert!(!waiting.is_empty(), "nobody waits");
    waiting
}

/// A whole window more than is given at once.
async fn uploads(mut client: H2Client, url: &str) -> StatusCode {
    let body = Some(Bytes::from_static(&[0; STREAM_WINDOW as usize]));
    client.send(Request::post(format!("{url}/")).body(()).unwrap(), body).await.unwrap().0
}

/// Nobody reads such bodies yet: no target is there to send them to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_wait_for_a_target_that_cannot_be_reached_are_bounded_too() {
    let world = World::with(|settings| settings.timeouts.connect = Duration::from_secs(60)).await;
    // Takes connections and says nothing.
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = format!("localhost:{}", hole.local_addr().unwrap().port());
    let neighbour = Target::http(&world.leaf(), true).await;
    world.connect("target", &format!("https://{authority}"));
    world.connect("next/target", &neighbour.url());
    let mut begun = Vec::new();
    for _ in 0..CLIENTS {
        let requests = posts(&format!("https://{authority}"), TOKEN);
        begun.extend(begin(world.tunnel("target", &authority, H2).await, requests).await);
    }
    let waiting = are_bounded(&world.gateway.parts.metrics.held.streams, begun).await;
    let mut client = H2Client::open(&world, "next/target", &neighbour.authority()).await;
    // Once it is known that this client may go there, what it sends is the other namespace's.
    let get = Request::get(neighbour.url()).body(()).unwrap();
    assert_eq!(client.send(get, None).await.unwrap().0, 200);
    assert_eq!(uploads(client, &neighbour.url()).await, 200);
    drop(waiting);
}

/// Turns each request away unread when it comes first, and has no room for a body when it comes again.
async fn turn_away(tls: Tls, once: Arc<Mutex<HashSet<String>>>, twice: Arc<AtomicUsize>) {
    let mut closed = h2::server::Builder::new();
    closed.initial_window_size(0);
    let mut connection = closed.handshake::<_, Bytes>(tls).await.unwrap();
    let mut held = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let client = &request.headers()["x-client"];
        if once.lock().unwrap().insert(format!("{} {client:?}", request.uri().path())) {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        } else {
            twice.fetch_add(1, Ordering::SeqCst);
            held.push((request, respond));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_sent_again_and_find_no_reader_are_bounded_too() {
    let world = World::new().await;
    let (once, twice) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
    let again = twice.clone();
    let script = move |tls, _: Arc<Seen>| turn_away(tls, Arc::clone(&once), again.clone());
    let target = Target::script(&world.leaf(), &[], H2, script).await;
    world.connect("target", &target.url());
    let mut begun = Vec::new();
    for client in 0..CLIENTS {
        let mut requests = posts(&target.url(), TOKEN);
        for request in &mut requests {
            request.headers_mut().insert("x-client", client.into());
        }
        begun.extend(begin(world.tunnel("target", &target.authority(), H2).await, requests).await);
    }
    for one in &mut begun {
        one.body.send_data(Bytes::from_static(b"x"), false).unwrap();
    }
    let all = CLIENTS * STREAMS;
    eventually("all are asked again", async || twice.load(Ordering::SeqCst) == all).await;
    drop(are_bounded(&world.gateway.parts.metrics.held.streams, begun).await);
}

/// Who is not let in yet must not take the room of those whose connector it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_whose_sender_waits_for_leave_count_as_the_senders() {
    let (world, target) = World::with_target(true).await;
    let mut begun = Vec::new();
    for _ in 0..CLIENTS {
        let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
        let tls = world.tls(stream, "c-target.demo.svc", H2).await.unwrap();
        begun.extend(begin(tls, posts("https://c-target.demo.svc", WAITING)).await);
    }
    let waiting = are_bounded(&world.gateway.parts.metrics.held.streams, begun).await;
    assert_eq!(target.seen.connections(), 0, "they were let in");
    let client = H2Client::open(&world, "target", &target.authority()).await;
    assert_eq!(uploads(client, &target.url()).await, 200);
    drop(waiting);
}
