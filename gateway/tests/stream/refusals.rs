//! What clients are told when it is not the target that says no: the status line, the fields and the Status
//! that they act on.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::http::{self, H1};
use crate::target::{Target, field};
use crate::world::{STRANGER, TOKEN, UNANSWERED, VIEWER, World, connect_head, connector};

#[tokio::test]
async fn an_unknown_token_in_an_outage_is_told_when_to_come_back() {
    let (world, target) = World::with_target(false).await;
    let answer = world.raw(connect_head("target", &target.authority(), UNANSWERED).as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!((field(head, "retry-after"), field(head, "proxy-authenticate")), (Some("5"), None), "{head}");
    let status: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&status["reason"], &status["details"]["retryAfterSeconds"]),
        (&json!("ServiceUnavailable"), &json!(5))
    );
}

#[tokio::test]
async fn only_who_may_see_a_connector_learns_that_there_is_none() {
    let (world, target) = World::with_target(false).await;
    let authority = target.authority();
    for (token, connector, expected) in [
        (VIEWER, "unknown", "503 ServiceUnavailable"),
        (STRANGER, "unknown", "403 Forbidden"),
        (VIEWER, "target", "403 Forbidden"),
        (STRANGER, "target", "403 Forbidden"),
    ] {
        let stream = world.opened(connector, &authority, token).await;
        let mut tls = world.tls(stream, "localhost", H1).await.unwrap();
        let (head, body) = http::exchange(&mut tls, &http::get("/", &authority)).await;
        let status: Value = serde_json::from_slice(&body).unwrap();
        let told = format!("{} {}", head.split(' ').nth(1).unwrap(), status["reason"].as_str().unwrap());
        assert_eq!(told, expected, "{token} {connector}: {status}");
    }
    assert!(target.seen.heads().is_empty());
}

/// In the form of a ServiceAccount's token; nobody signed it.
fn unsigned(account: &str, pod_uid: &str) -> String {
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let claims = json!({
        "iss": "https://home", "sub": format!("system:serviceaccount:demo:{account}"), "exp": 4_000_000_000u32,
        "kubernetes.io": {"namespace": "demo", "serviceaccount": {"name": account, "uid": "u"}, "pod": {"name": "p", "uid": pod_uid}}});
    format!(
        "{}.{}.{}",
        encode(json!({"alg": "RS256", "kid": "k"})),
        encode(claims),
        URL_SAFE_NO_PAD.encode("signature")
    )
}

#[tokio::test]
async fn in_a_tunnel_of_an_expired_token_no_other_pods_token_is_reviewed_and_nothing_is_asked_for_it() {
    let world = World::new().await;
    let target = Target::http(&world.leaf(), false).await;
    world.connect("target", &target.url());
    let authority = target.authority();
    let stream = world.opened("target", &authority, &format!("old-{TOKEN}")).await;
    let mut tls = world.tls(stream, "localhost", H1).await.unwrap();
    let asked =
        || (world.api_server.tokens.load(Ordering::SeqCst), world.api_server.accesses.load(Ordering::SeqCst));
    let (tokens, accesses) = asked();
    for (account, pod_uid, reviews) in [
        ("stranger", "demo/stranger-pod", 0),
        ("default", "demo/another-pod", 0),
        ("default", "demo/default-pod", 1),
    ] {
        let token = unsigned(account, pod_uid);
        let request = format!("GET / HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\n\r\n");
        let (head, _) = http::exchange(&mut tls, &request).await;
        assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
        assert_eq!(asked(), (tokens + reviews, accesses), "{account} {pod_uid}");
    }
    // Nor does it tell which hosts are a connector's.
    world.connect("other", "https://other:6443");
    world.opened("target", "other:6443", &format!("old-{TOKEN}")).await;
    assert_eq!(asked().1, accesses);
}

fn code(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or("closed")
}

/// client-go reads discovery raw: of a Status it would print `unknown`.
#[tokio::test]
async fn a_refusal_of_discovery_is_the_sentence_alone() {
    let (world, target) = World::with_target(false).await;
    let authority = target.authority();
    let stream = world.opened("target", &authority, STRANGER).await;
    let mut tls = world.tls(stream, "localhost", H1).await.unwrap();
    let sentence = r#"serviceaccount demo/stranger may not use connector "target" in namespace "demo": bind ClusterRole connectors-user"#;
    let aggregated =
        "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json\r\n";
    for (path, accept, text) in [
        ("/api", "", true),
        ("/apis?timeout=32s", "", true),
        ("/version", "", true),
        ("/openapi/v3", "", true),
        ("/any", aggregated, true),
        ("/api/v1/pods", "", false),
        ("/apis/apps/v1/namespaces/a/deployments", "Accept: application/json\r\n", false),
    ] {
        let request = http::get(path, &authority).replace("\r\n\r\n", &format!("\r\n{accept}\r\n"));
        let (head, body) = http::exchange(&mut tls, &request).await;
        let body = String::from_utf8(body).unwrap();
        assert_eq!(code(&head), "403", "{path}: {head}");
        assert_eq!(head.contains("content-type: text/plain"), text, "{path}: {head}");
        assert_eq!(body == sentence, text, "{path}: {body}");
    }
    assert_eq!(target.seen.connections(), 0);
}

/// Of a 503 kubectl prints nothing of ours, after 50 s; all else is asked again by every client.
#[tokio::test]
async fn what_may_be_there_later_is_a_503_and_for_discovery_a_502_with_the_sentence() {
    let world = World::new().await;
    world.apply(&connector("target", "ftp://localhost", "", "x", ""));
    let login = format!("Authorization: Bearer {TOKEN}");
    for (host, words) in [("c-target", "is not usable"), ("c-absent", "no connector has the host")] {
        for (path, status, retry) in [("/api", 502, false), ("/api/v1/pods", 503, true)] {
            let url = format!("http://{host}.demo.svc{path}");
            let (got, answer) = world.direct(&url, &["--include", "-H", &login]).await;
            assert_eq!((got, answer.contains("retry-after: 1")), (status, retry), "{url}: {answer}");
            assert!(answer.contains(words) && answer.contains("text/plain") != retry, "{url}: {answer}");
        }
    }
}

#[tokio::test]
async fn whoever_comes_a_moment_before_the_route_is_served_when_it_is_there() {
    let (world, target) = World::with_target(false).await;
    let route = |secret: &str| {
        connector("broken", &target.url(), "caCertSecretRef: {name: target-ca}", "x", "")
            .replace("secretRef: {name: broken}", &format!("secretRef: {{name: {secret}}}"))
    };
    world.apply(&route("gone"));
    let mut tls = world.tunnel("broken", &target.authority(), H1).await;
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.apply(&route("target"));
    };
    let request = http::get("/", &target.authority());
    let ((head, _), ()) = tokio::join!(http::exchange(&mut tls, &request), later);
    assert_eq!(code(&head), "200", "{head}");
}

/// The wait for a route that is on its way is for those who may use the connector: others would learn by it
/// that there is one.
#[tokio::test]
async fn a_stranger_waits_no_longer_for_a_connector_that_is_not_checked_yet_than_for_none() {
    let (world, target) = World::with_target(false).await;
    let unchecked = connector("broken", &target.url(), "", "x", "")
        .replace("secretRef: {name: broken}", "secretRef: {name: gone}");
    world.apply(&unchecked);
    let stream = world.opened("broken", &target.authority(), STRANGER).await;
    let mut tls = world.tls(stream, "localhost", H1).await.unwrap();
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        let (head, _) = http::exchange(&mut tls, &http::get("/", &target.authority())).await;
        assert_eq!(code(&head), "403", "{head}");
        quickest = quickest.min(began.elapsed());
    }
    assert!(quickest < Duration::from_millis(500), "{quickest:?}");
}
