//! Upgrades that come to none: refused by the target or by us, never agreed to, or asked for in ways that are
//! none.

use std::time::Duration;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{agreeing, echo, within};
use crate::http::{self as client, H1, H2Client};
use crate::target::{Target, field, read_body, read_head};
use crate::upgrade_load::{SPDY, WEBSOCKET, request};
use crate::world::World;

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
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Kept: 1\r\n\r\n{body}", body.len());
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
        assert!(
            head.starts_with(&format!("HTTP/1.1 {}", &status[..3])) && field(&head, "x-kept") == Some("1"),
            "{head}"
        );
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
        let (head, body) =
            within(client::exchange(&mut tls, &request(WEBSOCKET, "/exec", &target.authority()))).await;
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
async fn a_wish_for_http2_is_overlooked_and_other_tricks_are_refused() {
    let (world, target) = World::with_target(false).await;
    let authority = target.authority();
    let cases = [
        (
            "h2c",
            "GET",
            "1.1",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            "",
            "200",
        ),
        (
            "h2c with a body",
            "POST",
            "1.1",
            "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n",
            "hi",
            "200",
        ),
        ("an Upgrade that Connection does not name", "GET", "1.1", "Upgrade: websocket\r\n", "", "200"),
        ("a Connection without Upgrade", "GET", "1.1", "Connection: Upgrade\r\n", "", "200"),
        ("HTTP/1.0", "GET", "1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "", "200"),
        ("an unknown protocol", "GET", "1.1", "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n", "", "501"),
        ("another SPDY", "POST", "1.1", "Connection: Upgrade\r\nUpgrade: SPDY/3\r\n", "", "501"),
        (
            "a choice of two",
            "GET",
            "1.1",
            "Connection: Upgrade\r\nUpgrade: websocket, SPDY/3.1\r\n",
            "",
            "501",
        ),
        (
            "two lines",
            "GET",
            "1.1",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: TLS/1.3\r\n",
            "",
            "501",
        ),
        (
            "a body",
            "POST",
            "1.1",
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 2\r\n",
            "hi",
            "400",
        ),
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
            assert!(
                field(&answer, "upgrade").is_none() && field(&answer, "connection").is_none(),
                "{name}: {answer}"
            );
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
        let mut asked = Request::builder()
            .method(if websocket { "CONNECT" } else { "GET" })
            .uri(format!("{}/exec", target.url()));
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
