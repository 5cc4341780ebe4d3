//! Tricks with upgrades: what a client sends ahead for another protocol is never a request, whoever refuses
//! the upgrade; and a target's 101 that is none changes nothing.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{PATIENCE, rest};
use crate::http::{H1, exchange, get};
use crate::target::{Target, read_head};
use crate::upgrade_load::{SPDY, WEBSOCKET, request};
use crate::world::World;

/// Name, head of an upgrade, what the gateway itself says.
type Row = (&'static str, fn(&str) -> String, u16);

fn with(authority: &str, upgrade: &str, more: &str) -> String {
    format!(
        "GET /exec HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n{more}\r\n"
    )
}

#[rustfmt::skip] // One line each.
const REFUSED: [Row; 12] = [
    ("a protocol that nobody knows", |at| with(at, "TLS/1.3", ""), 501),
    ("a choice of two", |at| with(at, "websocket, SPDY/3.1", ""), 501),
    ("a choice in two fields", |at| with(at, "websocket", "Upgrade: SPDY/3.1\r\n"), 501),
    ("HTTP/2 in clear by its other name", |at| with(at, "h2", ""), 501),
    ("a version of a protocol", |at| with(at, "websocket/13", ""), 501),
    ("a protocol with a NUL", |at| with(at, "websocket\0", ""), 400),
    ("a body of a length", |at| with(at, "websocket", "Content-Length: 4\r\n"), 400),
    ("a body in chunks", |at| with(at, "websocket", "Transfer-Encoding: chunked\r\n"), 400),
    ("a length and chunks", |at| with(at, "websocket", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), 400),
    ("another host", |_| with("other.example", "websocket", ""), 421),
    ("Connection nominates Host", |at| with(at, "websocket", "Connection: Host\r\n"), 400),
    ("a TRACE", |at| with(at, "websocket", "").replace("GET ", "TRACE "), 501),
];

/// What a client sends ahead of the answer.
fn ahead(authority: &str) -> String {
    get("/smuggled", authority).repeat(2)
}

/// Answers each head with `answer`, and notes the heads.
async fn target(world: &World, answer: &'static str) -> (Target, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let noted = heads.clone();
    let target = Target::script(&world.leaf(), &[], H1, move |mut tls, _| {
        let noted = noted.clone();
        async move {
            loop {
                let head = read_head(&mut tls).await;
                if head.is_empty() {
                    return;
                }
                let upgrade = head.contains("upgrade: ");
                noted.lock().unwrap().push(head);
                let out = if upgrade { answer } else { "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" };
                let _ = tls.write_all(out.as_bytes()).await;
            }
        }
    })
    .await;
    world.connect("target", &target.url());
    (target, heads)
}

#[tokio::test]
async fn behind_an_upgrade_that_is_refused_here_comes_no_request() {
    let world = World::new().await;
    let (target, heads) = target(&world, "").await;
    let authority = target.authority();
    for (name, head, status) in REFUSED {
        let mut tls = world.tunnel("target", &authority, H1).await;
        tls.write_all((head(&authority) + &ahead(&authority)).as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, rest(&mut tls)).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        assert!(!answer.contains("good"), "{name}: {answer}");
        assert!(heads.lock().unwrap().is_empty(), "{name}: {heads:?}");
        let mut good = world.tunnel("target", &authority, H1).await;
        assert_eq!(exchange(&mut good, &get("/", &authority)).await.1, b"good", "after {name}");
        heads.lock().unwrap().clear();
    }
}

#[rustfmt::skip] // One line each.
const ANSWERS: [(&str, &str, u16); 9] = [
    ("a plain refusal", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403),
    ("an answer as to a GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200),
    ("an answer that says that it stays", "HTTP/1.1 400 X\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", 400),
    ("an empty answer", "HTTP/1.1 204 No Content\r\n\r\n", 204),
    ("a 101 without Upgrade", "HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\nhi", 502),
    ("a 101 without Connection", "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\nhi", 502),
    ("a 101 to another protocol", "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nhi", 502),
    ("a 101 to two protocols", "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket, SPDY/3.1\r\n\r\nhi", 502),
    ("a 101 of HTTP/1.0 with both codings", "HTTP/1.0 101 X\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 502),
];

#[tokio::test]
async fn behind_an_upgrade_that_the_target_refuses_comes_no_request() {
    for (name, answer, status) in ANSWERS {
        let world = World::new().await;
        let (target, heads) = target(&world, answer).await;
        let authority = target.authority();
        for protocol in [WEBSOCKET, SPDY] {
            let mut tls = world.tunnel("target", &authority, H1).await;
            tls.write_all((request(protocol, "/exec", &authority) + &ahead(&authority)).as_bytes())
                .await
                .unwrap();
            let got = tokio::time::timeout(PATIENCE, rest(&mut tls)).await.unwrap();
            assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {got}");
            assert!(got.contains("connection: close"), "{name}: {got}");
            assert!(
                !got[9..].contains("HTTP/1.1 ") && !got.contains("good"),
                "{name}: more than one answer: {got}"
            );
            let seen = std::mem::take(&mut *heads.lock().unwrap());
            assert!(seen.len() == 1 && !seen[0].contains("smuggled"), "{name}: {seen:?}");
        }
    }
}

/// What the client sends ahead goes to the target as bytes of the protocol, and only once it has agreed.
#[tokio::test]
async fn what_looks_like_a_request_behind_an_agreed_upgrade_is_bytes() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        let head = read_head(&mut tls).await;
        let _ = tls.write_all(crate::upgrade_load::agreement(&head).as_bytes()).await;
        let mut buf = [0; 4096];
        while let Ok(n @ 1..) = tls.read(&mut buf).await {
            let _ = tls.write_all(&buf[..n]).await;
        }
    })
    .await;
    world.connect("target", &target.url());
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H1).await;
    let bytes = format!("GET /a HTTP/1.1\r\nHost: {authority}\r\nImpersonate-User: admin\r\n\r\n");
    tls.write_all((request(WEBSOCKET, "/exec", &authority) + &bytes).as_bytes()).await.unwrap();
    assert!(read_head(&mut tls).await.starts_with("HTTP/1.1 101 "));
    let mut echo = vec![0; bytes.len()];
    tls.read_exact(&mut echo).await.unwrap();
    assert_eq!(echo, bytes.as_bytes(), "unread and unchanged");
}
