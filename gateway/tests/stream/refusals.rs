//! What clients are told when it is not the target that says no: the status line, the fields and the Status
//! that they act on.

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::http::{self, H1};
use crate::target::{Target, field};
use crate::world::{STRANGER, TOKEN, UNANSWERED, VIEWER, World, connect_head};

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
}
