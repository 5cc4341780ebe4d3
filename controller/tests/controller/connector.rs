//! A Connector's life when all is well: made, used, rotated, deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use connectors_api::probe::{ProbeReport, ProbeRequest};
use connectors_api::{Connector, conditions, names};
use connectors_controller::prober::fake::{FakeProber, healthy};
use connectors_controller::prober::{ProbeError, Prober};
use connectors_testenv::eventually;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::ResourceExt;
use kube::api::ListParams;

use crate::world::{Running, World, bearer_secret, condition, settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_becomes_ready_with_all_that_its_clients_and_the_gateway_need() {
    let (world, prober, _running) = World::with_controller().await;
    world.demo("demo", "k8s").await;
    let connector = world.until_ready("demo", "k8s").await;

    let status = connector.status.clone().unwrap();
    let types: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    let all = [
        "ConnectorClassReady",
        "SecretReady",
        "CACertReady",
        "LivenessReady",
        "AuthReady",
        "ProxyServiceReady",
        "Ready",
    ];
    assert_eq!(types, all);
    assert_eq!(condition(&connector, conditions::CA_CERT_READY).unwrap().severity.as_deref(), Some("Info"));
    assert_eq!(
        status.proxy.unwrap().http_address.unwrap().url.as_deref(),
        Some("http://c-k8s.demo.svc.cluster.local")
    );
    assert_eq!(status.api, None, "nothing serves it yet");
    let secret = world.api::<Secret>("demo").get("k8s-secret").await.unwrap();
    let credential = status.credential.unwrap();
    assert_eq!(
        (credential.secret_name.as_str(), Some(credential.resource_version)),
        ("k8s-secret", secret.resource_version())
    );

    let asked = prober.asked_about("k8s");
    let asked = asked.first().unwrap();
    assert_eq!((asked.namespace.as_str(), Some(&asked.uid)), ("demo", connector.metadata.uid.as_ref()));
    assert_eq!((Some(asked.generation), asked.class_generation), (connector.metadata.generation, 1));
    the_service_leads_to_the_gateway(&world, &connector).await;
    the_gateway_may_read_this_secret_only(&world).await;
    the_event_is_there(&world, &connector).await;
}

async fn the_service_leads_to_the_gateway(world: &World, connector: &Connector) {
    let service = world.api::<Service>("demo").get("c-k8s").await.unwrap();
    let owner = &service.owner_references()[0];
    assert_eq!(
        (owner.kind.as_str(), Some(&owner.uid), owner.controller),
        ("Connector", connector.metadata.uid.as_ref(), Some(true))
    );
    let spec = service.spec.unwrap();
    assert_eq!(spec.type_.as_deref(), Some("ExternalName"));
    assert_eq!(spec.external_name.as_deref(), Some("connectors-gateway.connectors-system.svc.cluster.local"));
    assert_eq!(spec.ports.unwrap().iter().map(|port| port.port).collect::<Vec<_>>(), [80, 443]);
}

async fn the_gateway_may_read_this_secret_only(world: &World) {
    let role = world.api::<Role>("demo").get(names::GATEWAY_SECRETS_ROLE).await.unwrap();
    let rules = role.rules.unwrap();
    assert_eq!(rules.len(), 1);
    assert_eq!(
        (rules[0].verbs.as_slice(), rules[0].resource_names.as_deref()),
        (&["get".to_owned()][..], Some(&["k8s-secret".to_owned()][..]))
    );
    let gateway = names::service_account_user(names::SYSTEM_NAMESPACE, names::GATEWAY);
    for (secret, allowed) in [("k8s-secret", true), ("other", false)] {
        let user = format!("--as={gateway}");
        let output = world
            .plane
            .kubectl(&["auth", "can-i", "get", &format!("secrets/{secret}"), "-n", "demo", &user])
            .await
            .unwrap();
        assert_eq!(output.status.success(), allowed, "{secret}");
    }
}

async fn the_event_is_there(world: &World, connector: &Connector) {
    let events = world.api::<Event>("demo");
    eventually("an event", async || {
        let list = events.list(&ListParams::default()).await.unwrap().items;
        let ours = |event: &&Event| {
            event.regarding.as_ref().and_then(|about| about.uid.clone()) == connector.metadata.uid
        };
        match list.iter().find(ours) {
            Some(event)
                if event.reason.as_deref() == Some("Ready") && event.type_.as_deref() == Some("Normal") =>
            {
                Ok(())
            }
            other => Err(other.cloned()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rechecks_write_nothing_while_nothing_changes() {
    let world = World::new().await;
    let prober = Arc::new(FakeProber::healthy());
    let mut often = settings("one");
    often.recheck = Duration::from_millis(200);
    let _running = world.controller(often, prober.clone());
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    // One walk more, so that the caches have seen all that the first one wrote.
    let seen = prober.asked_about("k8s").len();
    more_probes(&prober, seen + 2).await;
    let versions = async || {
        let connector = world.connector("demo", "k8s").await.resource_version();
        let service = world.api::<Service>("demo").get("c-k8s").await.unwrap().resource_version();
        let role =
            world.api::<Role>("demo").get(names::GATEWAY_SECRETS_ROLE).await.unwrap().resource_version();
        let class = world.class("k8s").await.resource_version();
        (connector, service, role, class)
    };
    let before = versions().await;
    let seen = prober.asked_about("k8s").len();
    more_probes(&prober, seen + 5).await;
    assert_eq!(versions().await, before);
}

async fn more_probes(prober: &FakeProber, wanted: usize) {
    eventually("more probes", async || {
        let count = prober.asked_about("k8s").len();
        if count >= wanted { Ok(()) } else { Err(count) }
    })
    .await;
}

/// Answers well until `stuck`, then never.
#[derive(Default)]
struct Stuck(AtomicBool);

#[async_trait]
impl Prober for Stuck {
    async fn probe(&self, _: &ProbeRequest) -> Result<ProbeReport, ProbeError> {
        if self.0.load(Ordering::SeqCst) { std::future::pending().await } else { Ok(healthy()) }
    }

    fn trust(&self, _: Vec<Vec<u8>>) {}
}

/// A Connector that is Ready, and whose target hangs from now on.
async fn with_a_target_that_hangs() -> (World, Running) {
    let world = World::new().await;
    let prober = Arc::new(Stuck::default());
    let mut calm = settings("one");
    calm.recheck = Duration::from_secs(600);
    let running = world.controller(calm, prober.clone());
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    prober.0.store(true, Ordering::SeqCst);
    (world, running)
}

/// Until the status names the Secret as it is now.
async fn handed_over_at_once(world: &World) {
    let begun = Instant::now();
    let version = world.api::<Secret>("demo").get("k8s-secret").await.unwrap().resource_version();
    eventually("the new version", async || {
        let found = version_in_use(world).await;
        if found == version { Ok(()) } else { Err(found) }
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
}

async fn version_in_use(world: &World) -> Option<String> {
    let status = world.connector("demo", "k8s").await.status.unwrap();
    status.credential.map(|credential| credential.resource_version)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_deleted_is_handed_over_at_once_when_it_is_back_even_if_the_target_hangs() {
    let (world, _running) = with_a_target_that_hangs().await;
    world.delete::<Secret>("demo", "k8s-secret").await;
    eventually("no version", async || version_in_use(&world).await.is_none()).await;
    world.apply(&bearer_secret("demo", "k8s-secret", "two")).await;
    handed_over_at_once(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_as_large_as_it_may_be_is_rotated_like_any_other() {
    let (world, _running) = with_a_target_that_hangs().await;
    let large = "x".repeat(900 << 10);
    for token in ["two", "three", "four"] {
        let key = format!("stringData: {{more: {large}, ");
        world.apply(&bearer_secret("demo", "k8s-secret", token).replace("stringData: {", &key)).await;
        handed_over_at_once(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_handed_over_at_once_even_if_the_target_hangs() {
    let (world, _running) = with_a_target_that_hangs().await;
    let before = world.connector("demo", "k8s").await.status.unwrap();
    world.apply(&bearer_secret("demo", "k8s-secret", "two")).await;
    handed_over_at_once(&world).await;
    let after = world.connector("demo", "k8s").await.status.unwrap();
    assert_eq!(after.conditions, before.conditions, "nothing else is claimed before the probe has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_last_connector_goes_all_that_was_made_for_the_namespace() {
    let (world, _prober, _running) = World::with_controller().await;
    world.demo("demo", "first").await;
    world.apply(&bearer_secret("demo", "second-secret", "x")).await;
    world
        .apply(&crate::world::connector(
            "demo",
            "second",
            "{name: bearerTokenAuth, secretRef: {name: second-secret}}",
        ))
        .await;
    world.until_ready("demo", "first").await;
    world.until_ready("demo", "second").await;
    let secrets_of = |role: &Role| {
        role.rules
            .iter()
            .flatten()
            .filter_map(|rule| rule.resource_names.clone())
            .flatten()
            .collect::<Vec<_>>()
    };
    world
        .until_there::<Role>("demo", names::GATEWAY_SECRETS_ROLE, |role| {
            secrets_of(role) == ["k8s-secret", "second-secret"]
        })
        .await;

    world.delete::<Connector>("demo", "first").await;
    world
        .until_there::<Role>("demo", names::GATEWAY_SECRETS_ROLE, |role| {
            secrets_of(role) == ["second-secret"]
        })
        .await;
    world.delete::<Connector>("demo", "second").await;
    world.until_gone::<Role>("demo", names::GATEWAY_SECRETS_ROLE).await;
    world.until_gone::<RoleBinding>("demo", names::GATEWAY_SECRETS_ROLE).await;
    world.until_gone::<RoleBinding>("demo", names::USER_ROLE).await;
    let labels: BTreeMap<_, _> =
        world.api::<Secret>("demo").get("k8s-secret").await.unwrap().labels().clone();
    assert!(labels.is_empty(), "the user's Secret is left as it was");
}
