//! The ConfigMap that Flux reads: follows the connector CA, is never somebody else's, and is there only where
//! operators want it. With the rights and the admission policy of config/rbac/flux.

use std::sync::Arc;

use connectors_api::{Connector, names};
use connectors_controller::prober::fake::FakeProber;
use connectors_testenv::eventually;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::world::{Running, World, settings};

const SYSTEM: &str = names::SYSTEM_NAMESPACE;

async fn with_flux() -> (World, Arc<FakeProber>, Running) {
    let world = World::new().await;
    let folder = format!("{}/../config/rbac/flux", env!("CARGO_MANIFEST_DIR"));
    let output = world.plane.kubectl(&["apply", "--server-side", "-k", &folder]).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut wanted = settings("one");
    wanted.flux_configmaps = true;
    let prober = Arc::new(FakeProber::healthy());
    let running = world.controller(wanted, prober.clone());
    (world, prober, running)
}

fn value(configmap: &ConfigMap, key: &str) -> Option<String> {
    configmap.data.as_ref()?.get(key).cloned()
}

async fn bundle(world: &World) -> Option<String> {
    let published = world.api::<ConfigMap>(SYSTEM).get_opt(names::CA_BUNDLE_CONFIGMAP).await.unwrap();
    value(&published?, names::CA_BUNDLE_KEY)
}

/// After these the controller has looked at the Connector again, with nothing to do.
async fn looks(prober: &FakeProber, more: usize) {
    let wanted = prober.asked_about("k8s").len() + more;
    eventually("more looks", async || {
        let count = prober.asked_about("k8s").len();
        if count >= wanted { Ok(()) } else { Err(count) }
    })
    .await;
}

fn trusted(connector: &Connector) -> Option<String> {
    connector.status.as_ref()?.proxy.as_ref()?.http_address.as_ref()?.ca_certs.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_finds_address_audience_and_ca_beside_the_service_and_nothing_is_written_twice() {
    let (world, prober, _running) = with_flux().await;
    world.demo("demo", "k8s").await;
    let connector = world.until_ready("demo", "k8s").await;
    let made = world.until_there::<ConfigMap>("demo", "c-k8s", |_| true).await;
    let published = bundle(&world).await;
    assert!(published.is_some());
    for (key, expected) in [
        ("provider", Some("generic")),
        ("address", Some("https://c-k8s.demo.svc")),
        ("audiences", Some(names::AUDIENCE)),
        ("ca.crt", published.as_deref()),
        ("serviceAccountName", None),
    ] {
        assert_eq!(value(&made, key).as_deref(), expected, "{key}");
    }
    assert!(made.labels().get(names::MANAGED_BY_LABEL).is_some_and(|by| by == names::CONTROLLER));
    let owner = &made.owner_references()[0];
    assert_eq!((owner.kind.as_str(), Some(&owner.uid)), ("Connector", connector.metadata.uid.as_ref()));
    looks(&prober, 4).await;
    let later = world.api::<ConfigMap>("demo").get("c-k8s").await.unwrap();
    assert_eq!(later.resource_version(), made.resource_version());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_reaches_flux_and_the_status_and_what_a_tenant_added_stays() {
    let (world, _prober, _running) = with_flux().await;
    world.demo("demo", "k8s").await;
    let made = world.until_there::<ConfigMap>("demo", "c-k8s", |_| true).await;
    let account = json!({"data": {"serviceAccountName": "deployer", "address": "https://elsewhere.example"}});
    let configmaps = world.api::<ConfigMap>("demo");
    configmaps.patch("c-k8s", &PatchParams::default(), &Patch::Merge(&account)).await.unwrap();
    world
        .until_there::<ConfigMap>("demo", "c-k8s", |now| value(now, "address") == value(&made, "address"))
        .await;

    world.delete::<Secret>(SYSTEM, names::ROOT_CA_SECRET).await;
    let grown = |now: &ConfigMap| value(now, "ca.crt").is_some_and(|pem| pem.matches("BEGIN").count() == 2);
    let renewed = world.until_there::<ConfigMap>("demo", "c-k8s", grown).await;
    assert_eq!(value(&renewed, "ca.crt"), bundle(&world).await);
    assert_eq!(value(&renewed, "serviceAccountName").as_deref(), Some("deployer"));
    let told = eventually("the CA in the status", async || {
        let connector = world.connector("demo", "k8s").await;
        if trusted(&connector) == value(&renewed, "ca.crt") { Ok(connector) } else { Err(connector.status) }
    })
    .await;
    let address = told.status.unwrap().proxy.unwrap().http_address.unwrap();
    assert_eq!(address.url.as_deref(), Some("http://c-k8s.demo.svc.cluster.local"));
    assert_eq!(address.audience.as_deref(), Some(names::AUDIENCE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configmap_of_somebody_else_is_never_touched_and_ready_tells_of_it() {
    let (world, _prober, _running) = with_flux().await;
    world.namespace("demo", "").await;
    world
        .apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: c-k8s, namespace: demo}, data: {address: theirs}}")
        .await;
    let before = world.api::<ConfigMap>("demo").get("c-k8s").await.unwrap();
    world.demo("demo", "k8s").await;
    eventually("a warning", async || {
        let ready = world.until_ready("demo", "k8s").await;
        let message = crate::world::condition(&ready, "Ready").and_then(|ready| ready.message);
        if message.as_ref().is_some_and(|text| text.contains("ConfigMap \"c-k8s\"")) {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await;
    assert_eq!(world.api::<ConfigMap>("demo").get("c-k8s").await.unwrap(), before);

    world.delete::<ConfigMap>("demo", "c-k8s").await;
    world.until_there::<ConfigMap>("demo", "c-k8s", |now| value(now, "provider").is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_with_the_proxy_of_the_class() {
    let (world, _prober, _running) = with_flux().await;
    world
        .apply("{apiVersion: connectors.alauda.io/v1alpha1, kind: ConnectorClass, metadata: {name: bare}, spec: {}}")
        .await;
    world.demo("demo", "k8s").await;
    world.until_there::<ConfigMap>("demo", "c-k8s", |_| true).await;
    world.merge("demo", "k8s", json!({"spec": {"connectorClassName": "bare"}})).await;
    world.until_gone::<ConfigMap>("demo", "c-k8s").await;
}

/// Neither does the controller need a right for it: it has none here.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_there_is_none_but_the_status_tells_the_same() {
    let (world, prober, _running) = World::with_controller().await;
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    looks(&prober, 2).await;
    assert!(world.api::<ConfigMap>("demo").get_opt("c-k8s").await.unwrap().is_none());
    let published = bundle(&world).await;
    assert!(published.is_some());
    assert_eq!(trusted(&world.connector("demo", "k8s").await), published);
}
