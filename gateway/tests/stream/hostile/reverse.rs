//! Requests without a tunnel, on both ports: who they say they are, and which connector they say they mean.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Expect::{Kept, Refused, Seen};
use super::witness::Witness;
use super::{Row, SMUGGLED, Stage, replace};
use crate::http::H1;
use crate::records::Log;
use crate::world::{STRANGER, TOKEN, World};

const HOST: &str = "c-target.demo.svc";

/// A request to the connector's host with the token; `{token}`, `{stranger}` and `{target}` stand for what
/// they say.
macro_rules! request {
    ($line:literal) => {
        request!($line, "", "")
    };
    ($line:literal, $fields:literal) => {
        request!($line, $fields, "")
    };
    ($line:literal, $fields:literal, $rest:literal) => {
        concat!(
            $line,
            " HTTP/1.1\r\nHost: c-target.demo.svc\r\nAuthorization: Bearer {token}\r\n",
            $fields,
            "\r\n",
            $rest
        )
        .as_bytes()
    };
}

/// A request without fields of its own.
macro_rules! bare {
    ($line:literal, $fields:literal) => {
        concat!($line, " HTTP/1.1\r\n", $fields, "\r\n").as_bytes()
    };
}

#[rustfmt::skip] // One line each.
const BOTH: [Row; 37] = [
    ("a plain request", request!("GET /a"), Seen(&["GET /a\n\n"])),
    ("no token", bare!("GET /a", "Host: c-target.demo.svc\r\n"), Kept(401)),
    ("another's token", bare!("GET /a", "Host: c-target.demo.svc\r\nAuthorization: Bearer {stranger}\r\n"), Kept(403)),
    ("an expired token", bare!("GET /a", "Host: c-target.demo.svc\r\nAuthorization: Bearer old-{token}\r\n"), Kept(401)),
    ("two tokens in two fields", request!("GET /a", "Authorization: Bearer {token}\r\n"), Kept(400)),
    ("two tokens in one field", bare!("GET /a", "Host: c-target.demo.svc\r\nAuthorization: Bearer {token}, Bearer {stranger}\r\n"), Kept(401)),
    ("a token with text behind it", bare!("GET /a", "Host: c-target.demo.svc\r\nAuthorization: Bearer {token} x\r\n"), Kept(401)),
    ("a token on a folded line", bare!("GET /a", "Host: c-target.demo.svc\r\nAuthorization: Bearer\r\n {token}\r\n"), Refused(400)),
    ("a token by an underscore", bare!("GET /a", "Host: c-target.demo.svc\r\nProxy_Authorization: Bearer {token}\r\n"), Kept(401)),
    ("a token in Proxy-Authorization", bare!("GET /a", "Host: c-target.demo.svc\r\nProxy-Authorization: Bearer {token}\r\n"), Kept(401)),
    ("another's login in Proxy-Authorization", request!("GET /a", "Proxy-Authorization: Basic eDp5\r\n"), Seen(&["GET /a\n\n"])),
    ("Connection nominates the token", request!("GET /a", "Connection: Authorization\r\n"), Seen(&["GET /a\n\n"])),
    ("a token in a trailer", bare!("POST /a", "Host: c-target.demo.svc\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: Bearer {token}\r\n"), Kept(401)),
    ("identities", request!("GET /a", "X-Remote-User: admin\r\nX_Remote_Group: system:masters\r\n"), Seen(&["GET /a\n\n"])),
    ("acting as somebody else", request!("GET /a", "Impersonate-User: admin\r\n"), Kept(403)),
    ("length and chunks", request!("POST /a", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused(400)),
    ("two lengths", request!("POST /a", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), Refused(400)),
    ("another coding", request!("POST /a", "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), Refused(400)),
    ("a chunk longer than its size", request!("POST /a", "Transfer-Encoding: chunked\r\n", "2\r\nhello\r\n0\r\n\r\n"), Refused(400)),
    ("a bare line feed", request!("GET /a", "X-A: 1\nX-B: 1\r\n"), Refused(400)),
    ("a NUL in a name", request!("GET /a", "X\0: 1\r\n"), Refused(400)),
    ("an upgrade to h2c", request!("GET /a", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"), Seen(&["GET /a\n\n"])),
    ("a TRACE", request!("TRACE /a"), Kept(501)),
    ("a star", request!("OPTIONS *"), Refused(400)),
    ("a CONNECT with a token in Authorization", bare!("CONNECT {target}", "Host: {target}\r\nAuthorization: Bearer {token}\r\n"), Refused(407)),
    ("a CONNECT behind a request", request!("GET /a", "", "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic eDp5\r\n\r\n"), Seen(&["GET /a\n\n"])),
    ("no Host", bare!("GET /a", "Authorization: Bearer {token}\r\n"), Refused(400)),
    ("two Hosts", request!("GET /a", "Host: c-second.demo.svc\r\n"), Refused(400)),
    ("a Host in capitals, with dot and port", bare!("GET /a", "Host: C-TARGET.demo.svc.:99\r\nAuthorization: Bearer {token}\r\n"), Seen(&["GET /a\n\n"])),
    ("a Host with a user", bare!("GET /a", "Host: x@c-target.demo.svc\r\nAuthorization: Bearer {token}\r\n"), Kept(400)),
    ("a Host with a path", bare!("GET /a", "Host: c-target.demo.svc/x\r\nAuthorization: Bearer {token}\r\n"), Kept(400)),
    ("a Host of two", bare!("GET /a", "Host: c-target.demo.svc, c-second.demo.svc\r\nAuthorization: Bearer {token}\r\n"), Kept(400)),
    ("a Host that only begins so", bare!("GET /a", "Host: c-target.demo.svc.example\r\nAuthorization: Bearer {token}\r\n"), Kept(503)),
    ("the target for a Host", bare!("GET /a", "Host: {target}\r\nAuthorization: Bearer {token}\r\n"), Kept(503)),
    ("another host in X-Forwarded-Host", request!("GET /a", "X-Forwarded-Host: c-second.demo.svc\r\n"), Seen(&["GET /a\n\n"])),
    ("absolute-form for the connector's host", bare!("GET http://c-target.demo.svc/a", "Host: c-second.demo.svc\r\nAuthorization: Bearer {token}\r\n"), Seen(&["GET /a\n\n"])),
    ("absolute-form for the target, with a token in Authorization", bare!("GET http://{target}/a", "Host: c-target.demo.svc\r\nAuthorization: Bearer {token}\r\n"), Kept(407)),
];

#[rustfmt::skip] // One line each.
const PLAIN: [Row; 14] = [
    ("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused(400)),
    ("TLS", b"\x16\x03\x01\x00\x05hello\r\n\r\n", Refused(400)),
    ("an https URL without a tunnel", bare!("GET https://{target}/a", "Host: {target}\r\nAuthorization: Bearer {token}\r\n"), Kept(400)),
    ("a path that names the connector", bare!("GET /namespaces/demo/connectors/target/a?b=c", "Host: any\r\nAuthorization: Bearer {token}\r\n"), Seen(&["GET /a?b=c\n\n"])),
    ("a path that names it and ends", bare!("GET /namespaces/demo/connectors/target", "Host: any\r\nAuthorization: Bearer {token}\r\n"), Seen(&["GET /\n\n"])),
    ("a path that names it, and a query", bare!("GET /namespaces/demo/connectors/target?a=/../second", "Host: any\r\nAuthorization: Bearer {token}\r\n"), Seen(&["GET /?a=/../second\n\n"])),
    ("a path that names a longer one", bare!("GET /namespaces/demo/connectors/targets/a", "Host: any\r\nAuthorization: Bearer {token}\r\n"), Kept(403)),
    ("a path with two slashes first", bare!("GET //namespaces/demo/connectors/target/a", "Host: any\r\nAuthorization: Bearer {token}\r\n"), Kept(503)),
    ("a path with an escaped letter", bare!("GET /namespaces/demo/connectors/targe%74/a", "Host: any\r\nAuthorization: Bearer {token}\r\n"), Kept(503)),
    ("a path with an escaped slash", bare!("GET /namespaces/demo%2Fconnectors/target/a", "Host: any\r\nAuthorization: Bearer {token}\r\n"), Kept(503)),
    ("a path with dots in the namespace", bare!("GET /namespaces/../connectors/target/a", "Host: any\r\nAuthorization: Bearer {token}\r\n"), Kept(503)),
    ("a path with a parameter", bare!("GET /namespaces/demo/connectors/target;x/a", "Host: any\r\nAuthorization: Bearer {token}\r\n"), Kept(503)),
    ("a path that names it behind the connector's own host", request!("GET /namespaces/demo/connectors/second/a"), Seen(&["GET /namespaces/demo/connectors/second/a\n\n"])),
    ("absolute-form that names it by a path", bare!("GET http://connectors-gateway.connectors-system.svc/namespaces/demo/connectors/target/a", "Host: x\r\nAuthorization: Bearer {token}\r\n"), Seen(&["GET /a\n\n"])),
];

#[rustfmt::skip] // One line each.
const TLS: [Row; 4] = [
    ("another connector than the handshake's", bare!("GET /a", "Host: c-second.demo.svc\r\nAuthorization: Bearer {token}\r\n"), Kept(421)),
    ("another connector by its URL", bare!("GET http://c-second.demo.svc/a", "Host: c-target.demo.svc\r\nAuthorization: Bearer {token}\r\n"), Kept(421)),
    ("a path that names it, by another host", bare!("GET /namespaces/demo/connectors/target/a", "Host: any\r\nAuthorization: Bearer {token}\r\n"), Kept(421)),
    ("the target's https URL", bare!("GET https://{target}/a", "Host: {target}\r\nAuthorization: Bearer {token}\r\n"), Kept(503)),
];

async fn run(tls: bool, tables: &[&[Row]]) {
    for h2 in [false, true] {
        let log = Log::of_access();
        let world = World::of_one_worker().await;
        let witness = Witness::start(&world, h2).await;
        world.connect("target", &witness.target.url());
        world.connect("second", "https://localhost:1");
        let next =
            format!("GET /base/good HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        let stage = Stage { world: &world, witness: &witness, log, next };
        let mut failed = Vec::new();
        for (name, bytes, expect) in tables.iter().copied().flatten() {
            let judged = async {
                let bytes = placed(&witness, bytes, matches!(expect, Refused(_)));
                stage.row(name, open(&world, tls).await, &bytes, *expect).await;
                stage.good(name).await;
            };
            if AssertUnwindSafe(judged).catch_unwind().await.is_err() {
                failed.push(*name);
            }
        }
        assert_eq!(failed, Vec::<&str>::new());
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

async fn open(world: &World, tls: bool) -> Box<dyn Duplex> {
    if !tls {
        return Box::new(TcpStream::connect(("127.0.0.1", world.port)).await.unwrap());
    }
    let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
    Box::new(world.tls(stream, HOST, H1).await.unwrap())
}

fn placed(witness: &Witness, bytes: &[u8], refused: bool) -> Vec<u8> {
    let mut all = bytes.to_vec();
    if refused {
        all.extend_from_slice(&replace(
            SMUGGLED,
            b"{host}\r\n",
            b"c-target.demo.svc\r\nAuthorization: Bearer {token}\r\n",
        ));
    }
    let all = replace(&all, b"{token}", TOKEN.as_bytes());
    let all = replace(&all, b"{stranger}", STRANGER.as_bytes());
    replace(&all, b"{target}", witness.authority().as_bytes())
}

#[tokio::test]
async fn on_the_plain_port_a_request_is_who_it_proves_to_be_and_for_the_connector_that_it_names() {
    run(false, &[&BOTH, &PLAIN]).await;
}

#[tokio::test]
async fn on_the_tls_port_the_handshakes_name_counts_too() {
    run(true, &[&BOTH, &TLS]).await;
}
