//! Whom the gateway sends a credential to: CAs, pins, names. A target that fails sees a handshake and not one
//! byte of HTTP.

use std::sync::atomic::Ordering;

use connectors_api::connector::{Pin, PinKind};
use connectors_api::proxy_auth::ConnectorRef;
use connectors_gateway::error::Error;
use connectors_gateway::probe::fetch::FirstContact;
use connectors_gateway::table::route::{Entry, Route};
use connectors_testenv::pki::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{self, H1};
use crate::target::{Seen, Target, Tls, read_head};
use crate::world::{SECRET, World, connector};

async fn note_bytes(mut tls: Tls, seen: std::sync::Arc<Seen>) {
    let mut buf = [0; 1024];
    while let Ok(n) = tls.read(&mut buf).await {
        if n == 0 {
            return;
        }
        seen.bytes.fetch_add(n, Ordering::SeqCst);
        let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    }
}

/// Connector `demo/target` without a CA, with these pins in its status.
fn pinned(world: &World, target: &Target, pins: &[Pin]) {
    observed(world, target, pins, serde_json::json!([]));
}

fn observed(world: &World, target: &Target, pins: &[Pin], conditions: serde_json::Value) {
    let manifests = connector("target", &target.url(), "", SECRET, "");
    let status = serde_json::json!({ "status": { "trust": { "pins": pins }, "conditions": conditions } });
    world.apply(&format!("{manifests}{}\n", serde_yaml_ng::to_string(&status).unwrap()));
}

pub fn route(world: &World) -> std::sync::Arc<Route> {
    let table = world.gateway.parts.table.load();
    let key = ConnectorRef { namespace: "demo".into(), name: "target".into() };
    match table.lookup(&key) {
        Some(Entry::Usable(route)) => route.clone(),
        other => panic!("no route: {other:?}"),
    }
}

async fn first_contact(world: &World) -> FirstContact {
    let route = route(world);
    world.gateway.first_contact(&route, &route.targets[0]).await.unwrap()
}

async fn status_of_a_request(world: &World, target: &Target) -> String {
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    let (head, body) = http::exchange(&mut tls, &http::get("/", &target.authority())).await;
    format!("{} {}", head.split(' ').nth(1).unwrap(), String::from_utf8_lossy(&body))
}

#[tokio::test]
async fn a_target_that_nothing_vouches_for_sees_no_byte() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, note_bytes).await;
    pinned(&world, &target, &[]);
    let answer = status_of_a_request(&world, &target).await;
    assert!(answer.starts_with("502") && answer.contains("caCertSecretRef"), "{answer}");
    assert_eq!(target.seen.bytes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_although_its_ca_is_known() {
    let world = World::new().await;
    let target = Target::script(&world.target_ca.leaf(&["other.example"]), &[], H1, note_bytes).await;
    world.connect("target", &target.url());
    let answer = status_of_a_request(&world, &target).await;
    let why = "target localhost: it is not trusted: its certificate is for other.example, not for localhost";
    assert!(
        answer.starts_with("502") && answer.contains(why) && !answer.contains("caCertSecretRef"),
        "{answer}"
    );
    assert_eq!(target.seen.bytes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn first_contact_pins_the_topmost_ca_that_is_served() {
    let world = World::new().await;
    let middle = world.target_ca.intermediate("middle");
    let target =
        Target::script(&middle.leaf(&["localhost"]), &[&middle, &world.target_ca], H1, note_bytes).await;
    pinned(&world, &target, &[]);
    let FirstContact::Pin { pin, .. } = first_contact(&world).await else { panic!("no pin") };
    assert_eq!((pin.kind, &pin.origin), (PinKind::Ca, &format!("https://localhost:{}", target.port)));
    assert_eq!(pin.certificate.as_deref(), Some(world.target_ca.pem().as_str()));
    pinned(&world, &target, &[pin]);
    assert!(status_of_a_request(&world, &target).await.starts_with("200"));
    assert_eq!(first_contact(&world).await, FirstContact::Verified);
}

#[tokio::test]
async fn first_contact_pins_the_ca_of_cluster_info_where_only_the_leaf_is_served() {
    let world = World::new().await;
    let pem = world.target_ca.pem();
    let target = Target::script(&world.leaf(), &[], H1, move |mut tls, seen| {
        let ca = openssl::base64::encode_block(pem.as_bytes());
        async move {
            let head = read_head(&mut tls).await;
            seen.heads.lock().unwrap().push(head);
            let kubeconfig =
                format!("clusters:\n- name: \"\"\n  cluster:\n    certificate-authority-data: {ca}\n    server: https://x\n");
            let body = serde_json::json!({ "data": { "kubeconfig": kubeconfig } }).to_string();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            tls.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    pinned(&world, &target, &[]);
    let FirstContact::Pin { pin, .. } = first_contact(&world).await else { panic!("no pin") };
    assert_eq!(pin.kind, PinKind::Ca);
    assert_eq!(pin.certificate.as_deref(), Some(world.target_ca.pem().as_str()));
    let heads = target.seen.heads();
    assert!(heads[0].starts_with("GET /api/v1/namespaces/kube-public/configmaps/cluster-info "), "{heads:?}");
    assert!(
        !heads.concat().contains(SECRET) && !heads.concat().to_lowercase().contains("authorization"),
        "{heads:?}"
    );
}

#[tokio::test]
async fn first_contact_pins_the_key_of_a_certificate_that_stands_alone() {
    let world = World::new().await;
    let lonely = Identity::root("lonely").leaf(&["somewhere.else"]);
    let target = Target::script(&lonely, &[], H1, note_bytes).await;
    pinned(&world, &target, &[]);
    let FirstContact::Pin { pin, .. } = first_contact(&world).await else { panic!("no pin") };
    assert_eq!((pin.kind, pin.certificate.clone()), (PinKind::PublicKey, None));
    pinned(&world, &target, &[pin]);
    assert!(status_of_a_request(&world, &target).await.starts_with("200"));
}

#[tokio::test]
async fn a_changed_certificate_stops_traffic_before_the_credential_is_sent() {
    let world = World::new().await;
    let before = Target::script(&world.leaf(), &[], H1, note_bytes).await;
    pinned(&world, &before, &[]);
    let FirstContact::Pin { pin, .. } = first_contact(&world).await else { panic!("no pin") };
    let impostor =
        Target::script(&Identity::root("impostor").leaf(&["localhost"]), &[], H1, note_bytes).await;
    let moved = Pin { origin: format!("https://localhost:{}", impostor.port), ..pin };
    pinned(&world, &impostor, std::slice::from_ref(&moved));
    let answer = status_of_a_request(&world, &impostor).await;
    assert!(answer.starts_with("502") && answer.contains("another certificate"), "{answer}");
    let told = serde_json::json!([{"type": "CACertReady", "status": "False", "reason": "TargetCertificateChanged", "message": "m"}]);
    observed(&world, &impostor, std::slice::from_ref(&moved), told);
    assert_eq!(status_of_a_request(&world, &impostor).await, answer, "after the controller has seen it too");
    pinned(&world, &impostor, std::slice::from_ref(&moved));
    assert_eq!(impostor.seen.bytes.load(Ordering::SeqCst), 0);
    let FirstContact::Changed(now) = first_contact(&world).await else { panic!("the change is not seen") };
    assert_ne!(now.sha256, moved.sha256);
    let route = route(&world);
    let request = ::http::Request::get("/api").body(bytes::Bytes::new()).unwrap();
    let fetched = world.gateway.fetch(&route, &route.targets[0], request, None).await;
    assert!(matches!(fetched, Err(Error::CertificateChanged { .. })), "{fetched:?}");
}

/// The owner has seen that the first contact was not with the target, and says whose certificate it has.
#[tokio::test]
async fn a_ca_that_is_given_ends_what_was_pinned() {
    let world = World::new().await;
    let impostor =
        Target::script(&Identity::root("impostor").leaf(&["localhost"]), &[], H1, note_bytes).await;
    pinned(&world, &impostor, &[]);
    let FirstContact::Pin { pin, .. } = first_contact(&world).await else { panic!("no pin") };
    pinned(&world, &impostor, std::slice::from_ref(&pin));
    assert!(status_of_a_request(&world, &impostor).await.starts_with("200"));
    let seen = impostor.seen.bytes.load(Ordering::SeqCst);
    let ca = "caCertSecretRef: {name: target-ca}";
    let manifests = connector("target", &impostor.url(), ca, SECRET, &world.target_ca.pem());
    let status = serde_json::json!({ "status": { "trust": { "pins": [pin] } } });
    world.apply(&format!("{manifests}{}\n", serde_yaml_ng::to_string(&status).unwrap()));
    let answer = status_of_a_request(&world, &impostor).await;
    assert!(answer.starts_with("502"), "{answer}");
    assert_eq!(impostor.seen.bytes.load(Ordering::SeqCst), seen, "it was sent a byte");
    assert!(!matches!(first_contact(&world).await, FirstContact::Verified));
}

#[tokio::test]
async fn a_policy_against_pins_refuses_what_no_ca_vouches_for() {
    let world =
        World::with(|settings| settings.upstream.unverified = connectors_gateway::settings::Unverified::Deny)
            .await;
    let target = Target::script(&world.leaf(), &[], H1, note_bytes).await;
    pinned(&world, &target, &[]);
    assert!(matches!(first_contact(&world).await, FirstContact::Unverified { .. }));
    world.connect("target", &target.url());
    assert!(status_of_a_request(&world, &target).await.starts_with("200"));
}

#[tokio::test]
async fn a_probe_sends_the_credential_it_is_given_and_reads_a_bounded_answer() {
    for h2 in [false, true] {
        let (world, target) = World::with_target(h2).await;
        let route = route(&world);
        let credential = world.gateway.parts.credentials.get(&route).await.unwrap();
        let request = |path: &str| ::http::Request::get(path).body(bytes::Bytes::new()).unwrap();
        let fetched = world
            .gateway
            .fetch(&route, &route.targets[0], request("/head"), Some(&credential))
            .await
            .unwrap();
        assert!(String::from_utf8(fetched.body.to_vec()).unwrap().contains(&format!("Bearer {SECRET}")));
        let large =
            world.gateway.fetch(&route, &route.targets[0], request("/bytes/300000"), None).await.unwrap();
        assert_eq!((large.status.as_u16(), large.body.len()), (200, 64 << 10));
        let heads = target.seen.heads();
        assert!(!heads[1].contains("authorization"), "{heads:?}");
    }
}

/// A CA that is given and cannot be read is not "none": nothing may be pinned, and no byte sent.
#[tokio::test]
async fn a_ca_that_cannot_be_read_stops_everything_before_the_target_is_dialled() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, note_bytes).await;
    let pem = world.target_ca.pem();
    let named = "caCertSecretRef: {name: target-ca}";
    for (kind, ca) in [
        ("a path", "/etc/ssl/ca.crt".to_owned()),
        ("base64 of PEM", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &pem)),
        ("indented PEM", pem.replace('\n', "\n  ")),
        (
            "one damaged certificate of two",
            format!("{pem}{}", pem.replace("CERTIFICATE-----\nM", "CERTIFICATE-----\n!")),
        ),
        ("nothing", String::new()),
    ] {
        let by_name = connector("target", &target.url(), named, SECRET, &ca);
        let beside = connector("target", &target.url(), "", SECRET, "");
        let beside = beside.replace(
            &format!("stringData: {{token: {SECRET}}}"),
            &format!("stringData: {{token: {SECRET}, ca.crt: {ca:?}}}"),
        );
        for manifests in [by_name, beside] {
            world.apply(&manifests);
            let answer = status_of_a_request(&world, &target).await;
            assert!(answer.starts_with("503 ") && answer.contains("invalid PEM data"), "{kind}: {answer}");
        }
    }
    assert_eq!(target.seen.connections(), 0, "not even a handshake");
}

#[tokio::test]
async fn a_pinned_ca_that_cannot_be_read_fits_nothing() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, note_bytes).await;
    let pin = Pin {
        origin: target.url(),
        kind: PinKind::Ca,
        sha256: "0a".repeat(32),
        certificate: Some("damaged".into()),
    };
    pinned(&world, &target, &[pin]);
    let answer = status_of_a_request(&world, &target).await;
    assert!(answer.starts_with("502 "), "{answer}");
    assert_eq!(target.seen.bytes.load(Ordering::SeqCst), 0, "no byte of HTTP");
    assert!(matches!(first_contact(&world).await, FirstContact::Changed(_)));
}

#[tokio::test]
async fn two_cas_of_one_name_and_no_key_identifiers_both_vouch() {
    let world = World::new().await;
    let (old, new) = (Identity::bare_root("rotated"), Identity::bare_root("rotated"));
    for (given, signer) in [([&old, &new], &old), ([&old, &new], &new), ([&new, &old], &old)] {
        let target = Target::script(&signer.leaf(&["localhost"]), &[], H1, note_bytes).await;
        let pem = given.map(Identity::pem).concat();
        world.apply(&connector("target", &target.url(), "caCertSecretRef: {name: target-ca}", SECRET, &pem));
        let answer = status_of_a_request(&world, &target).await;
        assert!(answer.starts_with("200"), "{answer}");
    }
}

#[tokio::test]
async fn each_reason_against_a_certificate_has_its_own_sentence() {
    let world = World::new().await;
    let (stranger, alone) = (Identity::root("stranger"), Identity::self_signed("localhost"));
    let under = world.target_ca.intermediate("not sent along");
    for (served, sentence) in [
        (
            stranger.leaf(&["localhost"]),
            "signed by \\\"stranger\\\", which is not known: put that CA into the secret",
        ),
        (under.leaf(&["localhost"]), "signed by \\\"not sent along\\\", which is not known"),
        (under.leaf(&["localhost"]), "or have the server send its intermediate certificate"),
        (alone, "is signed by itself: put it into the secret"),
        (world.target_ca.leaf(&["a.example", "10.0.0.9"]), "is for a.example, 10.0.0.9, not for localhost"),
        (world.target_ca.dated_leaf(&["localhost"], -3, -1), "its certificate ended on "),
        (world.target_ca.dated_leaf(&["localhost"], 1, 3), "its certificate is not valid before "),
        (world.target_ca.weak_leaf(&["localhost"]), "its certificate has a weak key or signature"),
        (
            world.target_ca.client_leaf(&["localhost"]),
            "its certificate is not for servers (extended key usage)",
        ),
    ] {
        let target = Target::script(&served, &[], H1, note_bytes).await;
        world.connect("target", &target.url());
        let answer = status_of_a_request(&world, &target).await;
        assert!(answer.starts_with("502") && answer.contains(sentence), "{sentence}: {answer}");
        assert_eq!(target.seen.bytes.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_connector_may_say_which_name_its_targets_certificate_has() {
    let world = World::new().await;
    let target = Target::script(&world.target_ca.leaf(&["api.internal"]), &[], H1, note_bytes).await;
    let ca = "caCertSecretRef: {name: target-ca}";
    let plain = connector("target", &target.url(), ca, SECRET, &world.target_ca.pem());
    for (name, status, words) in [
        ("api.internal", "200", ""),
        ("other.internal", "502", "its certificate is for api.internal, not for other.internal"),
        ("127.0.0.1", "503", "must be one DNS name"),
        ("api.internal:443", "503", "must be one DNS name"),
    ] {
        let annotated = format!(
            "metadata: {{namespace: demo, name: target, annotations: {{connectors.cpaas.io/tls-server-name: '{name}'}}}}\nspec:\n  connectorClassName"
        );
        world.apply(
            &plain.replace(
                "metadata: {namespace: demo, name: target}\nspec:\n  connectorClassName",
                &annotated,
            ),
        );
        let answer = status_of_a_request(&world, &target).await;
        assert!(answer.starts_with(status) && answer.contains(words), "{name}: {answer}");
    }
}
