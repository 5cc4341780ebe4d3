//! Clients that read nothing from their sockets: what their targets send stays with the targets, however small its
//! pieces are and whether or not it is a body.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use connectors_testenv::eventually;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::{STREAMS, at_most};
use crate::http::H2;
use crate::target::{Tls, read_head};
use crate::world::{TOKEN, World};

const INTERIM: usize = 15;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM_AND_HEADERS: u8 = 5;

/// Without TLS, for there are hundreds of connections. Sends so many pieces, one after the other, and counts them.
async fn target(pieces: usize, piece: Vec<u8>) -> (u16, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let socket = TcpSocket::new_v4().unwrap();
    // What is sent is what is taken, not what lies in the kernel.
    socket.set_send_buffer_size(4 << 10).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1024).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, sent) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let counts = (asked.clone(), sent.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (piece, (asked, sent)) = (piece.clone(), counts.clone());
            tokio::spawn(async move {
                read_head(&mut stream).await;
                asked.fetch_add(1, Ordering::SeqCst);
                for _ in 0..pieces {
                    if stream.write_all(&piece).await.is_err() {
                        return;
                    }
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                let _ = stream.read_u8().await;
            });
        }
    });
    (port, asked, sent)
}

async fn tls(world: &World) -> Tls {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let stream = socket.connect(([127, 0, 0, 1], world.https).into()).await.unwrap();
    world.tls(stream, "c-target.demo.svc", H2).await.unwrap()
}

/// Asks, and then reads no byte any more. Its windows are as large as they can be.
async fn asks_and_stops(world: &World) -> impl Sized {
    let tls = tls(world).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(i32::MAX as u32).initial_connection_window_size(i32::MAX as u32);
    let (mut send, mut connection) = builder.handshake::<_, Bytes>(tls).await.unwrap();
    let answers: Vec<_> = (0..STREAMS)
        .map(|_| {
            let request = Request::get("https://c-target.demo.svc/");
            let request = request.header("authorization", format!("Bearer {TOKEN}")).body(()).unwrap();
            send.send_request(request, true).unwrap().0
        })
        .collect();
    // Long enough for the requests to leave.
    let _ = tokio::time::timeout(Duration::from_millis(20), &mut connection).await;
    (connection, send, answers)
}

/// What a target has sent when it can send no more.
async fn settled(sent: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    while last != sent.load(Ordering::SeqCst) {
        last = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    last
}

async fn taken_for_nobody(pieces: usize, piece: Vec<u8>) -> usize {
    let world = World::of_one_worker().await;
    let (port, asked, sent) = target(pieces, piece).await;
    world.connect("target", &format!("http://127.0.0.1:{port}"));
    let gauge = world.gateway.parts.metrics.held.streams.clone();
    let stopped = asks_and_stops(&world).await;
    eventually("the target is asked", async || asked.load(Ordering::SeqCst) > STREAMS / 2).await;
    let taken = settled(&sent).await;
    assert!(gauge.get() > 0, "what waits for the socket is not counted");
    drop(stopped);
    eventually("all is given back", async || at_most(0, gauge.get())).await;
    taken
}

/// As many as the sockets on both sides hold, and one on its way through for each stream: of 3600.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_heads_stay_with_the_target() {
    let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(60 << 10));
    let taken = taken_for_nobody(INTERIM, hints.into_bytes()).await;
    assert!(taken < STREAMS * INTERIM / 2, "{taken} heads of 60 KiB were taken");
}

/// Each chunk is a frame, for which the library takes three hundred bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crumbs_stay_with_the_target() {
    let mut piece = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    piece.extend(b"1\r\nx\r\n".repeat(40 << 10));
    let taken = taken_for_nobody(1, piece).await;
    assert!(taken < STREAMS, "{taken} answers of 40,960 frames were taken");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn window(size: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, 4], &size.to_be_bytes()[..]].concat())
}

/// GET, https, /, and what HPACK's table has names for: `:authority`, `authorization`.
fn request(stream: u32) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let block = [
        &[0x82, 0x87, 0x84, 0x01][..],
        &text("c-target.demo.svc"),
        &[0x0f, 8],
        &text(&format!("Bearer {TOKEN}")),
    ];
    frame(HEADERS, END_STREAM_AND_HEADERS, stream, &block.concat())
}

/// By hand: a library reads what it has given windows for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_for_a_client_that_makes_its_windows_smaller_counts_for_as_long_as_it_is_there() {
    let world = World::of_one_worker().await;
    let piece = [b"HTTP/1.1 200 OK\r\nContent-Length: 32768\r\n\r\n".as_slice(), &[b'x'; 32768]].concat();
    let (port, asked, _) = target(1, piece).await;
    world.connect("target", &format!("http://127.0.0.1:{port}"));
    let gauge = world.gateway.parts.metrics.held.streams.clone();
    let mut client = tls(&world).await;
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(window(1 << 20));
    sent.extend(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
    client.write_all(&sent).await.unwrap();
    // One by one, so that each answer is handed over as a whole: nothing else holds something then.
    let requests = &world.gateway.parts.metrics.requests;
    for number in 0..STREAMS {
        client.write_all(&request(2 * number as u32 + 1)).await.unwrap();
        let over = async || asked.load(Ordering::SeqCst) > number && requests.open() == 0;
        eventually("it is answered", over).await;
        if gauge.get() > 128 << 10 {
            break;
        }
    }
    assert!(gauge.get() > 128 << 10, "nothing waits for the client");
    client.write_all(&window(0)).await.unwrap();
    let mut room = vec![0; 1 << 20];
    while let Ok(read) = tokio::time::timeout(Duration::from_secs(1), client.read(&mut room)).await {
        assert!(read.unwrap() > 0, "the connection has ended");
    }
    assert!(gauge.get() > 64 << 10, "{} bytes count", gauge.get());
    drop(client);
    eventually("all is given back", async || at_most(0, gauge.get())).await;
}
