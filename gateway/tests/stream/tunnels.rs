//! Tunnels that work: both protocols on either leg, kept alive, with the credential in and the client's own
//! fields out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use connectors_testenv::eventually;
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::http::{self as client, H1, H2, H2Client, collect};
use crate::target::{Target, field, read_head};
use crate::world::{SECRET, STRANGER, TOKEN, World, connect_head, connector};

#[tokio::test]
async fn requests_of_a_tunnel_share_a_connection_and_carry_the_connectors_credential() {
    let (world, target) = World::with_target(false).await;
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    for _ in 0..3 {
        let (head, body) = client::exchange(&mut tls, &client::get("/head", &target.authority())).await;
        let seen = String::from_utf8(body).unwrap();
        assert_eq!(field(&seen, "authorization"), Some(format!("Bearer {SECRET}").as_str()), "{seen}");
        assert_eq!(field(&seen, "host"), Some(target.authority().as_str()));
        assert_eq!(field(&head, "x-kept"), Some("1"));
        assert_eq!(field(&head, "x-hop"), None, "a field that the target's Connection nominates: {head}");
    }
    assert_eq!(target.seen.connections(), 1);
    assert!(!target.seen.heads().concat().contains("fake-token"));
}

#[tokio::test]
async fn curl_gets_through_in_either_protocol() {
    for (h2, version) in [(false, "--http1.1"), (true, "--http1.1"), (false, "--http2"), (true, "--http2")] {
        let (world, target) = World::with_target(h2).await;
        let url = format!("{}/head", target.url());
        let seen =
            String::from_utf8(world.curl(&[version, "-H", "X-Remote-User: admin", &url]).await).unwrap();
        assert_eq!(
            field(&seen, "authorization"),
            Some(format!("Bearer {SECRET}").as_str()),
            "{version} {h2}: {seen}"
        );
        assert!(!seen.to_lowercase().contains("x-remote") && !seen.contains(TOKEN), "{seen}");
    }
}

#[tokio::test]
async fn a_target_learns_where_a_request_came_from_only_if_the_operator_says_so() {
    for forwarded in [false, true] {
        let world = World::with(|settings| settings.upstream.forwarded = forwarded).await;
        let target = Target::http(&world.leaf(), false).await;
        world.connect("target", &target.url());
        let url = format!("{}/head", target.url());
        let seen = String::from_utf8(
            world.curl(&["-H", "X-Forwarded-For: 10.0.0.1", "-H", "Forwarded: for=10.0.0.1", &url]).await,
        )
        .unwrap();
        let told = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"]
            .map(|name| field(&seen, name));
        let authority = target.authority();
        let expected = [Some("127.0.0.1"), Some("https"), Some(authority.as_str()), None];
        assert_eq!(told, if forwarded { expected } else { [None; 4] }, "{seen}");
    }
}

#[tokio::test]
async fn bodies_survive_every_combination_of_protocols() {
    let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i % 253) as u8).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &sent).unwrap();
    let upload = format!("@{}", file.path().display());
    for h2 in [false, true] {
        let (world, target) = World::with_target(h2).await;
        let url = format!("{}/echo", target.url());
        for version in ["--http1.1", "--http2"] {
            // With a body of this size curl asks for 100 Continue first.
            let fixed = world.curl(&[version, "-X", "POST", "--data-binary", &upload, &url]).await;
            assert!(fixed == sent, "{version}, target h2 {h2}: {} bytes came back", fixed.len());
            let chunked = world
                .curl(&[
                    version,
                    "-X",
                    "POST",
                    "-H",
                    "Transfer-Encoding: chunked",
                    "--data-binary",
                    &upload,
                    &url,
                ])
                .await;
            assert!(chunked == sent, "{version} chunked, target h2 {h2}: {} bytes came back", chunked.len());
        }
    }
}

#[tokio::test]
async fn h2_streams_run_side_by_side_over_one_upstream_connection() {
    let (world, target) = World::with_target(true).await;
    let client = H2Client::open(&world, "target", &target.authority()).await;
    let url = |path: &str| format!("{}{path}", target.url());
    client.request_all((0..20).map(|i| url(&format!("/bytes/{}", i * 1000))).collect()).await;
    assert_eq!(target.seen.heads().len(), 20);
    assert!(target.seen.connections() <= 2, "{} connections", target.seen.connections());
}

#[tokio::test]
async fn trailers_pass_from_an_h2_target_to_both_kinds_of_client() {
    let (world, target) = World::with_target(true).await;
    let mut h2 = H2Client::open(&world, "target", &target.authority()).await;
    let request = Request::get(format!("{}/bytes/10", target.url())).body(()).unwrap();
    let (_, _, body) = h2.send(request, None).await.unwrap();
    assert_eq!(collect(body).await.unwrap().1.unwrap()["x-sum"], "7");
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    tls.write_all(client::get("/bytes/10", &target.authority()).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"0\r\nx-sum: 7\r\n\r\n") {
        answer.push(tokio::time::timeout(Duration::from_secs(5), tls.read_u8()).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn an_h2_answer_that_ends_with_its_head_has_an_end_for_an_h1_client_too() {
    let (world, target) = World::with_target(true).await;
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    for (method, status, length) in [
        ("DELETE", "200", Some("0")),
        ("GET", "404", Some("0")),
        ("HEAD", "200", None),
        ("GET", "204", None),
        ("GET", "304", None),
    ] {
        let request = format!("{method} /empty/{status} HTTP/1.1\r\nHost: {}\r\n\r\n", target.authority());
        tls.write_all(request.as_bytes()).await.unwrap();
        let head =
            tokio::time::timeout(Duration::from_secs(5), read_head(&mut tls)).await.expect("no answer");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(
            (field(&head, "content-length"), field(&head, "transfer-encoding")),
            (length, None),
            "{method} {status}"
        );
    }
}

#[tokio::test]
async fn an_h2_request_for_another_host_is_misdirected() {
    let (world, target) = World::with_target(true).await;
    let mut h2 = H2Client::open(&world, "target", &target.authority()).await;
    let (status, _, body) =
        h2.send(Request::get("https://other.example/").body(()).unwrap(), None).await.unwrap();
    assert_eq!(status, 421);
    assert!(String::from_utf8(collect(body).await.unwrap().0).unwrap().contains("Status"));
    assert!(target.seen.heads().is_empty());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (world, target) = World::with_target(false).await;
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    let both = format!(
        "{}{}",
        client::get("/bytes/3", &target.authority()),
        client::get("/bytes/5", &target.authority())
    );
    tls.write_all(both.as_bytes()).await.unwrap();
    for length in ["3", "5"] {
        let head = read_head(&mut tls).await;
        assert_eq!(field(&head, "content-length"), Some(length), "{head}");
        tls.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
    }
}

#[tokio::test]
async fn the_first_flight_of_tls_may_come_with_the_connect() {
    let (world, target) = World::with_target(false).await;
    let stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    let head = connect_head("target", &target.authority(), TOKEN).into_bytes();
    let eager = Eager { stream, head, answer: Vec::new() };
    let mut tls = SslStream::new(world.client_ssl("localhost", H1), eager).unwrap();
    Pin::new(&mut tls).connect().await.unwrap();
    tls.write_all(client::get("/bytes/4", &target.authority()).as_bytes()).await.unwrap();
    let answer = read_head(&mut tls).await;
    assert_eq!(field(&answer, "content-length"), Some("4"), "{answer}");
}

#[tokio::test]
async fn a_tunnel_by_ip_address_needs_no_server_name() {
    let (world, target) = World::with_target(false).await;
    let authority = format!("127.0.0.1:{}", target.port);
    world.connect("second", &format!("https://{authority}"));
    let mut tls = world.tunnel("second", &authority, H1).await;
    let (head, _) = client::exchange(&mut tls, &client::get("/", &authority)).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn a_rotated_secret_is_used_at_once_and_never_over_an_old_connection() {
    let (world, target) = World::with_target(false).await;
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    client::exchange(&mut tls, &client::get("/", &target.authority())).await;
    world.apply(&connector(
        "target",
        &target.url(),
        "caCertSecretRef: {name: target-ca}",
        "rotated",
        &world.target_ca.pem(),
    ));
    client::exchange(&mut tls, &client::get("/", &target.authority())).await;
    let tokens: Vec<String> =
        target.seen.heads().iter().map(|head| field(head, "authorization").unwrap().to_owned()).collect();
    assert_eq!(tokens, [format!("Bearer {SECRET}"), "Bearer rotated".to_owned()]);
    assert_eq!(target.seen.connections(), 2);
}

#[tokio::test]
async fn an_idle_tunnel_holds_no_old_routing_table() {
    let (world, target) = World::with_target(false).await;
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    client::exchange(&mut tls, &client::get("/", &target.authority())).await;
    let old = Arc::downgrade(&world.gateway.parts.table.load_full());
    world.connect("second", "https://localhost:1");
    eventually("the old table is gone", async || old.upgrade().is_none()).await;
    let (head, _) = client::exchange(&mut tls, &client::get("/", &target.authority())).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn an_expired_login_opens_a_tunnel_whose_requests_must_bring_a_token_of_the_same_pod() {
    let (world, target) = World::with_target(false).await;
    let authority = target.authority();
    let stream = world.opened("target", &authority, &format!("old-{TOKEN}")).await;
    let mut tls = world.tls(stream, "localhost", H1).await.unwrap();
    let bearer =
        |token: &str| format!("GET / HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\n\r\n");
    for (token, expected) in
        [("fake-token", "401"), (STRANGER, "401"), (TOKEN, "200"), ("old-token-of-demo", "401")]
    {
        let (head, body) = client::exchange(&mut tls, &bearer(token)).await;
        assert_eq!(head.split(' ').nth(1), Some(expected), "{token}: {head}");
        assert_eq!(
            String::from_utf8_lossy(&body).contains(r#""kind":"Status""#),
            expected == "401",
            "{token}"
        );
    }
    assert_eq!(target.seen.heads().len(), 1);
    assert!(!target.seen.heads().concat().contains(TOKEN), "the client's token reached the target");
}

impl H2Client {
    /// All at once; each must come back whole.
    async fn request_all(self, urls: Vec<String>) {
        let mut client = self;
        let mut bodies = Vec::new();
        for url in &urls {
            let (status, _, body) = client.send(Request::get(url).body(()).unwrap(), None).await.unwrap();
            assert_eq!(status, 200);
            bodies.push(body);
        }
        for (url, body) in urls.iter().zip(bodies) {
            let expected: usize = url.rsplit('/').next().unwrap().parse().unwrap();
            assert_eq!(collect(body).await.unwrap().0.len(), expected);
        }
    }
}

#[tokio::test]
async fn an_h2_upload_goes_to_an_h1_target_in_chunks() {
    let (world, target) = World::with_target(false).await;
    let mut h2 = H2Client::open(&world, "target", &target.authority()).await;
    let sent = Bytes::from(vec![7; 500_000]);
    let request = Request::post(format!("{}/echo", target.url())).body(()).unwrap();
    let (status, _, body) = h2.send(request, Some(sent.clone())).await.unwrap();
    assert_eq!(status, 200);
    assert!(collect(body).await.unwrap().0 == sent);
    assert_eq!(field(&target.seen.heads()[0], "transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn both_protocols_are_offered_and_h2_is_preferred() {
    let (world, target) = World::with_target(true).await;
    for (offered, chosen) in [(&b"\x08http/1.1\x02h2"[..], &b"h2"[..]), (H1, b"http/1.1"), (H2, b"h2")] {
        let tls = world.tunnel("target", &target.authority(), offered).await;
        assert_eq!(tls.ssl().selected_alpn_protocol(), Some(chosen));
        assert!(matches!(tls.ssl().version_str(), "TLSv1.3" | "TLSv1.2"));
    }
}

/// Sends the CONNECT in one packet with the client's first TLS bytes, and takes the 200 off the answer.
#[derive(Debug)]
struct Eager {
    stream: TcpStream,
    head: Vec<u8>,
    answer: Vec<u8>,
}

impl AsyncWrite for Eager {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        }
        let both = [&self.head, buf].concat();
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &both))?;
        assert_eq!(written, both.len(), "a first packet that does not fit");
        self.head.clear();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Eager {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0; 1];
            let mut one = ReadBuf::new(&mut byte);
            std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut one))?;
            assert!(!one.filled().is_empty(), "closed before the 200");
            self.answer.push(byte[0]);
            assert!(self.answer.len() < 200, "no 200: {:?}", String::from_utf8_lossy(&self.answer));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}
