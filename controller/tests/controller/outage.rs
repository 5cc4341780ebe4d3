//! The API server goes away and comes back.

use std::sync::Arc;

use connectors_api::conditions::{self, reason};
use connectors_controller::Error;
use connectors_controller::prober::fake::FakeProber;

use crate::world::{World, bearer_secret, connector, settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_long_outage_ends_the_leader_and_a_restarted_one_goes_on() {
    let (mut world, _prober, mut running) = World::with_controller().await;
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;

    world.plane.stop_api_server().await;
    let ended = (&mut running.task).await.expect("no panic");
    assert!(matches!(ended, Err(Error::LeaseLost { .. })), "{ended:?}");
    // kubelet starts it again while the API server is still away: it waits.
    let again = world.controller(settings("one"), Arc::new(FakeProber::healthy()));
    world.plane.start_api_server().await.expect("the API server again");
    world.apply(&bearer_secret("demo", "late-secret", "x")).await;
    world.apply(&connector("demo", "late", "{name: bearerTokenAuth, secretRef: {name: late-secret}}")).await;
    world.until_ready("demo", "late").await;
    assert!(!again.task.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_during_a_short_outage_of_the_watches_is_seen_afterwards() {
    let mut world = World::new().await;
    let mut patient = settings("one");
    patient.lease_duration = std::time::Duration::from_secs(60);
    patient.lease_deadline = std::time::Duration::from_secs(50);
    patient.recheck = std::time::Duration::from_secs(600);
    let running = world.controller(patient, Arc::new(FakeProber::healthy()));
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    world.plane.stop_api_server().await;
    world.plane.start_api_server().await.expect("the API server again");
    world.delete::<k8s_openapi::api::core::v1::Secret>("demo", "k8s-secret").await;
    world.until_condition("demo", "k8s", conditions::SECRET_READY, "False", reason::SECRET_NOT_FOUND).await;
    assert!(!running.task.is_finished(), "the same process goes on");
}
