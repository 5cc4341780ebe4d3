//! Upgrades at their edges: fast answers, early bytes, half-closes, readers that stop, refusals, deaths; and that they take the path of all
//! requests.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{self as client, H1, H2Client};
use crate::target::{Seen, Target, Tls, field, read_body, read_head};
use crate::upgrade_load::{self as load, SPDY, WEBSOCKET, agreement, request};
use crate::world::{SECRET, STRANGER, TOKEN, World, connector, eventually};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_upgrade_is_lost_when_the_target_answers_at_once() {
    let world = Arc::new(World::new().await);
    let target = load::target(&world).await;
    world.connect("target", &target.url());
    for protocol in [WEBSOCKET, SPDY] {
        let outcome = load::run(&world, &target, protocol, 300, 16).await;
        assert!(outcome.failed.is_empty() && outcome.done == 300, "{outcome:#?}");
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
async fn an_upgrade_carries_the_connectors_credential_and_no_identity_of_the_client() {
    for protocol in [WEBSOCKET, SPDY] {
        let (world, target) = agreeing(echo).await;
        let mut tls = world.tunnel("target", &target.authority(), H1).await;
        let plain = request(protocol, "/api/v1/namespaces/a/pods/b/exec?command=sh", &target.authority());
        let sent = plain.replace("Connection: Upgrade", "Connection: Upgrade, X-Nominated\r\nX-Nominated: 1\r\nImpersonate-User: admin\r\nX-Remote-Group: system:masters\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\nKeep-Alive: 5");
        let sent = sent.replace(": v5.channel", ": base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel");
        tls.write_all(sent.as_bytes()).await.unwrap();
        assert!(within(read_head(&mut tls)).await.starts_with("HTTP/1.1 101 "));
        let seen = target.seen.heads().concat();
        assert_eq!(field(&seen, "authorization"), Some(format!("Bearer {SECRET}").as_str()), "{seen}");
        assert_eq!((field(&seen, "connection"), field(&seen, "upgrade")), (Some("Upgrade"), Some(protocol)), "{seen}");
        assert_eq!(field(&seen, "host"), Some(target.authority().as_str()));
        for gone in
            ["impersonate", "x-remote", "proxy-", "fake-token", "bearer.authorization", "x-nominated", "keep-alive", "te:"]
        {
            assert!(
                !seen.to_lowercase().lines().any(|line| line.starts_with(gone) || gone.len() > 9 && line.contains(gone)),
                "{gone}: {seen}"
            );
        }
        let kept = if protocol == WEBSOCKET { "sec-websocket-protocol" } else { "x-stream-protocol-version" };
        assert!(field(&seen, kept).is_some_and(|value| value.ends_with(".channel.k8s.io")), "{seen}");
    }
}

#[tokio::test]
async fn more_than_the_gateway_holds_may_be_sent_ahead_of_the_answer() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        let head = read_head(&mut tls).await;
        // Later than the client's bytes.
        while seen.bytes.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tls.write_all(agreement(&head).as_bytes()).await.unwrap();
        let mut all = Vec::new();
        tls.read_to_end(&mut all).await.unwrap();
        tls.write_all(&all).await.unwrap();
        let _ = tls.shutdown().await;
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    let early: Vec<u8> = (0..150_000u32).map(|i| (i % 253) as u8).collect();
    tls.write_all(request(SPDY, "/attach", &target.authority()).as_bytes()).await.unwrap();
    tls.write_all(&early).await.unwrap();
    // Even its end may come before the answer.
    tls.shutdown().await.unwrap();
    target.seen.bytes.store(1, Ordering::SeqCst);
    assert!(within(read_head(&mut tls)).await.starts_with("HTTP/1.1 101 "));
    let mut got = Vec::new();
    within(tls.read_to_end(&mut got)).await.unwrap();
    assert!(got == early, "{} bytes", got.len());
}

#[tokio::test]
async fn half_closes_pass_in_both_directions() {
    let (world, target) = agreeing(|mut tls, _| async move {
        // The client ends first, then hears the rest.
        let mut all = Vec::new();
        tls.read_to_end(&mut all).await.unwrap();
        all.reverse();
        tls.write_all(&all).await.unwrap();
        let _ = tls.shutdown().await;
    })
    .await;
    let mut tls = upgraded(&world, &target, SPDY).await;
    tls.write_all(b"stdin").await.unwrap();
    tls.shutdown().await.unwrap();
    let mut got = String::new();
    within(tls.read_to_string(&mut got)).await.unwrap();
    assert_eq!(got, "nidts");

    let (world, target) = agreeing(|mut tls, seen| async move {
        tls.write_all(b"output").await.unwrap();
        tls.shutdown().await.unwrap();
        let mut all = Vec::new();
        tls.read_to_end(&mut all).await.unwrap();
        seen.bytes.store(all.len(), Ordering::SeqCst);
    })
    .await;
    let mut tls = upgraded(&world, &target, WEBSOCKET).await;
    let mut got = String::new();
    within(tls.read_to_string(&mut got)).await.unwrap();
    assert_eq!(got, "output");
    tls.write_all(&[7; 1000]).await.unwrap();
    tls.shutdown().await.unwrap();
    eventually("what was sent after the target's end arrives", || target.seen.bytes.load(Ordering::SeqCst) == 1000).await;
}

#[tokio::test]
async fn a_lot_flows_both_ways_at_once() {
    let (world, target) = agreeing(echo).await;
    let tls = upgraded(&world, &target, WEBSOCKET).await;
    let (mut read, mut write) = tokio::io::split(tls);
    let sent: Vec<u8> = (0..8_000_000u32).map(|i| (i % 253) as u8).collect();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    within(read.read_to_end(&mut got)).await.unwrap();
    writer.await.unwrap();
    assert!(got == sent, "{} bytes came back", got.len());
}

/// The most that was seen, once nothing has moved for half a second.
async fn settled(moved: impl Fn() -> usize) -> usize {
    let (mut last, mut since) = (moved(), Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if moved() != last {
            (last, since) = (moved(), Instant::now());
        }
        // What the kernel's socket buffers take, not the gateway.
        assert!(last < 64 << 20, "{last} bytes were taken for a reader that reads none");
    }
    last
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer_in_either_direction() {
    let (world, target) = agreeing(|mut tls, seen| async move {
        while tls.write_all(&[0; 65536]).await.is_ok() {
            seen.bytes.fetch_add(65536, Ordering::SeqCst);
        }
    })
    .await;
    let tls = upgraded(&world, &target, SPDY).await;
    assert!(settled(|| target.seen.bytes.load(Ordering::SeqCst)).await > 0);
    drop(tls);

    let (world, target) = agreeing(|tls, _| async move {
        let _held = tls;
        std::future::pending::<()>().await;
    })
    .await;
    let mut tls = upgraded(&world, &target, SPDY).await;
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = sent.clone();
    let writer = tokio::spawn(async move {
        while tls.write_all(&[0; 65536]).await.is_ok() {
            counted.fetch_add(65536, Ordering::SeqCst);
        }
    });
    assert!(settled(|| sent.load(Ordering::SeqCst)).await > 0);
    writer.abort();
}

#[tokio::test]
async fn a_refused_upgrade_arrives_as_the_target_said_it() {
    for (status, body) in [
        ("403 Forbidden", "{\"kind\":\"Status\",\"code\":403}"),
        ("404 Not Found", "no pod"),
        ("400 Bad Request", "unable to upgrade"),
        ("200 OK", "plain"),
    ] {
        let world = World::new().await;
        let target = Target::script(&world.leaf(), &[], H1, move |mut tls, seen| async move {
            let head = read_head(&mut tls).await;
            seen.heads.lock().unwrap().push(head);
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Kept: 1\r\n\r\n{body}", body.len());
            tls.write_all(answer.as_bytes()).await.unwrap();
            while matches!(tls.read(&mut [0; 64]).await, Ok(n) if n > 0) {}
        })
        .await;
        world.connect("target", &target.url());
        let mut tls = world.tunnel("target", &target.authority(), H1).await;
        // Sent ahead, in the other protocol; as a request it would be one more.
        let ahead = client::get("/smuggled", &target.authority());
        let sent = request(WEBSOCKET, "/exec", &target.authority()) + &ahead;
        tls.write_all(sent.as_bytes()).await.unwrap();
        let head = within(read_head(&mut tls)).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {}", &status[..3])) && field(&head, "x-kept") == Some("1"), "{head}");
        assert_eq!(field(&head, "connection"), Some("close"), "{head}");
        assert_eq!(within(read_body(&mut tls, &head)).await.unwrap(), body.as_bytes());
        assert_eq!(within(tls.read(&mut [0; 8])).await.unwrap_or(0), 0, "the connection goes on");
        assert_eq!(target.seen.heads().len(), 1, "{:?}", target.seen.heads());
        let mut tls = world.tunnel("target", &target.authority(), H1).await;
        let (next, _) = within(client::exchange(&mut tls, &client::get("/", &target.authority()))).await;
        assert!(next.starts_with(&format!("HTTP/1.1 {}", &status[..3])), "{next}");
        assert_eq!(target.seen.connections(), 2, "a refused upgrade's connection is used again");
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
async fn a_target_that_dies_before_it_agrees_is_a_502() {
    for answer in [
        "",
        "HTTP/1.1 101 Switch",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let world = World::new().await;
        let target = Target::script(&world.leaf(), &[], H1, move |mut tls, _| async move {
            read_head(&mut tls).await;
            let _ = tls.write_all(answer.as_bytes()).await;
            let _ = tls.shutdown().await;
        })
        .await;
        world.connect("target", &target.url());
        let mut tls = world.tunnel("target", &target.authority(), H1).await;
        let (head, body) = within(client::exchange(&mut tls, &request(WEBSOCKET, "/exec", &target.authority()))).await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{answer:?}: {head}");
        assert!(String::from_utf8(body).unwrap().contains(r#""kind":"Status""#));
        assert_eq!(target.seen.connections(), 1, "an exec is not asked for twice");
    }
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_a_502() {
    let (world, target) = agreeing(echo).await;
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    let (head, _) = within(client::exchange(&mut tls, &client::get("/", &target.authority()))).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[tokio::test]
async fn a_stream_ends_when_either_end_dies() {
    let (world, target) = agreeing(|mut tls, _| async move {
        tls.write_all(b"last words").await.unwrap();
        // Gone without the farewell of TLS.
    })
    .await;
    let mut tls = upgraded(&world, &target, SPDY).await;
    let mut got = Vec::new();
    let _ = within(tls.read_to_end(&mut got)).await;
    assert_eq!(got, b"last words");

    let (world, target) = agreeing(|mut tls, seen| async move {
        while matches!(tls.read(&mut [0; 64]).await, Ok(n) if n > 0) {}
        seen.bytes.store(1, Ordering::SeqCst);
    })
    .await;
    drop(upgraded(&world, &target, SPDY).await);
    eventually("the target is told", || target.seen.bytes.load(Ordering::SeqCst) == 1).await;
    let open = || world.gateway.parts.metrics.streams_open.get();
    eventually("the stream is closed", || open() == 0).await;
}

#[tokio::test]
async fn silence_and_a_drain_end_no_stream() {
    let world = World::with(|settings| {
        settings.timeouts.head = Duration::from_millis(100);
        settings.timeouts.handshake = Duration::from_millis(500);
        settings.timeouts.response_header = Duration::from_millis(100);
        settings.upstream.idle = Duration::from_millis(100);
    })
    .await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        let head = read_head(&mut tls).await;
        tls.write_all(agreement(&head).as_bytes()).await.unwrap();
        echo(tls, seen).await;
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = upgraded(&world, &target, WEBSOCKET).await;
    let open = || world.gateway.parts.metrics.streams_open.get();
    assert_eq!(open(), 1, "the drain waits for it");
    world.drain();
    tokio::time::sleep(Duration::from_millis(800)).await;
    tls.write_all(b"still here").await.unwrap();
    let mut got = [0; 10];
    within(tls.read_exact(&mut got)).await.unwrap();
    assert_eq!((&got, open()), (b"still here", 1));
    tls.shutdown().await.unwrap();
    eventually("the stream is closed", || open() == 0).await;
}

#[tokio::test]
async fn an_upgrade_that_is_never_answered_is_a_504() {
    let world = World::with(|settings| settings.timeouts.response_header = Duration::from_millis(200)).await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        read_head(&mut tls).await;
        std::future::pending::<()>().await;
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    let (head, _) = within(client::exchange(&mut tls, &request(SPDY, "/exec", &target.authority()))).await;
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
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
    // The tunnel's lease knows the old Secret.
    assert!(within(client::exchange(&mut tls, &client::get("/", &target.authority()))).await.0.starts_with("HTTP/1.1 401 "));
    world.apply(&connector("second", &target.url(), "caCertSecretRef: {name: second-ca}", "rotated", &world.target_ca.pem()));
    tls.write_all(asked.as_bytes()).await.unwrap();
    let head = within(read_head(&mut tls)).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[tokio::test]
async fn an_upgrade_passes_the_same_gates_as_a_request() {
    let (world, target) = agreeing(echo).await;
    let asked = request(WEBSOCKET, "/exec", &target.authority());
    let old = format!("old-{TOKEN}");
    for (token, inside, expected) in
        [(TOKEN, "fake-token", "101"), (STRANGER, "fake-token", "403"), (&*old, "fake-token", "401"), (&*old, TOKEN, "101")]
    {
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

#[tokio::test]
async fn a_wish_for_http2_is_overlooked_and_other_tricks_are_refused() {
    let (world, target) = World::with_target(false).await;
    let authority = target.authority();
    let cases = [
        ("h2c", "GET", "1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", "", "200"),
        ("h2c with a body", "POST", "1.1", "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n", "hi", "200"),
        ("an Upgrade that Connection does not name", "GET", "1.1", "Upgrade: websocket\r\n", "", "200"),
        ("a Connection without Upgrade", "GET", "1.1", "Connection: Upgrade\r\n", "", "200"),
        ("HTTP/1.0", "GET", "1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "", "200"),
        ("an unknown protocol", "GET", "1.1", "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n", "", "501"),
        ("another SPDY", "POST", "1.1", "Connection: Upgrade\r\nUpgrade: SPDY/3\r\n", "", "501"),
        ("a choice of two", "GET", "1.1", "Connection: Upgrade\r\nUpgrade: websocket, SPDY/3.1\r\n", "", "501"),
        ("two lines", "GET", "1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: TLS/1.3\r\n", "", "501"),
        ("a body", "POST", "1.1", "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 2\r\n", "hi", "400"),
        (
            "chunks",
            "POST",
            "1.1",
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
            "400",
        ),
    ];
    let mut passed = 0;
    for (name, method, version, fields, body, expected) in cases {
        let mut tls = world.tunnel("target", &authority, H1).await;
        let sent = format!("{method} /head HTTP/{version}\r\nHost: {authority}\r\n{fields}\r\n{body}");
        let (head, answer) = within(client::exchange(&mut tls, &sent)).await;
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(head.split(' ').nth(1), Some(expected), "{name}: {head}");
        if expected == "200" {
            passed += 1;
            assert!(field(&answer, "upgrade").is_none() && field(&answer, "connection").is_none(), "{name}: {answer}");
            assert!(field(&answer, "http2-settings").is_none(), "{name}: {answer}");
        } else {
            assert!(answer.contains(r#""kind":"Status""#), "{name}: {answer}");
        }
    }
    assert_eq!(target.seen.heads().len(), passed);
}

#[tokio::test]
async fn http2_carries_no_upgrade() {
    let (world, target) = World::with_target(true).await;
    for websocket in [true, false] {
        let mut h2 = H2Client::open(&world, "target", &target.authority()).await;
        let mut asked =
            Request::builder().method(if websocket { "CONNECT" } else { "GET" }).uri(format!("{}/exec", target.url()));
        if websocket {
            // RFC 8441.
            asked = asked.extension(h2::ext::Protocol::from_static("websocket"));
        }
        let answer = h2.send(asked.header("sec-websocket-version", "13").body(()).unwrap(), None).await;
        match websocket {
            true => assert!(!matches!(&answer, Ok((status, _, _)) if status.is_success()), "{answer:?}"),
            false => assert_eq!(answer.unwrap().0, 200),
        }
    }
    assert_eq!(target.seen.heads().len(), 1);
}
