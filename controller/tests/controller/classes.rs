//! The classes of the product where kubectl installs it: texts of a ConfigMap, each applied once.

use std::net::SocketAddr;
use std::sync::Arc;

use connectors_api::{ConnectorClass, names};
use connectors_controller::prober::fake::FakeProber;
use connectors_testenv::{ControlPlane, eventually};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::admin::{free_address, get};
use crate::world::{Running, World, config, done, settings};

const SYSTEM: &str = names::SYSTEM_NAMESPACE;

fn classes(world: &World) -> Api<ConnectorClass> {
    Api::all(world.client.clone())
}

fn shipped() -> String {
    std::fs::read_to_string(config("classes/k8s.yaml")).unwrap()
}

/// A cluster whose class k8s somebody else applied before.
async fn installed() -> (World, SocketAddr, Running) {
    let world = World::new().await;
    done(&world.plane, &["apply", "-k", &config("classes")]).await;
    let mut settings = settings("one");
    settings.admin_address = free_address().await;
    let admin = settings.admin_address;
    let running = world.controller(settings, Arc::new(FakeProber::healthy()));
    (world, admin, running)
}

/// The class once it is of another text than `before`, and which it is of.
async fn applied(world: &World, before: &str) -> (ConnectorClass, String) {
    eventually("the class is of the next text", async || {
        let class = world.class("k8s").await;
        let text = class.annotations().get(names::CLASS_TEXT_ANNOTATION).cloned();
        text.filter(|text| text != before).map(|text| (class, text))
    })
    .await
}

async fn put(world: &World, texts: Value) {
    let patch = Patch::Merge(json!({"data": texts}));
    let configmaps = world.api::<ConfigMap>(SYSTEM);
    configmaps.patch(names::CLASSES_CONFIGMAP, &PatchParams::default(), &patch).await.unwrap();
}

/// After this the controller has gone through the texts as they are now, with this result.
async fn looked(admin: SocketAddr, result: &str) {
    let line = format!("connectors_controller_reconciles_total{{kind=\"classes\",result=\"{result}\"}} ");
    let count = async || {
        let metrics = get(admin, "/metrics").await.unwrap_or_default();
        let value = metrics.lines().find_map(|metric| metric.strip_prefix(&line));
        value.and_then(|value| value.parse::<u64>().ok()).unwrap_or_default()
    };
    // The first may have begun before.
    let wanted = count().await + 2;
    eventually(&format!("two looks that end with {result}"), async || count().await >= wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_installs_all_on_a_new_cluster_and_the_controller_brings_the_class() {
    let plane = ControlPlane::start().await.unwrap();
    let world = World { client: plane.client(), plane };
    let running = world.controller(settings("one"), Arc::new(FakeProber::healthy()));
    done(&world.plane, &["apply", "-k", &config("default")]).await;
    let class = eventually("the class", async || classes(&world).get_opt("k8s").await.unwrap_or(None)).await;
    let text: ConnectorClass = serde_yaml_ng::from_str(&shipped()).unwrap();
    assert_eq!(class.spec, text.spec);
    assert_eq!(class.labels(), text.labels());
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    assert!(!running.task.is_finished(), "it waited for rights and kinds and did not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_changes_stays_until_an_upgrade_brings_another_text() {
    let (world, admin, _running) = installed().await;
    let (class, first) = applied(&world, "").await;
    let description = |class: &ConnectorClass| class.spec.address.as_ref().unwrap().description.clone();
    let original = description(&class);

    let change =
        json!({"spec": {"address": {"description": "ask team a"}}, "metadata": {"labels": {"team": "a"}}});
    classes(&world).patch("k8s", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    looked(admin, "ok").await;
    assert_eq!(description(&world.class("k8s").await).as_deref(), Some("ask team a"));

    put(&world, json!({"k8s.yaml": format!("# of the next version\n{}", shipped())})).await;
    let (upgraded, _) = applied(&world, &first).await;
    assert_eq!(description(&upgraded), original);
    assert_eq!(upgraded.labels().get("team").map(String::as_str), Some("a"), "what is not the text's stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_no_class_or_of_a_class_of_others_changes_nothing() {
    let (world, admin, running) = installed().await;
    let (before, _) = applied(&world, "").await;
    put(&world, json!({"k8s.yaml": "spec: {"})).await;
    looked(admin, "text").await;
    let git =
        "{apiVersion: connectors.alauda.io/v1alpha1, kind: ConnectorClass, metadata: {name: git}, spec: {}}";
    put(&world, json!({"git.yaml": git, "k8s.yaml": null})).await;
    looked(admin, "api").await;
    assert!(classes(&world).get_opt("git").await.unwrap().is_none(), "the role names k8s alone");
    let after = world.class("k8s").await;
    assert_eq!((&after.spec, after.annotations()), (&before.spec, before.annotations()));
    assert!(!running.task.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_text_a_deleted_class_does_not_come_back() {
    let (world, admin, _running) = installed().await;
    let (_, text) = applied(&world, "").await;
    classes(&world).delete("k8s", &DeleteParams::default()).await.unwrap();
    let back = async || classes(&world).get_opt("k8s").await.unwrap();
    let class = eventually("the class is back, as its text is there", back).await;
    assert_eq!(class.annotations()[names::CLASS_TEXT_ANNOTATION], text);

    world.delete::<ConfigMap>(SYSTEM, names::CLASSES_CONFIGMAP).await;
    classes(&world).delete("k8s", &DeleteParams::default()).await.unwrap();
    looked(admin, "ok").await;
    assert!(classes(&world).get_opt("k8s").await.unwrap().is_none());
}
