//! Pins and the CA Secret: what the gateway learns through the status.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use connectors_api::conditions::{self, reason};
use connectors_api::connector::{Pin, PinKind};
use connectors_api::names;
use connectors_api::probe::{self, Outcome, OutcomeStatus, ProbeReport};
use connectors_controller::prober::fake::{FakeProber, healthy};
use connectors_testenv::eventually;
use http::header::ACCEPT;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::json;

use crate::between;
use crate::world::{World, condition, connector, settings};

const FIRST: &str = "https://target.example:6443";
const OTHER: &str = "https://other.example:6443";

fn pin(origin: &str) -> Pin {
    Pin { origin: origin.into(), kind: PinKind::PublicKey, sha256: "ab".repeat(32), certificate: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_stored_sent_with_every_later_probe_and_dropped_with_its_address() {
    let (world, prober, _running) = World::with_controller().await;
    // First contact pins whatever origin the Connector names now.
    prober.answer_with(|request| {
        let origin = if request.generation == 1 { FIRST } else { OTHER };
        let trust =
            Outcome { status: OutcomeStatus::True, reason: reason::PINNED.into(), message: String::new() };
        Ok(ProbeReport { trust, pins: vec![pin(origin)], ..healthy() })
    });
    world.demo("demo", "k8s").await;
    let ready = world.until_ready("demo", "k8s").await;
    assert_eq!(ready.status.unwrap().trust.unwrap().pins, [pin(FIRST)]);
    assert!(prober.asked_about("k8s")[0].pins.is_empty(), "nothing is known at first contact");

    let annotation = json!({"metadata": {"annotations": {names::ACCEPT_CERTIFICATE_ANNOTATION: "AB:CD"}}});
    world.merge("demo", "k8s", annotation).await;
    let annotated = probe::annotations(&world.connector("demo", "k8s").await.metadata);
    eventually("the pin, and that it is asked of the annotated connector", async || {
        let last = prober.asked_about("k8s").pop().unwrap();
        let sent = last.pins == [pin(FIRST)] && last.annotations == annotated;
        if sent { Ok(()) } else { Err((last.pins, last.annotations)) }
    })
    .await;

    world.merge("demo", "k8s", json!({"spec": {"address": OTHER}})).await;
    eventually("the pin of the new address", async || {
        let pins = world.connector("demo", "k8s").await.status.unwrap().trust.unwrap().pins;
        if pins == [pin(OTHER)] { Ok(()) } else { Err(pins) }
    })
    .await;
    let first_there = prober.asked_about("k8s").into_iter().find(|request| request.generation == 2).unwrap();
    assert!(first_there.pins.is_empty(), "a new address has a first contact of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_secret_is_checked_and_its_version_handed_over() {
    let (world, _prober, _running) = World::with_controller().await;
    world.demo("demo", "k8s").await;
    world.merge("demo", "k8s", json!({"spec": {"caCertSecretRef": {"name": "ca"}}})).await;
    let missing = world
        .until_condition("demo", "k8s", conditions::CA_CERT_READY, "False", reason::SECRET_NOT_FOUND)
        .await;
    let ready = condition(&missing, conditions::READY).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_deref()),
        ("False", Some(reason::SECRET_NOT_FOUND)),
        "nothing may be sent"
    );

    let secret = |value: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca", "namespace": "demo"}, "stringData": {"ca.crt": value}}).to_string()
    };
    let indented = world.plane.ca_pem().replace('\n', "\n  ");
    for (broken, words) in
        [("nonsense", "not encoded twice and no path"), (&indented, "certificate 1 cannot be read")]
    {
        world.apply(&secret(broken)).await;
        eventually(words, async || {
            let connector = world.connector("demo", "k8s").await;
            let told = [conditions::CA_CERT_READY, conditions::READY]
                .map(|type_| condition(&connector, type_).unwrap());
            let says = |one: &conditions::Condition| {
                one.reason.as_deref() == Some(reason::INVALID_PEM)
                    && one.message.as_ref().is_some_and(|text| text.contains(words))
            };
            if told.iter().all(|one| one.status == "False" && says(one)) { Ok(()) } else { Err(told) }
        })
        .await;
    }
    world.apply(&secret(world.plane.ca_pem())).await;
    world.until_ready("demo", "k8s").await;
    let version = async || {
        world.connector("demo", "k8s").await.status.unwrap().trust.and_then(|trust| trust.ca_resource_version)
    };
    eventually("a good verdict", async || {
        let found = condition(&world.connector("demo", "k8s").await, conditions::CA_CERT_READY).unwrap();
        if found.is_true() { Ok(()) } else { Err(found) }
    })
    .await;
    let first = version().await.unwrap();
    world.apply(&secret(&format!("{}\n", world.plane.ca_pem()))).await;
    eventually("the next version", async || {
        let now = version().await;
        if now.as_ref() == Some(&first) { Err(now) } else { Ok(()) }
    })
    .await;
}

/// As many certificates as a Secret may have, each looked at by whoever reads it.
#[tokio::test(flavor = "multi_thread")]
async fn each_version_of_a_large_ca_secret_is_read_once_for_all_that_name_it() {
    const VERSIONS: usize = 4;
    let world = World::new().await;
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let client = between::client_by_head(world.controllers_client(), move |head| {
        let accepted = head.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if head.uri().path().ends_with("/secrets/ca") && !accepted.contains("PartialObjectMetadata") {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        std::future::ready(None)
    });
    let _running = world.controller_by(client, settings("one"), Arc::new(FakeProber::healthy()));
    world.demo("demo", "c0").await;
    let auth = "{name: bearerTokenAuth, secretRef: {name: k8s-secret}}, caCertSecretRef: {name: ca}";
    let all: Vec<String> = (0..8).map(|at| connector("demo", &format!("c{at}"), auth)).collect();
    world.apply(&all.join("\n---\n")).await;
    for version in 0..VERSIONS {
        let ca = format!("{}{}", world.plane.ca_pem().repeat(256), "\n".repeat(version));
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca", "namespace": "demo"}, "stringData": {"ca.crt": ca}});
        let api = world.api::<Secret>("demo");
        let ours = kube::api::PatchParams::apply("test");
        let written = api.patch("ca", &ours, &kube::api::Patch::Apply(secret)).await.unwrap();
        for at in 0..8 {
            eventually("the new version", async || {
                let status = world.connector("demo", &format!("c{at}")).await.status;
                let found = status.and_then(|status| status.trust?.ca_resource_version);
                if found == written.resource_version() { Ok(()) } else { Err(found) }
            })
            .await;
        }
    }
    world.until_ready("demo", "c0").await;
    let read = read.load(Ordering::Relaxed);
    assert!((VERSIONS..=2 * VERSIONS).contains(&read), "{read} reads of {VERSIONS} versions");
}
