//! An API server that answers some requests late, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use connectors_controller::prober::fake::FakeProber;
use connectors_testenv::eventually;
use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::between;
use crate::world::{World, bearer_secret, connector, settings};

const AUTH: &str = "{name: bearerTokenAuth, secretRef: {name: k8s-secret}}";

/// Until the status of `demo/k8s` has the new version.
async fn rotate(world: &World, token: &str) -> Duration {
    world.apply(&bearer_secret("demo", "k8s-secret", token)).await;
    let begun = Instant::now();
    let version = world.api::<Secret>("demo").get("k8s-secret").await.unwrap().resource_version();
    eventually("the new version", async || {
        let status = world.connector("demo", "k8s").await.status.unwrap();
        let found = status.credential.map(|credential| credential.resource_version);
        if found == version { Ok(()) } else { Err(found) }
    })
    .await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_does_not_wait_for_an_event_that_nobody_takes() {
    let world = World::new().await;
    let client = between::client(world.controllers_client(), |_, path| async move {
        if path.ends_with("/events") {
            std::future::pending::<()>().await;
        }
        None
    });
    let _running = world.controller_by(client, settings("one"), Arc::new(FakeProber::healthy()));
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    let took = rotate(&world, "two").await;
    assert!(took < Duration::from_secs(6), "the rotation took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_never_answered_is_given_up_and_keeps_nobody_from_the_lock() {
    let world = World::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let client = between::client(world.controllers_client(), move |method, path| {
        let first = method == Method::POST
            && path.ends_with("/demo/roles")
            && counted.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            None
        }
    });
    let _running = world.controller_by(client, settings("one"), Arc::new(FakeProber::healthy()));
    world.demo("demo", "k8s").await;
    eventually("a Role that is asked for", async || asked.load(Ordering::Relaxed) > 0).await;
    world.apply(&connector("demo", "other", AUTH)).await;
    world.until_ready("demo", "other").await;
    world.until_ready("demo", "k8s").await;
}

/// Counts itself while it is there.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>, most: &AtomicUsize) -> Open {
        most.fetch_max(count.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        Open(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_answers_about_secrets_and_connectors_of_a_namespace_are_waited_for_at_a_time() {
    let world = World::new().await;
    let most: [Arc<AtomicUsize>; 2] = Default::default();
    let [reads, writes] = most.clone();
    let open: [Arc<AtomicUsize>; 2] = Default::default();
    let client = between::client(world.controllers_client(), move |method, path| {
        let [read, written] = &open;
        let held = match method {
            Method::GET if path.contains("/many/secrets/") => Some(Open::new(read, &reads)),
            Method::PATCH if path.contains("/many/connectors/") => Some(Open::new(written, &writes)),
            _ => None,
        };
        async move {
            if let Some(held) = held {
                tokio::time::sleep(Duration::from_millis(100)).await;
                drop(held);
            }
            None
        }
    });
    let _running = world.controller_by(client, settings("one"), Arc::new(FakeProber::healthy()));
    world.demo("many", "c0").await;
    let many: Vec<String> = (1..20).map(|at| connector("many", &format!("c{at}"), AUTH)).collect();
    world.apply(&many.join("\n---\n")).await;
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    for at in 0..20 {
        world.until_ready("many", &format!("c{at}")).await;
    }
    assert_eq!(most.map(|most| most.load(Ordering::Relaxed)), [2, 2]);
}
