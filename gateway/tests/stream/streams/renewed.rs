//! A Secret that changes while a request is under way: what is sent once more, to whom and with what.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use connectors_testenv::eventually;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::http::{self as client, H1};
use crate::target::{Target, read_body, read_head};
use crate::world::{World, connector};

const PIECE: usize = 32 << 10;
const PIECES: usize = 32;

fn ca(name: &str) -> String {
    format!("caCertSecretRef: {{name: {name}-ca}}")
}

/// Answers 401 to all but the changed credential, the first time when it may, and then reads the rest of the body.
async fn refusing(world: &World, may: &Arc<Notify>) -> Target {
    let may = may.clone();
    Target::script(&world.leaf(), &[], H1, move |mut tls, seen| {
        let may = may.clone();
        async move {
            loop {
                let head = read_head(&mut tls).await;
                if head.is_empty() {
                    return;
                }
                let is_new = head.contains("rotated");
                let framed = head.clone();
                seen.heads.lock().unwrap().push(head);
                if !is_new {
                    may.notified().await;
                    tls.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nxx").await.unwrap();
                }
                let Ok(body) = read_body(&mut tls, &framed).await else { return };
                if is_new {
                    seen.bytes.store(body.len(), Ordering::SeqCst);
                    let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_body_that_goes_on_after_a_401_is_sent_again_whole_or_not_at_all() {
    let world = World::new().await;
    let may = Arc::new(Notify::new());
    let target = refusing(&world, &may).await;
    world.connect("target", &target.url());
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H1).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {authority}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let piece = format!("{PIECE:x}\r\n{}\r\n", "x".repeat(PIECE));
    tls.write_all(format!("{head}{piece}").as_bytes()).await.unwrap();
    eventually("the target has the head", async || target.seen.heads().len() == 1).await;
    world.apply(&connector("target", &target.url(), &ca("target"), "rotated", &world.target_ca.pem()));
    may.notify_one();
    // The 401 is there before the rest of the body.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 1..PIECES {
        tls.write_all(piece.as_bytes()).await.unwrap();
    }
    tls.write_all(b"0\r\n\r\n").await.unwrap();
    let head = read_head(&mut tls).await;
    let (bytes, heads) = (target.seen.bytes.load(Ordering::SeqCst), target.seen.heads().len());
    match head.starts_with("HTTP/1.1 200 ") {
        true => assert_eq!((bytes, heads), (PIECES * PIECE, 2)),
        // Too much had come before the Secret was read.
        false => assert!(head.starts_with("HTTP/1.1 401 ") && heads == 1, "{heads}: {head}"),
    }
}

/// What the connector allows may have changed with the Secret.
#[tokio::test]
async fn a_request_is_not_sent_again_to_where_the_connector_leads_no_longer() {
    let world = World::new().await;
    let may = Arc::new(Notify::new());
    let target = refusing(&world, &may).await;
    let apply = |path: &str, token: &str| {
        let address = format!("{}{path}", target.url());
        world.apply(&connector("target", &address, &ca("target"), token, &world.target_ca.pem()));
    };
    apply("/a", "first");
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H1).await;
    tls.write_all(client::get("/a/x", &authority).as_bytes()).await.unwrap();
    eventually("the target has the head", async || target.seen.heads().len() == 1).await;
    apply("/b", "rotated");
    may.notify_one();
    let head = read_head(&mut tls).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(target.seen.heads().len(), 1, "it was sent with the credential of another address");
}

#[tokio::test]
async fn a_401_of_the_target_is_the_clients_unless_the_secret_has_changed_under_way() {
    for (method, changes) in [("GET", false), ("GET", true), ("POST", true)] {
        let world = World::new().await;
        let may = Arc::new(Notify::new());
        let target = refusing(&world, &may).await;
        world.connect("target", &target.url());
        let authority = target.authority();
        let mut tls = world.tunnel("target", &authority, H1).await;
        let request = match method {
            "GET" => client::get("/", &authority),
            _ => format!("POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 4\r\n\r\nbody"),
        };
        tls.write_all(request.as_bytes()).await.unwrap();
        eventually("the target has the head", async || target.seen.heads().len() == 1).await;
        if changes {
            world.apply(&connector(
                "target",
                &target.url(),
                &ca("target"),
                "rotated",
                &world.target_ca.pem(),
            ));
        }
        may.notify_one();
        let head = read_head(&mut tls).await;
        let (status, heads) = if changes { (200, 2) } else { (401, 1) };
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {changes}: {head}");
        assert_eq!(target.seen.heads().len(), heads, "{method} {changes}");
        let body = if method == "POST" { 4 } else { 0 };
        assert_eq!(target.seen.bytes.load(Ordering::SeqCst), body, "{method} {changes}");
    }
}
