//! What the https port speaks, and by which names.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{HOST, bearer};
use crate::http::{H1, H2};
use crate::target::{field, read_head};
use crate::world::{SECRET, TOKEN, World};

#[tokio::test]
async fn the_https_port_speaks_http2_to_those_who_ask_for_it() {
    let (world, _target) = World::with_target(true).await;
    for (version, expected) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let arguments =
            [version, "-H", &bearer(TOKEN), "--output", "/dev/null", "--write-out", "%{http_version}"];
        let (_, spoken) = world.direct("https://c-target.demo.svc/head", &arguments).await;
        assert_eq!(spoken, expected);
    }
}

#[tokio::test]
async fn the_https_port_has_certificates_for_its_own_names_only() {
    let (world, _target) = World::with_target(false).await;
    world.connect("second", "https://localhost:1");
    for name in [HOST, "c-second.demo.svc.cluster.local", "connectors-gateway.connectors-system.svc"] {
        let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
        world.tls(stream, name, H1).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in ["localhost", "c-other.demo.svc", "c-target.demo.svc.example", "kubernetes.default.svc"] {
        let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
        assert!(world.tls(stream, name, H1).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn a_host_other_than_the_handshakes_belongs_on_another_connection() {
    let (world, target) = World::with_target(false).await;
    world.connect("second", &target.url());
    let login = bearer(TOKEN);
    let (status, text) =
        world.direct(&format!("https://{HOST}/head"), &["-H", &login, "-H", "Host: c-second.demo.svc"]).await;
    assert_eq!(status, 421, "{text}");
    assert_eq!(target.seen.connections(), 0);
}

/// Go writes an HTTP/1.1 CONNECT to an https proxy after it has negotiated h2 with it.
#[tokio::test]
async fn a_connect_on_the_https_port_opens_a_tunnel_whatever_alpn_said() {
    let (world, target) = World::with_target(false).await;
    for alpn in [H1, H2] {
        let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
        let mut tls = world.tls(stream, HOST, alpn).await.unwrap();
        tls.write_all(crate::world::connect_head("target", &target.authority(), TOKEN).as_bytes())
            .await
            .unwrap();
        let head = read_head(&mut tls).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
    let proxy = format!("https://demo%2Ftarget:{TOKEN}@{HOST}:{}", world.https);
    let here = format!("{HOST}:{}:127.0.0.1", world.https);
    let url = format!("{}/head", target.url());
    let seen = String::from_utf8(world.curl_by(&proxy, &["--resolve", &here, &url]).await).unwrap();
    assert_eq!(field(&seen, "authorization"), Some(format!("Bearer {SECRET}").as_str()), "{seen}");
}
