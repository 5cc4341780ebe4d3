//! Who may ask again over the same connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{HOST, bearer};
use crate::http::H2;
use crate::target::{Target, read_body, read_head};
use crate::world::{STRANGER, TOKEN, World};

#[tokio::test]
async fn a_refused_request_leaves_the_connection_to_the_next_one() {
    let (world, target) = World::with_target(false).await;
    let mut stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    let refused = format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello");
    let (head, _) = exchange(&mut stream, &refused).await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    for token in [TOKEN, STRANGER, TOKEN] {
        let next = format!(
            "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n{}\r\n\r\nhello",
            bearer(token)
        );
        let (head, body) = exchange(&mut stream, &next).await;
        let expected = if token == TOKEN { "HTTP/1.1 200 " } else { "HTTP/1.1 403 " };
        assert!(
            head.starts_with(expected) && (token != TOKEN || body == b"hello"),
            "each request by its own token: {head}"
        );
    }
    assert_eq!(target.seen.heads().len(), 2);
}

#[tokio::test]
async fn who_proves_to_be_nobody_does_not_keep_a_connection() {
    let world = World::with(|settings| settings.timeouts.head = Duration::from_millis(300)).await;
    let target = Target::http(&world.leaf(), false).await;
    world.connect("target", &target.url());
    let get = |token: &str| format!("GET /head HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n\r\n", bearer(token));
    let mut known = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    exchange(&mut known, &get(TOKEN)).await;
    let mut unknown = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    let (head, _) = exchange(&mut unknown, &get("guessed")).await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    let closed = tokio::time::timeout(Duration::from_secs(5), unknown.read_to_end(&mut Vec::new())).await;
    assert_eq!(closed.expect("kept").unwrap(), 0);
    let (head, _) = exchange(&mut known, &get(TOKEN)).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    // In HTTP/2 too, and so is one that never begins.
    for first in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], b"PRI "] {
        let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
        let mut tls = world.tls(stream, HOST, H2).await.unwrap();
        tls.write_all(first).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(5), tls.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "{first:?} is kept");
    }
}

async fn exchange(stream: &mut TcpStream, request: &str) -> (String, Vec<u8>) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(stream).await;
    let body = read_body(stream, &head).await.unwrap();
    (head, body)
}
