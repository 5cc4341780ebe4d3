//! Readers that stop hold up nobody but themselves, and little is held for them. `uploads`, `heads` and `unended` are what
//! clients send, `connections` what is open to targets, `sockets` are those that read nothing at all.

mod connections;
mod heads;
mod sockets;
mod stuck;
mod unended;
mod uploads;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use connectors_gateway::http::http2::STREAM_WINDOW;
use futures::StreamExt;
use http::Request;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::http::{self as client, H1, H2, H2Client, collect};
use connectors_testenv::eventually;

use crate::target::{Seen, Target, Tls, read_head};
use crate::world::{TOKEN, World};

/// More than the connection window of many servers and proxies has room for.
const STALLED: usize = 150;
/// What a client that does not read has granted for each of its streams (RFC 9113, 6.5.2).
const CLIENT_WINDOW: usize = 65_535;
/// Needs the stream's window several times over, so that a connection without room would stop it.
const LARGE: usize = 1 << 20;

/// `/endless` is sent as long as there is room for it, and counted, `/crumbs` too, in frames of one byte; all
/// else is answered with `LARGE` bytes.
async fn serve(tls: Tls, seen: Arc<Seen>) {
    let mut connection =
        h2::server::Builder::new().max_send_buffer_size(16 << 10).handshake::<_, Bytes>(tls).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let seen = seen.clone();
        tokio::spawn(async move {
            let stream = respond.send_response(http::Response::new(()), false).unwrap();
            match request.uri().path() {
                "/endless" => send(stream, usize::MAX, 16 << 10, &seen.bytes).await,
                "/blank" => blank(stream),
                "/crumbs" => send(stream, usize::MAX, 1, &seen.bytes).await,
                _ => send(stream, LARGE, 16 << 10, &AtomicUsize::new(0)).await,
            }
        });
    }
}

async fn send(mut stream: h2::SendStream<Bytes>, mut left: usize, frame: usize, sent: &AtomicUsize) {
    static ZEROS: [u8; 16 << 10] = [0; 16 << 10];
    while left > 0 {
        let want = left.min(frame);
        stream.reserve_capacity(want);
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
        let piece = room.min(want);
        left -= piece;
        sent.fetch_add(piece, Ordering::SeqCst);
        if stream.send_data(Bytes::from_static(&ZEROS[..piece]), left == 0).is_err() {
            return;
        }
    }
}

/// An answer that is flushed before it has a byte, as some servers do.
fn blank(mut stream: h2::SendStream<Bytes>) {
    let _ = stream.send_data(Bytes::new(), false);
    let _ = stream.send_data(Bytes::from_static(b"ok"), true);
}

/// So many bytes; else how many there are.
fn at_most<B: PartialOrd>(bytes: B, now: B) -> Result<(), B> {
    if now <= bytes { Ok(()) } else { Err(now) }
}

async fn endless_target(world: &World) -> Target {
    let target = Target::script(&world.leaf(), &[], H2, serve).await;
    world.connect("target", &target.url());
    target
}

/// What the target has sent when nothing moves any more.
async fn stalled(target: &Target) -> usize {
    let sent = || target.seen.bytes.load(Ordering::SeqCst);
    let (mut last, mut since, end) = (sent(), Instant::now(), Instant::now() + Duration::from_secs(60));
    while since.elapsed() < Duration::from_millis(500) {
        assert!(Instant::now() < end, "{last} bytes were taken from the target for clients that read none");
        tokio::time::sleep(Duration::from_millis(20)).await;
        if sent() != last {
            (last, since) = (sent(), Instant::now());
        }
    }
    last
}

async fn get_large(mut client: H2Client, url: String) -> usize {
    let (_, _, body) = client.send(Request::get(url).body(()).unwrap(), None).await.unwrap();
    collect(body).await.unwrap().0.len()
}

/// Requests of somebody else and, over the client's own connection, of the same client.
async fn others_are_served(world: &World, target: &Target, same: &H2Client) {
    let other = H2Client::open(world, "target", &target.authority()).await;
    let clients = [other, same.clone()];
    let all = (0..40).map(|i| get_large(clients[i % 2].clone(), target.url()));
    let served = futures::stream::iter(all).buffer_unordered(4).collect::<Vec<usize>>();
    let served = tokio::time::timeout(Duration::from_secs(30), served)
        .await
        .expect("stopped readers hold up the others");
    assert!(served.iter().all(|length| *length == LARGE));
}

#[tokio::test]
async fn stopped_readers_of_one_connection_leave_its_other_streams_their_room() {
    let world = World::of_one_worker().await;
    let target = endless_target(&world).await;
    let tls = world.tunnel("target", &target.authority(), H2).await;
    let (send, connection) = h2::client::Builder::new()
        .initial_connection_window_size(64 << 20)
        .handshake::<_, Bytes>(tls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut client = H2Client::from(send);
    let mut unread = Vec::new();
    for _ in 0..STALLED {
        unread.push(
            client
                .send(Request::get(format!("{}/endless", target.url())).body(()).unwrap(), None)
                .await
                .unwrap()
                .2,
        );
    }
    let taken = stalled(&target).await;
    assert_eq!(target.seen.connections(), 1, "all of them share one connection to the target");
    // The window towards the target, the client's window, and frames on their way through.
    let most = STREAM_WINDOW as usize + CLIENT_WINDOW + (48 << 10);
    assert!(taken >= STALLED * CLIENT_WINDOW, "{taken}: not all of them are stalled");
    assert!(
        taken <= STALLED * most,
        "{} bytes are held for each stopped reader",
        taken / STALLED - CLIENT_WINDOW
    );
    others_are_served(&world, &target, &client).await;
    assert_eq!(target.seen.connections(), 1);
    drop(unread);
}

#[tokio::test]
async fn stopped_clients_leave_those_who_share_their_connection_to_the_target_theirs() {
    let world = World::of_one_worker().await;
    let target = endless_target(&world).await;
    let mut unread = Vec::new();
    for _ in 0..STALLED {
        let socket = TcpSocket::new_v4().unwrap();
        // So that it is the gateway that holds bytes back, not the kernel that takes them.
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let stream = socket.connect(([127, 0, 0, 1], world.port).into()).await.unwrap();
        let stream = world.opened_over(stream, "target", &target.authority(), TOKEN).await;
        let mut tls = world.tls(stream, "localhost", H1).await.unwrap();
        tls.write_all(client::get("/endless", &target.authority()).as_bytes()).await.unwrap();
        read_head(&mut tls).await;
        unread.push(tls);
    }
    let taken = stalled(&target).await;
    assert_eq!(target.seen.connections(), 1, "all of them share one connection to the target");
    assert!(taken >= STALLED * STREAM_WINDOW as usize, "{taken}: not all of them are stalled");
    let client = H2Client::open(&world, "target", &target.authority()).await;
    others_are_served(&world, &target, &client).await;
    assert_eq!(target.seen.connections(), 1);
}

/// The library counts small frames that wait for a reader, on all streams of a connection together.
#[tokio::test]
async fn crumbs_for_a_reader_that_has_stopped_end_nobodys_stream() {
    let world = World::of_one_worker().await;
    let target = endless_target(&world).await;
    let tls = world.tunnel("target", &target.authority(), H2).await;
    let mut patient = h2::client::Builder::new();
    patient.initial_connection_window_size(64 << 20).data_frame_budget(1 << 30);
    let (send, connection) = patient.handshake::<_, Bytes>(tls).await.unwrap();
    tokio::spawn(connection);
    let mut client = H2Client::from(send);
    let crumbs = || Request::get(format!("{}/crumbs", target.url())).body(()).unwrap();
    let (_, _, mut unread) = client.send(crumbs(), None).await.unwrap();
    let taken = stalled(&target).await;
    assert!(taken >= STREAM_WINDOW as usize, "{taken}: the reader was not served until its window was full");
    others_are_served(&world, &target, &client).await;
    assert_eq!(target.seen.connections(), 1);
    let first = unread.data().await.expect("its own stream is over").expect("its own stream is broken");
    assert!(!first.is_empty());
}

/// What a target sends on a stream that was given up comes late, and the library counts that as a mistake.
#[tokio::test]
async fn streams_given_up_by_the_thousand_leave_the_others_of_their_connection_alone() {
    let world = World::of_one_worker().await;
    let target = endless_target(&world).await;
    let mut client = H2Client::open(&world, "target", &target.authority()).await;
    let endless = || Request::get(format!("{}/endless", target.url())).body(()).unwrap();
    let (_, _, mut watch) = client.send(endless(), None).await.unwrap();
    for round in 0..15 {
        // A connection each, so that no client is one that takes everything back.
        let mut leaving = H2Client::open(&world, "target", &target.authority()).await;
        let mut given_up = Vec::new();
        for _ in 0..100 {
            given_up.push(leaving.send(endless(), None).await.unwrap().2);
        }
        drop(given_up);
        let more = watch.data().await.unwrap_or_else(|| panic!("over in round {round}")).unwrap();
        watch.flow_control().release_capacity(more.len()).unwrap();
    }
    let another = H2Client::open(&world, "target", &target.authority()).await;
    others_are_served(&world, &target, &another).await;
    assert_eq!(target.seen.connections(), 1);
}

/// The library ends a connection with its hundredth frame that has no byte and ends nothing.
#[tokio::test]
async fn answers_that_begin_with_nothing_leave_a_watch_on_their_connection_alone() {
    let world = World::of_one_worker().await;
    let target = endless_target(&world).await;
    let mut client = H2Client::open(&world, "target", &target.authority()).await;
    let get = |path: &str| Request::get(format!("{}{path}", target.url())).body(()).unwrap();
    let (_, _, mut watch) = client.send(get("/endless"), None).await.unwrap();
    let mut other = H2Client::open(&world, "target", &target.authority()).await;
    for round in 0..300 {
        let (status, _, body) = other.send(get("/blank"), None).await.unwrap();
        assert_eq!((status.as_u16(), collect(body).await.unwrap().0), (200, b"ok".to_vec()), "{round}");
    }
    let more = watch.data().await.expect("the watch is over").expect("the watch is broken");
    assert!(!more.is_empty());
    assert_eq!(target.seen.connections(), 1);
}

/// Connections of one tenant, to its own target.
const HOARDERS: usize = 16;
const STREAMS: usize = 240;
/// What their streams may hold in all: 128 MiB, 15 in pieces of 4 KiB that each may have, and 32 by which small
/// requests are counted that wait. Each may have a quarter of a MiB while there is room, which would be 960.
const ROOM: usize = 175 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_whose_readers_have_stopped_get_smaller_windows_before_memory_runs_out() {
    let world = World::new().await;
    let target = endless_target(&world).await;
    let gauge = world.gateway.parts.metrics.held.streams.clone();
    let held_now = || usize::try_from(gauge.get()).unwrap();
    let mut held = Vec::new();
    for _ in 0..HOARDERS {
        let tls = world.tunnel("target", &target.authority(), H2).await;
        let mut stopped = h2::client::Builder::new();
        stopped.initial_window_size(0);
        let (send, connection) = stopped.handshake::<_, Bytes>(tls).await.unwrap();
        tokio::spawn(connection);
        let mut client = H2Client::from(send);
        for _ in 0..STREAMS {
            let endless = Request::get(format!("{}/endless", target.url())).body(()).unwrap();
            // One that is ended at once is one less to hold.
            held.extend(client.send(endless, None).await.ok());
        }
        assert!(held_now() < ROOM, "{} MiB are held", held_now() >> 20);
    }
    stalled(&target).await;
    let most = held_now();
    assert!(most > 64 << 20 && most < ROOM, "{} MiB are held", most >> 20);
    // A namespace that holds nothing is told nothing of that.
    let neighbour = Target::script(&world.leaf(), &[], H2, serve).await;
    world.connect("next/target", &neighbour.url());
    let mut client = H2Client::open(&world, "next/target", &neighbour.authority()).await;
    let endless = Request::get(format!("{}/endless", neighbour.url())).body(()).unwrap();
    held.push(client.send(endless, None).await.unwrap());
    let taken = stalled(&neighbour).await;
    assert!(taken >= STREAM_WINDOW as usize, "{taken}: a neighbour's windows are small too");
    let client = H2Client::open(&world, "target", &target.authority()).await;
    others_are_served(&world, &target, &client).await;
    drop(held);
    eventually("all is given back", async || at_most(1 << 20, held_now())).await;
}
