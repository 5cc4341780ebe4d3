//! The table of bad input, row by row: what a client gets, and that the target gets nothing.

use std::time::Duration;

use connectors_gateway::settings::Settings;
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{self, H1};
use crate::target::{Target, read_body, read_head};
use crate::world::{STRANGER, TOKEN, World, connect_head, connector};

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("closed")
}

#[tokio::test]
async fn before_the_200_only_login_target_and_form_are_refused() {
    let (world, target) = World::with_target(false).await;
    let authority = target.authority();
    let good = connect_head("target", &authority, TOKEN);
    let cases = [
        ("no login", format!("CONNECT {authority} HTTP/1.1\r\nHost: x\r\n\r\n"), "407"),
        ("a login that is not base64", good.replace("Basic ", "Basic !"), "407"),
        ("a login of another scheme", good.replace("Basic ", "Bearer "), "407"),
        ("a token that nobody knows", connect_head("target", &authority, "guessed"), "407"),
        ("two logins", good.replace("\r\n\r\n", "\r\nProxy-Authorization: Basic eA==\r\n\r\n"), "400"),
        ("another host", connect_head("target", &format!("127.0.0.1:{}", target.port), TOKEN), "403"),
        ("another port", connect_head("target", "localhost:1", TOKEN), "403"),
        ("a metadata address", connect_head("target", "169.254.169.254:80", TOKEN), "403"),
        ("no port", connect_head("target", "localhost", TOKEN), "400"),
        ("a host that is none", connect_head("target", "local host:443", TOKEN), "400"),
        ("user information", connect_head("target", &format!("user@{authority}"), TOKEN), "400"),
        ("a body", good.replace("Host:", "Content-Length: 5\r\nHost:"), "400"),
        ("chunks", good.replace("Host:", "Transfer-Encoding: chunked\r\nHost:"), "400"),
        ("a bare line feed", good.replace("HTTP/1.1\r\n", "HTTP/1.1\n"), "400"),
        ("no HTTP at all", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), "400"),
        (
            "a host that is no connector's",
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
            "503",
        ),
        (
            "an over-long head",
            format!("CONNECT {authority} HTTP/1.1\r\nX-Long: {}", "a".repeat(70_000)),
            "431",
        ),
        ("too many fields", format!("CONNECT {authority} HTTP/1.1\r\n{}\r\n", "A: 1\r\n".repeat(150)), "431"),
    ];
    for (name, request, expected) in cases {
        let answer = world.raw(request.as_bytes()).await;
        assert_eq!(status(&answer), expected, "{name}: {answer}");
        assert_eq!(
            answer.contains("Proxy-Authenticate") || answer.contains("proxy-authenticate"),
            expected == "407",
            "{name}"
        );
        assert!(answer.contains(r#""kind":"Status""#) && !answer.contains(TOKEN), "{name}: {answer}");
    }
    assert_eq!(target.seen.connections(), 0);
}

/// An unknown token is refused as such only after the whole head was read.
#[tokio::test]
async fn the_longest_login_fits_into_the_head_that_the_shipped_settings_allow() {
    let shipped = shipped_settings();
    assert!(shipped.limits.head_bytes < 64 << 10, "smaller than the default");
    let world = World::with(|settings| settings.limits = shipped.limits).await;
    let overhead = "demo/target:".len();
    let longest = connect_head("target", "localhost:443", &"x".repeat((16 << 10) / 4 * 3 - overhead - 6));
    let others = format!("User-Agent: kubectl/{}\r\nHost:", "v".repeat(8 << 10));
    let answer = world.raw(longest.replace("Host:", &others).as_bytes()).await;
    assert_eq!(status(&answer), "407", "{answer}");
}

fn shipped_settings() -> Settings {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/gateway/settings.yaml");
    let map: ConfigMap = serde_yaml_ng::from_str(&std::fs::read_to_string(manifest).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), &map.data.unwrap()["gateway.yaml"]).unwrap();
    Settings::load(folder.path(), true).unwrap()
}

#[tokio::test]
async fn half_a_head_is_answered_after_the_deadline() {
    let world = World::with(|settings| settings.timeouts.head = Duration::from_millis(200)).await;
    let answer = world.raw(b"CONNECT localhost:443 HTTP/1.1\r\nHost").await;
    assert_eq!(status(&answer), "408", "{answer}");
}

#[tokio::test]
async fn a_drip_fed_head_ends_at_the_same_deadline() {
    let world = World::with(|settings| settings.timeouts.head = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    let (mut read, mut write) = stream.split();
    let drip = async {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut answer = [0; 12];
    tokio::select! {
        read = tokio::time::timeout(Duration::from_secs(3), read.read_exact(&mut answer)) => { read.unwrap().unwrap(); }
        () = drip => panic!("closed without an answer"),
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn plain_http_inside_of_the_tunnel_is_told_so() {
    let (world, target) = World::with_target(false).await;
    let mut stream = world.opened("target", &target.authority(), TOKEN).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), "400", "{answer}");
    assert!(answer.contains("must be https"), "{answer}");
    assert_eq!(target.seen.connections(), 0);
}

#[tokio::test]
async fn tls_for_another_host_ends_in_the_handshake() {
    let (world, target) = World::with_target(false).await;
    let stream = world.opened("target", &target.authority(), TOKEN).await;
    let error = world.tls(stream, "other.example", H1).await.expect_err("a handshake for another host");
    assert!(error.to_string().contains("unrecognized name"), "{error}");
    assert_eq!(target.seen.connections(), 0);
}

#[tokio::test]
async fn who_may_not_use_a_connector_is_told_inside_and_nothing_is_dialled() {
    let (world, target) = World::with_target(false).await;
    let authority = target.authority();
    for name in ["target", "unknown"] {
        let stream = world.opened(name, &authority, STRANGER).await;
        let mut tls = world.tls(stream, "localhost", H1).await.unwrap();
        for _ in 0..2 {
            let (head, body) = http::exchange(&mut tls, &http::get("/api/v1/pods", &authority)).await;
            let body = String::from_utf8(body).unwrap();
            assert_eq!(status(&head), "403", "{head}");
            let sentence = format!(
                r#"serviceaccount demo/stranger may not use connector \"{name}\" in namespace \"demo\": bind ClusterRole connectors-user"#
            );
            assert!(body.contains(&sentence) && body.contains(r#""reason":"Forbidden""#), "{body}");
        }
    }
    assert_eq!(target.seen.connections(), 0);
}

#[tokio::test]
async fn a_connector_without_route_answers_with_the_words_of_its_condition() {
    let (world, target) = World::with_target(false).await;
    let broken = connector("broken", &target.url(), "", "x", "")
        .replace("secretRef: {name: broken}", "secretRef: {name: gone}");
    world.apply(&broken);
    let mut tls = world.tunnel("broken", &target.authority(), H1).await;
    let (head, body) = http::exchange(&mut tls, &http::get("/api/v1/pods", &target.authority())).await;
    let body = String::from_utf8(body).unwrap();
    assert!(status(&head) == "503" && head.contains("retry-after: 1"), "{head}");
    assert!(
        body.contains(r#"connector \"broken\" in namespace \"demo\" is not usable"#) && body.contains("gone"),
        "{body}"
    );
    assert_eq!(target.seen.connections(), 0);
}

#[tokio::test]
async fn hostile_requests_inside_never_reach_the_target() {
    let (world, target) = World::with_target(false).await;
    let authority = target.authority();
    let request = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n");
    let cases = [
        ("another Host", "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n".to_owned(), "421"),
        ("the same host, another port", "GET / HTTP/1.1\r\nHost: localhost:1\r\n\r\n".to_owned(), "421"),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("two Hosts", request("GET /", &format!("Host: {authority}\r\n")), "400"),
        ("absolute-form for another host", request("GET https://other.example/", ""), "421"),
        ("absolute-form of another scheme", request(&format!("GET http://{authority}/"), ""), "400"),
        ("a CONNECT", request(&format!("CONNECT {authority}"), ""), "400"),
        (
            "length beside chunks",
            request("POST /", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
            "400",
        ),
        ("two lengths", request("POST /", "Content-Length: 3\r\nContent-Length: 3\r\n"), "400"),
        ("a signed length", request("POST /", "Content-Length: +3\r\n"), "400"),
        ("another coding", request("POST /", "Transfer-Encoding: gzip, chunked\r\n"), "400"),
        ("a folded line", request("GET /", "X-A: 1\r\n 2\r\n"), "400"),
        ("a bare line feed", request("GET /", "X-A: 1\nX-B: 2\r\n"), "400"),
        ("a NUL", request("GET /", "X-A: \0\r\n"), "400"),
        ("Connection nominates Host", request("GET /", "Connection: Host\r\n"), "400"),
        ("Connection nominates the length", request("GET /", "Connection: Content-Length\r\n"), "400"),
        ("a path without slash", request("GET *", ""), "400"),
        (
            "an upgrade to another protocol",
            request("GET /exec", "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n"),
            "501",
        ),
        ("an over-long head", request("GET /", &format!("X-Long: {}\r\n", "a".repeat(70_000))), "431"),
    ];
    for (name, request, expected) in cases {
        let mut tls = world.tunnel("target", &authority, H1).await;
        tls.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut tls).await;
        assert_eq!(status(&head), expected, "{name}: {head}");
        let body = String::from_utf8(read_body(&mut tls, &head).await.unwrap()).unwrap();
        assert!(body.contains(r#""kind":"Status""#), "{name}: {body}");
    }
    assert_eq!(target.seen.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn half_a_head_inside_is_answered_after_the_deadline() {
    let world = World::with(|settings| settings.timeouts.head = Duration::from_millis(200)).await;
    let target = Target::http(&world.leaf(), false).await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    tls.write_all(b"GET / HT").await.unwrap();
    let head = read_head(&mut tls).await;
    assert_eq!(status(&head), "408", "{head}");
}

#[tokio::test]
async fn a_credential_stays_under_the_path_of_the_address() {
    let world = World::new().await;
    let target = Target::http(&world.leaf(), false).await;
    world.connect("target", &format!("{}/base", target.url()));
    for (path, expected) in [
        ("/base/api", "200"),
        ("/base", "200"),
        ("/basement", "403"),
        ("/other", "403"),
        ("/base/../other", "400"),
        ("/base/%2e%2e/other", "400"),
        ("/base/..%2fother", "400"),
        ("/base/%252e%252e/other", "400"),
        ("/base%2fother", "403"),
        ("/base/a%2Fb", "200"),
    ] {
        let mut tls = world.tunnel("target", &target.authority(), H1).await;
        tls.write_all(http::get(path, &target.authority()).as_bytes()).await.unwrap();
        let head = read_head(&mut tls).await;
        assert_eq!(status(&head), expected, "{path}: {head}");
    }
    let paths: Vec<String> =
        target.seen.heads().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/base/api", "/base", "/base/a%2Fb"]);
}

#[tokio::test]
async fn a_denied_address_is_never_dialled() {
    let world = World::with(|settings| settings.targets.allow.clear()).await;
    let target = Target::http(&world.leaf(), false).await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    let (head, body) = http::exchange(&mut tls, &http::get("/", &target.authority())).await;
    assert_eq!(status(&head), "403", "{head}");
    assert!(String::from_utf8(body).unwrap().contains("targets.allow"));
    assert_eq!(target.seen.connections(), 0);
}

#[tokio::test]
async fn a_target_that_is_down_slow_or_unresolvable_is_named_in_time() {
    let world = World::with(|settings| {
        settings.timeouts.connect = Duration::from_millis(500);
        settings.timeouts.response_header = Duration::from_millis(400);
    })
    .await;
    let silent = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        read_head(&mut tls).await;
        std::future::pending::<()>().await;
    })
    .await;
    for (address, expected, words) in [
        ("https://localhost:1".to_owned(), "502", "connection refused"),
        ("https://no-such-host.invalid:443".to_owned(), "502", "no-such-host.invalid"),
        (silent.url(), "504", "did not answer in time"),
    ] {
        world.connect("target", &address);
        let authority = address.strip_prefix("https://").unwrap().to_owned();
        let mut tls = world.tunnel("target", &authority, H1).await;
        let started = std::time::Instant::now();
        let (head, body) = http::exchange(&mut tls, &http::get("/", &authority)).await;
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status(&head), expected, "{address}: {body}");
        assert!(body.contains(words) && body.contains(authority.split(':').next().unwrap()), "{body}");
        assert!(!body.contains("127.0.0.1"), "an internal address is told: {body}");
        assert!(started.elapsed() < Duration::from_secs(3), "{address}: {:?}", started.elapsed());
    }
}
