//! What is asked of a target once more, and over which connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{self as client, H1};
use crate::target::{Target, field, read_head};
use crate::world::{World, connector};

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

#[tokio::test]
async fn a_401_of_the_target_makes_the_gateway_read_the_secret_once_more() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        loop {
            let head = read_head(&mut tls).await;
            if head.is_empty() {
                return;
            }
            let status = if head.contains("rotated") { "200 OK" } else { "401 Unauthorized" };
            let mut body =
                vec![0; field(&head, "content-length").map_or(0, |length| length.parse().unwrap())];
            tls.read_exact(&mut body).await.unwrap();
            assert!(body.is_empty() || body == b"body", "{body:?}");
            seen.heads.lock().unwrap().push(head);
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nxx");
            tls.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    let (head, _) = client::exchange(&mut tls, &client::get("/", &target.authority())).await;
    assert!(head.starts_with("HTTP/1.1 401"), "an unchanged Secret: {head}");
    // Later connectors of other names, so that the first one's reread is not remembered.
    let authority = target.authority();
    let post = format!("POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 4\r\n\r\nbody");
    for (name, request) in [("second", client::get("/", &authority)), ("broken", post)] {
        world.connect(name, &target.url());
        let mut tls = world.tunnel(name, &authority, H1).await;
        let warm = client::exchange(&mut tls, &client::get("/", &authority)).await;
        assert!(warm.0.starts_with("HTTP/1.1 401"));
        let ca = format!("caCertSecretRef: {{name: {name}-ca}}");
        world.apply(&connector(name, &target.url(), &ca, "rotated", &world.target_ca.pem()));
        let (head, _) = client::exchange(&mut tls, &request).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{name}: {head}");
    }
}
