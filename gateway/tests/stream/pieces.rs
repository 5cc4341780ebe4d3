//! Heads of HTTP/1.1 that come byte by byte, each in a TLS record of its own, so that none is read with another.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::H1;
use crate::target::{Target, Tls, read_body, read_head};
use crate::world::{TOKEN, World};

const PATIENCE: Duration = Duration::from_secs(20);

async fn in_pieces(tls: &mut Tls, head: &str) {
    for byte in head.bytes() {
        tls.write_all(&[byte]).await.unwrap();
        tls.flush().await.unwrap();
    }
}

#[tokio::test]
async fn a_request_and_an_answer_whose_heads_come_byte_by_byte_arrive() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        loop {
            let head = read_head(&mut tls).await;
            if head.is_empty() {
                return;
            }
            seen.heads.lock().unwrap().push(head);
            in_pieces(&mut tls, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
            in_pieces(&mut tls, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Last: 1\r\n\r\nok").await;
        }
    })
    .await;
    world.connect("target", &target.url());
    let host = "c-target.demo.svc";
    let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut tls = world.tls(stream, host, H1).await.unwrap();
    // The first of a connection is read elsewhere than later ones.
    for path in ["/first", "/second"] {
        let asks = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        in_pieces(&mut tls, &asks).await;
        let answered = timeout(PATIENCE, async {
            let hints = read_head(&mut tls).await;
            let head = read_head(&mut tls).await;
            let body = read_body(&mut tls, &head).await.unwrap();
            (hints, head.to_lowercase(), body)
        });
        let (hints, head, body) = answered.await.expect("no answer");
        assert!(hints.starts_with("HTTP/1.1 103 "), "{path}: {hints}");
        assert!(head.starts_with("http/1.1 200 ") && head.contains("\r\nx-last: 1\r\n"), "{path}: {head}");
        assert_eq!(body, b"ok", "{path}");
        let seen = target.seen.heads();
        assert!(seen.last().unwrap().starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{seen:?}");
    }
}
