//! Every mistake that a user can make ends in a condition with a constant reason and a sentence that says
//! what to do.

use connectors_api::conditions::{self, reason};
use connectors_api::probe::{Outcome, OutcomeStatus, ProbeReport};
use connectors_controller::prober::ProbeError;
use connectors_controller::prober::fake::healthy;
use serde_json::json;

use crate::world::{World, bearer_secret, condition, connector};

const AUTH: &str = "{name: bearerTokenAuth, secretRef: {name: k8s-secret}}";

fn outcome(status: OutcomeStatus, reason: &str, message: &str) -> Outcome {
    Outcome { status, reason: reason.into(), message: message.into() }
}

/// What the gateway finds, by the Connector's name.
fn report(name: &str) -> Result<ProbeReport, ProbeError> {
    let not_checked = || outcome(OutcomeStatus::Unknown, reason::NOT_CHECKED, "");
    let refused = || {
        outcome(OutcomeStatus::False, reason::AUTHENTICATION_FAILED, "Authentication failed: status code 401")
    };
    let down = || {
        outcome(
            OutcomeStatus::False,
            reason::CONNECTION_FAILED,
            "dial tcp target.example:6443: connect: connection refused",
        )
    };
    let changed = || {
        outcome(
            OutcomeStatus::False,
            reason::TARGET_CERTIFICATE_CHANGED,
            "the target shows another certificate",
        )
    };
    match name {
        "refused" => Ok(ProbeReport { auth: refused(), ..healthy() }),
        "down" => Ok(ProbeReport { liveness: down(), auth: not_checked(), ..healthy() }),
        "changed" => {
            Ok(ProbeReport { trust: changed(), liveness: not_checked(), auth: not_checked(), ..healthy() })
        }
        "no-gateway" => Err(ProbeError::Silent),
        _ => Ok(healthy()),
    }
}

/// A Connector by its name: auth, then the condition that tells, its status, its reason and words of its
/// message.
type Mistake = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const OF_THE_CLASS: &[Mistake] = &[(
    "no-class",
    AUTH,
    conditions::CONNECTOR_CLASS_READY,
    "False",
    reason::CONNECTOR_CLASS_NOT_FOUND,
    "connectorclass.connectors.alauda.io \"nope\" not found",
)];

const OF_THE_SECRET: &[Mistake] = &[
    (
        "no-secret",
        "{name: bearerTokenAuth, secretRef: {name: none}}",
        conditions::SECRET_READY,
        "False",
        reason::SECRET_NOT_FOUND,
        "secrets \"none\" not found",
    ),
    (
        "no-name",
        "{name: bearerTokenAuth, secretRef: {name: '?watch=true'}}",
        conditions::SECRET_READY,
        "False",
        reason::SECRET_NOT_FOUND,
        "no secret can have this name",
    ),
    (
        "empty-name",
        "{name: bearerTokenAuth, secretRef: {name: ''}}",
        conditions::SECRET_READY,
        "False",
        reason::SECRET_REQUIRED,
        "set spec.auth.secretRef.name",
    ),
    (
        "wrong-type",
        "{name: bearerTokenAuth, secretRef: {name: opaque}}",
        conditions::SECRET_READY,
        "False",
        reason::SECRET_TYPE_MISMATCH,
        "connectors.cpaas.io/bearer-token",
    ),
    (
        "no-key",
        "{name: bearerTokenAuth, secretRef: {name: empty}}",
        conditions::SECRET_READY,
        "False",
        reason::SECRET_KEY_MISSING,
        "token",
    ),
    (
        "cross",
        "{name: bearerTokenAuth, secretRef: {name: far, namespace: elsewhere}}",
        conditions::SECRET_READY,
        "False",
        reason::CROSS_NAMESPACE_SECRET,
        "elsewhere",
    ),
    (
        "none-given",
        "{name: bearerTokenAuth}",
        conditions::SECRET_READY,
        "False",
        reason::SECRET_REQUIRED,
        "secret",
    ),
];

const OF_THE_TARGET: &[Mistake] = &[
    (
        "refused",
        AUTH,
        conditions::AUTH_READY,
        "False",
        reason::AUTHENTICATION_FAILED,
        "Authentication failed: status code 401",
    ),
    ("down", AUTH, conditions::LIVENESS_READY, "False", reason::CONNECTION_FAILED, "target.example:6443"),
    (
        "changed",
        AUTH,
        conditions::CA_CERT_READY,
        "False",
        reason::TARGET_CERTIFICATE_CHANGED,
        "another certificate",
    ),
    (
        "no-gateway",
        AUTH,
        conditions::LIVENESS_READY,
        "Unknown",
        reason::GATEWAY_UNAVAILABLE,
        "connectors-gateway",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_has_its_reason_and_a_sentence() {
    let (world, prober, _running) = World::with_controller().await;
    prober.answer_with(|request| report(&request.name));
    world.namespace("demo", "").await;
    world.namespace("elsewhere", "").await;
    world.apply(&bearer_secret("demo", "k8s-secret", "one")).await;
    world.apply(&bearer_secret("elsewhere", "far", "one")).await;
    world
        .apply("{apiVersion: v1, kind: Secret, metadata: {name: opaque, namespace: demo}, type: Opaque, stringData: {token: x}}")
        .await;
    let empty = "{apiVersion: v1, kind: Secret, metadata: {name: empty, namespace: demo}, type: connectors.cpaas.io/bearer-token}";
    world.apply(empty).await;
    for (name, auth, ..) in [OF_THE_CLASS, OF_THE_SECRET, OF_THE_TARGET].into_iter().flatten() {
        let class = if *name == "no-class" { "connectorClassName: nope" } else { "connectorClassName: k8s" };
        world.apply(&connector("demo", name, auth).replace("connectorClassName: k8s", class)).await;
    }
    for (usable, mistakes) in [(false, OF_THE_CLASS), (false, OF_THE_SECRET), (true, OF_THE_TARGET)] {
        for (name, _, type_, status, reason, words) in mistakes {
            let found = world.until_condition("demo", name, type_, status, reason).await;
            let message = condition(&found, type_).unwrap().message.unwrap_or_default();
            assert!(message.contains(words), "{name}: {message}");
            let ready = condition(&found, conditions::READY).unwrap();
            assert_eq!(
                (ready.status.as_str(), ready.reason.as_deref()),
                (*status, Some(*reason)),
                "{name}: Ready says the same"
            );
            assert_eq!(
                found.status.unwrap().credential.is_some(),
                usable,
                "{name}: a credential only where its Secret is sound"
            );
            assert_eq!(
                prober.asked_about(name).is_empty(),
                !usable,
                "{name}: the gateway is asked only then"
            );
        }
    }
}

/// A name becomes a part of a URL: one with a `?` asked for a watch, whose answer never ends, and held its
/// place for ever.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_no_secret_can_have_hold_up_nobody() {
    let (world, _prober, _running) = World::with_controller().await;
    world.demo("demo", "sound").await;
    let ca = |name: &str, secret: &str| {
        connector("demo", name, AUTH)
            .replace("spec: {", &format!("spec: {{caCertSecretRef: {{name: '{secret}'}}, "))
    };
    // As many as are reconciled at the same time.
    let watchers: Vec<String> = (0..64).map(|index| ca(&format!("watcher-{index}"), "?watch=true")).collect();
    world.apply(&watchers.join("\n---\n")).await;
    world.apply(&ca("nameless", "")).await;
    world.until_ready("demo", "nameless").await;
    world
        .merge(
            "demo",
            "sound",
            json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"address": "https://other"}}),
        )
        .await;
    world.until_ready("demo", "sound").await;
    for name in ["watcher-0", "watcher-63"] {
        let found = world
            .until_condition(
                "demo",
                name,
                conditions::CONNECTOR_CLASS_READY,
                "False",
                reason::INVALID_PARAMETERS,
            )
            .await;
        let message =
            condition(&found, conditions::CONNECTOR_CLASS_READY).unwrap().message.unwrap_or_default();
        assert!(message.contains("spec.caCertSecretRef.name is \"?watch=true\""), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_mended_is_noticed_without_waiting_for_the_next_check() {
    let world = World::new().await;
    let mut calm = crate::world::settings("one");
    calm.recheck = std::time::Duration::from_secs(600);
    let _running = world
        .controller(calm, std::sync::Arc::new(connectors_controller::prober::fake::FakeProber::healthy()));
    world.namespace("demo", "").await;
    world.apply(&connector("demo", "k8s", AUTH)).await;
    world.until_condition("demo", "k8s", conditions::SECRET_READY, "False", reason::SECRET_NOT_FOUND).await;
    world.apply(&bearer_secret("demo", "k8s-secret", "one")).await;
    world.until_ready("demo", "k8s").await;
    world.delete::<k8s_openapi::api::core::v1::Secret>("demo", "k8s-secret").await;
    let broken = world
        .until_condition("demo", "k8s", conditions::SECRET_READY, "False", reason::SECRET_NOT_FOUND)
        .await;
    assert!(broken.status.unwrap().credential.is_none());
    world.merge("demo", "k8s", json!({"spec": {"connectorClassName": "later"}})).await;
    world
        .until_condition(
            "demo",
            "k8s",
            conditions::CONNECTOR_CLASS_READY,
            "False",
            reason::CONNECTOR_CLASS_NOT_FOUND,
        )
        .await;
    world.apply("{apiVersion: connectors.alauda.io/v1alpha1, kind: ConnectorClass, metadata: {name: later}, spec: {}}").await;
    connectors_testenv::eventually("the class noticed", async || {
        let found =
            condition(&world.connector("demo", "k8s").await, conditions::CONNECTOR_CLASS_READY).unwrap();
        if found.reason.as_deref() == Some(reason::CONNECTOR_CLASS_NOT_FOUND) { Err(found) } else { Ok(()) }
    })
    .await;
}
