//! The Service of a Connector: never somebody else's, and corrected when ours drifts.

use connectors_api::conditions::{self, reason};
use connectors_api::names;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::world::{World, condition};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_somebody_else_is_never_touched_and_never_published() {
    let (world, _prober, _running) = World::with_controller().await;
    world.namespace("demo", "").await;
    world.apply("{apiVersion: v1, kind: Service, metadata: {name: c-k8s, namespace: demo}, spec: {type: ExternalName, externalName: theirs.example}}").await;
    let before = world.api::<Service>("demo").get("c-k8s").await.unwrap();
    world.demo("demo", "k8s").await;
    let taken = world
        .until_condition("demo", "k8s", conditions::PROXY_SERVICE_READY, "False", reason::NAME_TAKEN)
        .await;
    assert_eq!(condition(&taken, conditions::READY).unwrap().reason.as_deref(), Some(reason::NAME_TAKEN));
    assert!(taken.status.unwrap().proxy.is_none());
    assert_eq!(world.api::<Service>("demo").get("c-k8s").await.unwrap(), before);

    world.delete::<Service>("demo", "c-k8s").await;
    world.until_ready("demo", "k8s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_of_our_own_service_is_corrected() {
    let world = World::new().await;
    let mut calm = crate::world::settings("one");
    calm.recheck = std::time::Duration::from_secs(600);
    let _running = world
        .controller(calm, std::sync::Arc::new(connectors_controller::prober::fake::FakeProber::healthy()));
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    let services = world.api::<Service>("demo");
    let gateway = |service: &Service| {
        let spec = service.spec.clone().unwrap();
        spec.type_.as_deref() == Some("ExternalName")
            && spec.external_name.as_deref() == Some("connectors-gateway.connectors-system.svc.cluster.local")
            && spec.ports.unwrap().len() == 2
            && service.labels().get(names::MANAGED_BY_LABEL).is_some_and(|by| by == names::CONTROLLER)
    };
    for drift in [
        json!({"spec": {"externalName": "evil.example"}}),
        json!({"spec": {"ports": [{"name": "http", "port": 80}]}}),
        json!({"spec": {"type": "ClusterIP", "externalName": null}}),
        json!({"metadata": {"labels": {names::MANAGED_BY_LABEL: null}}}),
    ] {
        let drifted = services.patch("c-k8s", &PatchParams::default(), &Patch::Merge(&drift)).await.unwrap();
        assert!(!gateway(&drifted), "{drift}");
        world.until_there("demo", "c-k8s", gateway).await;
    }
    world.delete::<Service>("demo", "c-k8s").await;
    world.until_there("demo", "c-k8s", gateway).await;
    services
        .patch(
            "c-k8s",
            &PatchParams::default(),
            &Patch::Merge(json!({"metadata": {"labels": {"mine": "1"}}})),
        )
        .await
        .unwrap();
    services
        .patch(
            "c-k8s",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"externalName": "evil.example"}})),
        )
        .await
        .unwrap();
    let corrected = world.until_there("demo", "c-k8s", gateway).await;
    assert_eq!(corrected.labels().get("mine").map(String::as_str), Some("1"), "what others add stays");
}
