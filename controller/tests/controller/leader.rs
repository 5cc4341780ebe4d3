//! Never two leaders, always one soon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors_api::names;
use connectors_controller::Error;
use connectors_controller::prober::fake::FakeProber;
use connectors_testenv::eventually;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::world::{World, settings};

const SYSTEM: &str = names::SYSTEM_NAMESPACE;

async fn holder(world: &World) -> String {
    let lease = world.api::<Lease>(SYSTEM).get_opt(names::CONTROLLER).await.expect("an answer");
    lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity).unwrap_or_default()
}

async fn until_held_by(world: &World, prefix: &str) {
    eventually(&format!("held by {prefix}"), async || {
        let holder = holder(world).await;
        if holder.starts_with(prefix) { Ok(()) } else { Err(holder) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_over_from_a_dead_one_after_its_lease_and_from_a_stopped_one_at_once() {
    let world = World::new().await;
    let (first, second) = (Arc::new(FakeProber::healthy()), Arc::new(FakeProber::healthy()));
    let one = world.controller(settings("one"), first.clone());
    until_held_by(&world, "one_").await;
    let two = world.controller(settings("two"), second.clone());
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    assert!(second.asked_about("k8s").is_empty(), "only the leader works");

    // As a kill does: nothing is released.
    drop(one);
    let killed = Instant::now();
    let worked = first.asked_about("k8s").len();
    until_held_by(&world, "two_").await;
    assert!(
        killed.elapsed() >= Duration::from_secs(2),
        "took over after {:?}, before the Lease had run out",
        killed.elapsed()
    );
    eventually(
        "the second works",
        async || if second.asked_about("k8s").is_empty() { Err(()) } else { Ok(()) },
    )
    .await;
    assert!(first.asked_about("k8s").len() <= worked + 1, "the dead one is dead");

    let third = Arc::new(FakeProber::healthy());
    let _three = world.controller(settings("three"), third);
    two.stop().await.expect("an orderly stop");
    let stopped = Instant::now();
    until_held_by(&world, "three_").await;
    assert!(
        stopped.elapsed() < Duration::from_millis(2500),
        "a released Lease is taken at once, not after {:?}",
        stopped.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_was_taken_stops_with_an_error() {
    let (world, prober, mut running) = World::with_controller().await;
    until_held_by(&world, "one_").await;
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    let stolen = json!({"spec": {"holderIdentity": "intruder"}});
    world
        .api::<Lease>(SYSTEM)
        .patch(names::CONTROLLER, &PatchParams::default(), &Patch::Merge(&stolen))
        .await
        .unwrap();
    let ended = (&mut running.task).await.expect("no panic");
    assert!(matches!(ended, Err(Error::LeaseLost { .. })), "{ended:?}");
    let worked = prober.asked_about("k8s").len();
    world.merge("demo", "k8s", json!({"spec": {"address": "https://other.example:6443"}})).await;
    assert_eq!(holder(&world).await, "intruder", "the Lease is not touched any more");
    assert_eq!(prober.asked_about("k8s").len(), worked, "and no work is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_on_the_lease_disturbs_nobody() {
    let (world, _prober, running) = World::with_controller().await;
    until_held_by(&world, "one_").await;
    for round in 0..5 {
        let label = json!({"metadata": {"labels": {"round": round.to_string()}}});
        world
            .api::<Lease>(SYSTEM)
            .patch(names::CONTROLLER, &PatchParams::default(), &Patch::Merge(&label))
            .await
            .unwrap();
        let renewed =
            world.api::<Lease>(SYSTEM).get(names::CONTROLLER).await.unwrap().spec.unwrap().renew_time;
        eventually("a renewal", async || {
            let now =
                world.api::<Lease>(SYSTEM).get(names::CONTROLLER).await.unwrap().spec.unwrap().renew_time;
            if now == renewed { Err(now) } else { Ok(()) }
        })
        .await;
    }
    assert!(!running.task.is_finished());
    running.stop().await.expect("still leading, and released in order");
}
