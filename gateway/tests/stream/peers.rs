//! Peers that are gone without a word: found by PING over HTTP/2, by the kernel's keep-alive over HTTP/1.1.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use connectors_gateway::http::socket::KEEPALIVE;
use connectors_gateway::http::wire::Frame;
use connectors_gateway::settings::{Settings, Timeouts};
use connectors_testenv::eventually;
use http::Request;
use tokio::net::TcpStream;

use crate::both::{COMBINATIONS, Call, In, target};
use crate::http::{H1, H2, H2Client, exchange, get};
use crate::pipe::Pipe;
use crate::records::Log;
use crate::target::Target;
use crate::world::{TOKEN, World};

fn impatient(settings: &mut Settings) {
    settings.timeouts.ping = Duration::from_millis(500);
    settings.timeouts.pong = Duration::from_millis(1500);
    // Two watches are to share a connection to the target.
    settings.threads = Some(1);
}

#[test]
fn as_shipped_a_silent_peer_is_found_within_half_a_minute() {
    let Timeouts { ping, pong, .. } = Timeouts::default();
    assert!(ping + pong <= Duration::from_secs(30));
}

/// A watch that has had its first event.
async fn begun(call: &mut Call) -> In {
    let (_, _, mut body) = call.answer.head().await.unwrap();
    assert!(matches!(body.next().await, Ok(Frame::Data(_))));
    body
}

async fn end_of(mut body: In) -> Result<Frame, String> {
    tokio::time::timeout(Duration::from_secs(10), body.next())
        .await
        .expect("the watch of a dead target goes on")
}

#[tokio::test]
async fn a_silent_target_ends_its_watches_and_the_next_request_uses_a_new_connection() {
    let world = World::with(impatient).await;
    let target = target(&world, true, |mut incoming, seen| async move {
        seen.bytes.fetch_add(1, Ordering::SeqCst);
        incoming.reply.head(200, &[]).await.data(b"event").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let pipe = Pipe::to(target.port).await;
    let through = Target { port: pipe.port, seen: target.seen.clone() };
    world.connect("target", &through.url());
    let mut h1 = Call::start(&world, false, &through, &[]).await;
    eventually("one watch is open", async || target.seen.bytes.load(Ordering::SeqCst) == 1).await;
    let mut h2 = Call::start(&world, true, &through, &[]).await;
    eventually("both watches are open", async || target.seen.bytes.load(Ordering::SeqCst) == 2).await;
    assert_eq!(target.seen.connections(), 1);
    let (h1, h2) = (begun(&mut h1).await, begun(&mut h2).await);
    pipe.silence();
    let (h1, h2) = tokio::join!(end_of(h1), end_of(h2));
    assert!(h1.is_err() && h2.is_err(), "a watch that was cut looks whole: {h1:?} {h2:?}");
    eventually("the gateway has closed the dead connection", async || pipe.given_up() == 1).await;
    let mut next = Call::start(&world, true, &through, &[]).await;
    next.body.end(&[]).await.unwrap();
    assert_eq!(next.answer.head().await.unwrap().0, 200);
    assert_eq!(target.seen.connections(), 2);
}

#[tokio::test]
async fn a_silent_client_loses_its_stream_to_the_target_and_is_recorded() {
    let log = Log::start();
    let world = World::with(impatient).await;
    let target = target(&world, true, |mut incoming, seen| async move {
        let mut answer = incoming.reply.head(200, &[]).await;
        answer.data(b"event").await.unwrap();
        // Ends when the stream is reset.
        let _ = incoming.body.all().await;
        while answer.data(b"event").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        seen.bytes.store(1, Ordering::SeqCst);
    })
    .await;
    let pipe = Pipe::to(world.port).await;
    let near = TcpStream::connect(("127.0.0.1", pipe.port)).await.unwrap();
    let stream = world.opened_over(near, "target", &target.authority(), TOKEN).await;
    let mut client = H2Client::over(world.tls(stream, "localhost", H2).await.unwrap()).await;
    let watch = Request::get(format!("{}/watch?watch=true", target.url())).body(()).unwrap();
    let (_, _, mut body) = client.send(watch, None).await.unwrap();
    body.data().await.unwrap().unwrap();
    let silent = Instant::now();
    pipe.silence();
    eventually("the target is told", async || target.seen.bytes.load(Ordering::SeqCst) == 1).await;
    assert!(silent.elapsed() >= Duration::from_millis(1000), "a client that is merely slow is cut");
    eventually("a record", async || log.access().len() == 1).await;
    let record = &log.access()[0];
    assert_eq!(
        (&record["status"], &record["cut"], &record["blame"]),
        (&200.into(), &true.into(), &"client".into()),
        "{record}"
    );
    assert_eq!(target.seen.connections(), 1);
    assert_eq!(world.gateway.parts.metrics.connections_open.get(), 0);
}

#[tokio::test]
async fn peers_that_answer_are_left_in_peace() {
    let quiet = |(client, server)| async move {
        let world = World::with(impatient).await;
        let target = target(&world, server, |mut incoming, _| async move {
            let mut answer = incoming.reply.head(200, &[]).await;
            answer.data(b"first").await.unwrap();
            // Longer than a PING and the patience for its answer.
            tokio::time::sleep(Duration::from_millis(2500)).await;
            answer.data(b"last").await.unwrap();
            answer.end(&[]).await.unwrap();
        })
        .await;
        let mut call = Call::start(&world, client, &target, &[]).await;
        call.body.end(&[]).await.unwrap();
        let (_, _, mut body) = call.answer.head().await.unwrap();
        assert_eq!(body.all().await.unwrap().0, b"firstlast", "{client} {server}");
    };
    futures::future::join_all(COMBINATIONS.map(quiet)).await;
}

/// The kernel's view of an established connection to this port: which timer runs, and for how long yet
/// (`/proc/net/tcp`, in 10 ms).
fn timer_of_connection_to(port: u16) -> Option<(u32, Duration)> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().find(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[2].ends_with(&format!(":{port:04X}")) && fields[3] == "01"
    })?;
    let (kind, left) = line.split_whitespace().nth(5)?.split_once(':')?;
    let left = u64::from_str_radix(left, 16).unwrap();
    Some((kind.parse().unwrap(), Duration::from_millis(left * 10)))
}

#[tokio::test]
async fn the_kernel_watches_over_idle_connections_to_targets() {
    let (world, target) = World::with_target(false).await;
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    exchange(&mut tls, &get("/", &target.authority())).await;
    // The timer of unacknowledged bytes (1) comes first, for a moment.
    eventually("a keep-alive timer (2)", async || {
        timer_of_connection_to(target.port).is_some_and(|(kind, _)| kind == 2)
    })
    .await;
    let (_, left) = timer_of_connection_to(target.port).unwrap();
    assert!(left <= KEEPALIVE.idle, "{left:?}");
}
