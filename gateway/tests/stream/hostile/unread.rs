//! Refusals that their client does not read: they end, and hold nothing of its request meanwhile.

use std::time::Duration;

use connectors_gateway::http::http2::STREAM_WINDOW;
use connectors_testenv::eventually;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::PATIENCE;
use super::frames::*;
use crate::http::H2;
use crate::target::{Target, Tls};
use crate::world::World;

/// A small body in a large window of the connection would not show.
async fn world() -> (World, Target) {
    let world = World::with(|settings| {
        settings.timeouts.head = Duration::from_secs(2);
        settings.limits.streams = 1;
    })
    .await;
    let target = Target::http(&world.leaf(), true).await;
    world.connect("target", &target.url());
    (world, target)
}

/// A POST that is refused, then as much of its body as it may send; its answer has no room. Reads until the stream has
/// ended. True: room for another such body was given before.
async fn is_let_go(tls: &mut Tls, authority: &str, more: &[(&str, &str)]) -> bool {
    greet(tls).await;
    let pseudo = [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", authority)];
    let post = frame(HEADERS, END_HEADERS, 1, &block(&[&pseudo, more].concat()));
    let no_room = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    tls.write_all(&[no_room, frame(SETTINGS, ACK, 0, &[]), post].concat()).await.unwrap();
    while next(tls).await.expect("it is refused").0 != HEADERS {}
    let piece = frame(DATA, 0, 1, &[0; 16 << 10]);
    tls.write_all(&piece.repeat(STREAM_WINDOW as usize / (16 << 10))).await.unwrap();
    let mut given = false;
    loop {
        match next(tls).await {
            Some((WINDOW_UPDATE, _, 0, _)) => given = true,
            Some((RST_STREAM, _, 1, _)) | None => return given,
            Some(_) => {}
        }
    }
}

#[tokio::test]
async fn a_refusal_that_is_given_no_room_ends_and_lets_go_of_the_body() {
    let (world, target) = world().await;
    let authority = target.authority();
    for more in [("impersonate-user", "admin"), ("host", "another")] {
        let mut tls = world.tunnel("target", &authority, H2).await;
        let given = tokio::time::timeout(PATIENCE, is_let_go(&mut tls, &authority, &[more])).await;
        assert!(given.expect("it waits for ever"), "{more:?}: the body is held");
    }
    let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
    let mut tls = world.tls(stream, "c-target.demo.svc", H2).await.unwrap();
    let given = tokio::time::timeout(PATIENCE, is_let_go(&mut tls, "c-target.demo.svc", &[])).await;
    assert!(given.expect("it waits for ever"), "the body of nobody is held");
}

#[tokio::test]
async fn a_client_that_reads_none_of_its_refusals_loses_its_connection() {
    let (world, _target) = world().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = socket.connect(([127, 0, 0, 1], world.port).into()).await.unwrap();
    let asks = b"GET / HTTP/1.1\r\nHost: c-target.demo.svc\r\n\r\n".repeat(20_000);
    let asking = tokio::spawn(async move {
        let _ = stream.write_all(&asks).await;
        // Open as long as the gateway has it.
        stream
    });
    let open = &world.gateway.parts.metrics.connections_open;
    eventually("it is open", async || open.get() == 1).await;
    eventually("it is ended", async || open.get() == 0).await;
    drop(asking);
}
