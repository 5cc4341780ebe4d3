//! Upgrades: none is lost, and they take the path of all requests. `bytes` is about the stream that they
//! become, `refused` about those that become none.

mod bytes;
mod refused;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{self as client, H1, H2Client};
use crate::target::{Seen, Target, Tls, field, read_head};
use crate::upgrade_load::{self as load, SPDY, WEBSOCKET, agreement, request};
use crate::world::{SECRET, STRANGER, TOKEN, World, connector};

/// Long enough for a busy machine, and a hang is told from a failure.
const PATIENCE: Duration = Duration::from_secs(10);

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("nothing came any more")
}

/// A world whose target reads a head, notes it and agrees; `then` goes on.
async fn agreeing<F>(then: impl Fn(Tls, Arc<Seen>) -> F + Clone + Send + Sync + 'static) -> (World, Target)
where
    F: Future<Output = ()> + Send + 'static,
{
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, move |mut tls, seen| {
        let then = then.clone();
        async move {
            let head = read_head(&mut tls).await;
            seen.heads.lock().unwrap().push(head.clone());
            tls.write_all(agreement(&head).as_bytes()).await.unwrap();
            then(tls, seen).await;
        }
    })
    .await;
    world.connect("target", &target.url());
    (world, target)
}

async fn echo(mut tls: Tls, _: Arc<Seen>) {
    let mut buf = [0; 4096];
    while let Ok(n) = tls.read(&mut buf).await {
        if n == 0 || tls.write_all(&buf[..n]).await.is_err() {
            break;
        }
    }
    let _ = tls.shutdown().await;
}

/// An upgraded stream through connector `demo/target`.
async fn upgraded(world: &World, target: &Target, protocol: &str) -> Tls {
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    tls.write_all(request(protocol, "/exec", &target.authority()).as_bytes()).await.unwrap();
    let head = within(read_head(&mut tls)).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    tls
}

/// How many over each protocol; `make test-upgrades` asks for more.
const UPGRADES: &str = "CONNECTORS_UPGRADES";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_upgrade_is_lost_when_the_target_answers_at_once() {
    let count = std::env::var(UPGRADES).map_or(300, |count| count.parse().expect(UPGRADES));
    let world = Arc::new(World::new().await);
    let target = load::target(&world).await;
    world.connect("target", &target.url());
    for protocol in [WEBSOCKET, SPDY] {
        let outcome = load::run(&world, &target, protocol, count, 16).await;
        println!("{protocol}: {} of {count} whole, {} lost or wrong", outcome.done, count - outcome.done);
        assert!(outcome.failed.is_empty() && outcome.done == count, "{outcome:#?}");
    }
}

#[tokio::test]
async fn the_agreement_passes_with_its_fields_and_without_the_nominated_ones() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        read_head(&mut tls).await;
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade, X-Hop\r\nX-Hop: 1\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: abc=\r\nSec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\nContent-Length: 9\r\n\r\n";
        tls.write_all(head.as_bytes()).await.unwrap();
        echo(tls, Arc::default()).await;
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    tls.write_all(request(WEBSOCKET, "/portforward", &target.authority()).as_bytes()).await.unwrap();
    let head = within(read_head(&mut tls)).await;
    for (name, value) in [
        ("connection", Some("Upgrade")),
        ("upgrade", Some("websocket")),
        ("sec-websocket-accept", Some("abc=")),
        ("sec-websocket-protocol", Some("SPDY/3.1+portforward.k8s.io")),
        ("x-hop", None),
        ("content-length", None),
    ] {
        assert_eq!(field(&head, name), value, "{name}: {head}");
    }
}

#[tokio::test]
async fn an_upgrade_as_somebody_else_is_refused_before_the_target_hears_of_it() {
    for protocol in [WEBSOCKET, SPDY] {
        let (world, target) = agreeing(echo).await;
        let mut tls = world.tunnel("target", &target.authority(), H1).await;
        let plain = request(protocol, "/api/v1/namespaces/a/pods/b/exec?command=sh", &target.authority());
        let sent = plain.replace("Connection: Upgrade", "Connection: Upgrade\r\nImpersonate-User: admin");
        tls.write_all(sent.as_bytes()).await.unwrap();
        assert!(within(read_head(&mut tls)).await.starts_with("HTTP/1.1 403 "));
        assert_eq!(target.seen.heads().len(), 0, "nothing was forwarded");
    }
}

#[tokio::test]
async fn an_upgrade_carries_the_connectors_credential_and_no_identity_of_the_client() {
    for protocol in [WEBSOCKET, SPDY] {
        let (world, target) = agreeing(echo).await;
        let mut tls = world.tunnel("target", &target.authority(), H1).await;
        let plain = request(protocol, "/api/v1/namespaces/a/pods/b/exec?command=sh", &target.authority());
        let sent = plain.replace("Connection: Upgrade", "Connection: Upgrade, X-Nominated\r\nX-Nominated: 1\r\nX-Remote-Group: system:masters\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\nKeep-Alive: 5");
        let sent =
            sent.replace(": v5.channel", ": base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel");
        tls.write_all(sent.as_bytes()).await.unwrap();
        assert!(within(read_head(&mut tls)).await.starts_with("HTTP/1.1 101 "));
        let seen = target.seen.heads().concat();
        assert_eq!(field(&seen, "authorization"), Some(format!("Bearer {SECRET}").as_str()), "{seen}");
        assert_eq!(
            (field(&seen, "connection"), field(&seen, "upgrade")),
            (Some("Upgrade"), Some(protocol)),
            "{seen}"
        );
        assert_eq!(field(&seen, "host"), Some(target.authority().as_str()));
        for gone in
            ["x-remote", "proxy-", "fake-token", "bearer.authorization", "x-nominated", "keep-alive", "te:"]
        {
            assert!(
                !seen
                    .to_lowercase()
                    .lines()
                    .any(|line| line.starts_with(gone) || gone.len() > 9 && line.contains(gone)),
                "{gone}: {seen}"
            );
        }
        let kept = if protocol == WEBSOCKET { "sec-websocket-protocol" } else { "x-stream-protocol-version" };
        assert!(field(&seen, kept).is_some_and(|value| value.ends_with(".channel.k8s.io")), "{seen}");
    }
}

#[tokio::test]
async fn a_target_that_speaks_http2_is_asked_over_http1() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], b"\x02h2\x08http/1.1", |mut tls, seen| async move {
        if tls.ssl().selected_alpn_protocol() == Some(b"h2") {
            return crate::target::serve_h2(tls, seen).await;
        }
        let head = read_head(&mut tls).await;
        seen.heads.lock().unwrap().push(head.clone());
        tls.write_all(agreement(&head).as_bytes()).await.unwrap();
        echo(tls, seen).await;
    })
    .await;
    world.connect("target", &target.url());
    let mut h2 = H2Client::open(&world, "target", &target.authority()).await;
    let plain = || Request::get(format!("{}/head", target.url())).body(()).unwrap();
    assert_eq!(h2.send(plain(), None).await.unwrap().0, 200);
    let mut tls = upgraded(&world, &target, WEBSOCKET).await;
    tls.write_all(b"ping").await.unwrap();
    let mut got = [0; 4];
    within(tls.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"ping");
    assert_eq!(h2.send(plain(), None).await.unwrap().0, 200);
    let protocols: Vec<bool> = target.seen.heads().iter().map(|head| head.contains("HTTP/2")).collect();
    assert_eq!(protocols, [true, false, true]);
    assert_eq!(target.seen.connections(), 2);
}

#[tokio::test]
async fn a_pooled_connection_that_has_died_costs_no_upgrade() {
    let world = World::new().await;
    // Keeps a connection after an ordinary request, and closes it when another one arrives.
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        let head = read_head(&mut tls).await;
        if head.contains("Upgrade") {
            tls.write_all(agreement(&head).as_bytes()).await.unwrap();
            return echo(tls, seen).await;
        }
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        read_head(&mut tls).await;
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    client::exchange(&mut tls, &client::get("/", &target.authority())).await;
    for protocol in [WEBSOCKET, SPDY] {
        upgraded(&world, &target, protocol).await;
    }
}

#[tokio::test]
async fn a_401_to_an_upgrade_makes_the_gateway_read_the_secret_once_more() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        let head = read_head(&mut tls).await;
        seen.heads.lock().unwrap().push(head.clone());
        if head.contains("rotated") {
            tls.write_all(agreement(&head).as_bytes()).await.unwrap();
            return echo(tls, seen).await;
        }
        tls.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nxx").await.unwrap();
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    let asked = request(WEBSOCKET, "/exec", &target.authority());
    let (head, _) = within(client::exchange(&mut tls, &asked)).await;
    assert!(head.starts_with("HTTP/1.1 401 "), "an unchanged Secret: {head}");
    // Another name, so that the first one's reread is not remembered.
    world.connect("second", &target.url());
    let mut tls = world.tunnel("second", &target.authority(), H1).await;
    // The tunnel's grant knows the old Secret.
    assert!(
        within(client::exchange(&mut tls, &client::get("/", &target.authority())))
            .await
            .0
            .starts_with("HTTP/1.1 401 ")
    );
    world.apply(&connector(
        "second",
        &target.url(),
        "caCertSecretRef: {name: second-ca}",
        "rotated",
        &world.target_ca.pem(),
    ));
    tls.write_all(asked.as_bytes()).await.unwrap();
    let head = within(read_head(&mut tls)).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[tokio::test]
async fn an_upgrade_passes_the_same_gates_as_a_request() {
    let (world, target) = agreeing(echo).await;
    let asked = request(WEBSOCKET, "/exec", &target.authority());
    let old = format!("old-{TOKEN}");
    for (token, inside, expected) in [
        (TOKEN, "fake-token", "101"),
        (STRANGER, "fake-token", "403"),
        (&*old, "fake-token", "401"),
        (&*old, TOKEN, "101"),
    ] {
        let stream = world.opened("target", &target.authority(), token).await;
        let mut tls = world.tls(stream, "localhost", H1).await.unwrap();
        let sent = asked.replace("fake-token", inside);
        tls.write_all(sent.as_bytes()).await.unwrap();
        let head = within(read_head(&mut tls)).await;
        assert_eq!(head.split(' ').nth(1), Some(expected), "{token} {inside}: {head}");
    }
    assert_eq!(target.seen.heads().len(), 2);
    assert!(!target.seen.heads().concat().contains(TOKEN));
}
