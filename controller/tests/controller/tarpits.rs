//! Targets of one tenant that never answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use connectors_api::names;
use connectors_api::probe::{ProbeReport, ProbeRequest};
use connectors_controller::prober::fake::healthy;
use connectors_controller::prober::{ProbeError, Prober};
use connectors_testenv::eventually;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::world::{World, bearer_secret, connector, settings};

/// Never answers for one namespace, at once for all others.
struct Tarpits;

#[async_trait]
impl Prober for Tarpits {
    async fn probe(&self, request: &ProbeRequest) -> Result<ProbeReport, ProbeError> {
        if request.namespace == "tarpits" { std::future::pending().await } else { Ok(healthy()) }
    }

    fn trust(&self, _: Vec<Vec<u8>>) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_targets_that_never_answer_delay_nobody_elses_first_check_or_rotation() {
    let world = World::new().await;
    world.demo("tarpits", "first").await;
    let auth = "{name: bearerTokenAuth, secretRef: {name: k8s-secret}}";
    let many: Vec<String> = (0..300).map(|at| connector("tarpits", &format!("tarpit-{at}"), auth)).collect();
    world.apply(&many.join("\n---\n")).await;
    let _running = world.controller(settings("one"), Arc::new(Tarpits));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let begun = Instant::now();
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "the first check took {:?}", begun.elapsed());
    let begun = Instant::now();
    rotate(&world).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "the rotation took {:?}", begun.elapsed());
}

/// Until the status has the new version.
async fn rotate(world: &World) {
    world.apply(&bearer_secret("demo", "k8s-secret", "two")).await;
    let version = world.api::<Secret>("demo").get("k8s-secret").await.unwrap().resource_version();
    eventually("the new version", async || {
        let status = world.connector("demo", "k8s").await.status.unwrap();
        let found = status.credential.as_ref().map(|credential| credential.resource_version.clone());
        if found == version { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Is quick once, and from then on for as long as a probe may take.
#[derive(Default)]
struct Slower(AtomicUsize);

#[async_trait]
impl Prober for Slower {
    async fn probe(&self, _: &ProbeRequest) -> Result<ProbeReport, ProbeError> {
        if self.0.fetch_add(1, Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_secs(25)).await;
        }
        Ok(healthy())
    }

    fn trust(&self, _: Vec<Vec<u8>>) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_does_not_wait_for_a_probe_that_is_under_way() {
    let world = World::new().await;
    let prober = Arc::new(Slower::default());
    let _running = world.controller(settings("one"), prober.clone());
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    eventually("a second probe", async || prober.0.load(Ordering::Relaxed) > 1).await;
    let begun = Instant::now();
    rotate(&world).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "the rotation took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn service_and_access_do_not_wait_for_a_target() {
    let world = World::new().await;
    let _running = world.controller(settings("one"), Arc::new(Tarpits));
    world.demo("tarpits", "k8s").await;
    world.until_there::<Service>("tarpits", "c-k8s", |_| true).await;
    world.until_there::<RoleBinding>("tarpits", names::USER_ROLE, |_| true).await;
}

/// Takes its time.
struct Slow;

#[async_trait]
impl Prober for Slow {
    async fn probe(&self, _: &ProbeRequest) -> Result<ProbeReport, ProbeError> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(healthy())
    }

    fn trust(&self, _: Vec<Vec<u8>>) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_changes_faster_than_its_target_answers_keeps_no_status_old() {
    let world = World::new().await;
    let _running = world.controller(settings("one"), Arc::new(Slow));
    world.demo("demo", "k8s").await;
    let secrets = world.api::<Secret>("demo");
    let touched = async {
        for at in 0.. {
            let label = json!({"metadata": {"labels": {"at": format!("{at}")}}});
            secrets.patch("k8s-secret", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        () = touched => {}
        _ = world.until_ready("demo", "k8s") => {}
    }
}
