//! Never two leaders, always one soon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors_api::names;
use connectors_controller::Error;
use connectors_controller::gateway::fake::FakeProber;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::bench::{Bench, eventually, settings};

const SYSTEM: &str = names::SYSTEM_NAMESPACE;

async fn holder(bench: &Bench) -> String {
    let lease = bench.api::<Lease>(SYSTEM).get_opt(names::CONTROLLER).await.expect("an answer");
    lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity).unwrap_or_default()
}

async fn until_held_by(bench: &Bench, prefix: &str) {
    eventually(&format!("held by {prefix}"), async || {
        let holder = holder(bench).await;
        if holder.starts_with(prefix) { Ok(()) } else { Err(holder) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_over_from_a_dead_one_after_its_lease_and_from_a_stopped_one_at_once() {
    let bench = Bench::new().await;
    let (first, second) = (Arc::new(FakeProber::healthy()), Arc::new(FakeProber::healthy()));
    let one = bench.controller(settings("one"), first.clone());
    until_held_by(&bench, "one_").await;
    let two = bench.controller(settings("two"), second.clone());
    bench.demo("demo", "k8s").await;
    bench.until_ready("demo", "k8s").await;
    assert!(second.asked_about("k8s").is_empty(), "only the leader works");

    // As a kill does: nothing is released.
    drop(one);
    let killed = Instant::now();
    let worked = first.asked_about("k8s").len();
    until_held_by(&bench, "two_").await;
    assert!(killed.elapsed() >= Duration::from_secs(2), "took over after {:?}, before the Lease had run out", killed.elapsed());
    eventually("the second works", async || if second.asked_about("k8s").is_empty() { Err(()) } else { Ok(()) }).await;
    assert!(first.asked_about("k8s").len() <= worked + 1, "the dead one is dead");

    let third = Arc::new(FakeProber::healthy());
    let _three = bench.controller(settings("three"), third);
    two.stop().await.expect("an orderly stop");
    let stopped = Instant::now();
    until_held_by(&bench, "three_").await;
    assert!(
        stopped.elapsed() < Duration::from_millis(2500),
        "a released Lease is taken at once, not after {:?}",
        stopped.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_was_taken_stops_with_an_error() {
    let (bench, prober, mut running) = Bench::with_controller().await;
    until_held_by(&bench, "one_").await;
    bench.demo("demo", "k8s").await;
    bench.until_ready("demo", "k8s").await;
    let stolen = json!({"spec": {"holderIdentity": "intruder"}});
    bench.api::<Lease>(SYSTEM).patch(names::CONTROLLER, &PatchParams::default(), &Patch::Merge(&stolen)).await.unwrap();
    let ended = (&mut running.task).await.expect("no panic");
    assert!(matches!(ended, Err(Error::LeaseLost { .. })), "{ended:?}");
    let worked = prober.asked_about("k8s").len();
    bench.merge("demo", "k8s", json!({"spec": {"address": "https://other.example:6443"}})).await;
    assert_eq!(holder(&bench).await, "intruder", "the Lease is not touched any more");
    assert_eq!(prober.asked_about("k8s").len(), worked, "and no work is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_on_the_lease_disturbs_nobody() {
    let (bench, _prober, running) = Bench::with_controller().await;
    until_held_by(&bench, "one_").await;
    for round in 0..5 {
        let label = json!({"metadata": {"labels": {"round": round.to_string()}}});
        bench.api::<Lease>(SYSTEM).patch(names::CONTROLLER, &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
        let renewed = bench.api::<Lease>(SYSTEM).get(names::CONTROLLER).await.unwrap().spec.unwrap().renew_time;
        eventually("a renewal", async || {
            let now = bench.api::<Lease>(SYSTEM).get(names::CONTROLLER).await.unwrap().spec.unwrap().renew_time;
            if now == renewed { Err(now) } else { Ok(()) }
        })
        .await;
    }
    assert!(!running.task.is_finished());
    running.stop().await.expect("still leading, and released in order");
}
