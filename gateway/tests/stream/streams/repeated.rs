//! What is asked of a target once more, and over which connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{self as client, H1};
use crate::target::{Target, read_head};
use crate::world::World;

#[tokio::test]
async fn a_request_on_a_dead_pooled_connection_is_repeated_only_if_that_is_safe() {
    let world = World::new().await;
    // Answers one request per connection, says that it may be kept, and closes when the next one arrives.
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        let head = read_head(&mut tls).await;
        seen.heads.lock().unwrap().push(head);
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        read_head(&mut tls).await;
    })
    .await;
    world.connect("target", &target.url());
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H1).await;
    for _ in 0..2 {
        let (head, _) = client::exchange(&mut tls, &client::get("/", &authority)).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    let (head, body) = client::exchange(
        &mut tls,
        &format!("POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\n\r\n"),
    )
    .await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("localhost"));
    assert_eq!(target.seen.heads().len(), 2);
}

#[tokio::test]
async fn a_connection_with_unread_bytes_is_not_used_again() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        let head = read_head(&mut tls).await;
        seen.heads.lock().unwrap().push(head);
        // A second answer that nobody asked for.
        let _ = tls
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            .await;
        while matches!(tls.read(&mut [0; 64]).await, Ok(n) if n > 0) {}
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    for _ in 0..3 {
        let (_, body) = client::exchange(&mut tls, &client::get("/", &target.authority())).await;
        assert_eq!(body, b"ok");
    }
    assert_eq!(target.seen.connections(), 3);
}

/// A target that has said so much of an answer has begun to act.
#[tokio::test]
async fn a_request_is_not_repeated_after_an_interim_answer() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        while let head = read_head(&mut tls).await
            && !head.is_empty()
        {
            let first = head.starts_with("GET");
            seen.heads.lock().unwrap().push(head);
            match first {
                true => tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap(),
                false => return tls.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.unwrap(),
            }
        }
    })
    .await;
    world.connect("target", &target.url());
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H1).await;
    client::exchange(&mut tls, &client::get("/", &authority)).await;
    tls.write_all(format!("DELETE / HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await.unwrap();
    let interim = read_head(&mut tls).await;
    assert!(interim.starts_with("HTTP/1.1 102 "), "{interim}");
    let head = read_head(&mut tls).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert_eq!(target.seen.heads().len(), 2);
}
