//! Events on a Connector: each change is told, and no tenant's changes fill etcd or the controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use connectors_api::Connector;
use connectors_api::conditions::{self, reason};
use connectors_api::probe::ProbeReport;
use connectors_controller::prober::fake::{FakeProber, healthy};
use connectors_controller::settings::Settings;
use connectors_controller::status::no;
use connectors_testenv::eventually;
use http::Method;
use k8s_openapi::api::events::v1::Event;

use crate::between;
use crate::world::{World, connector, settings};

const NO_CLASS: &str = "{name: bearerTokenAuth, secretRef: {name: k8s-secret}}";

async fn until_told(world: &World, namespace: &str, found: impl Fn(&Event) -> bool) -> Event {
    let events = world.api::<Event>(namespace);
    eventually(&format!("an Event in {namespace}"), async || {
        let all = events.list(&kube::api::ListParams::default()).await.unwrap().items;
        all.iter().find(|event| found(event)).cloned().ok_or(all)
    })
    .await
}

/// Made, deleted and made anew they are ever other objects.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_ever_new_connectors_are_few_for_their_namespace_and_take_none_from_another() {
    const MANY: usize = 150;
    let world = World::new().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let client = between::client(world.controllers_client(), move |method, path| {
        if method == Method::POST && path.ends_with("/many/events") {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        std::future::ready(None)
    });
    let usual = Settings { recheck: Duration::from_mins(1), ..settings("one") };
    let begun = Instant::now();
    let _running = world.controller_by(client, usual, Arc::new(FakeProber::healthy()));
    world.namespace("many", "").await;
    let many: Vec<String> = (0..MANY)
        .map(|at| connector("many", &format!("c{at}"), NO_CLASS).replace(": k8s,", ": missing,"))
        .collect();
    world.apply(&many.join("\n---\n")).await;
    let connectors = world.api::<Connector>("many");
    eventually("all of them looked at", async || {
        let all = connectors.list(&kube::api::ListParams::default()).await.unwrap().items;
        let waiting = all.iter().filter(|connector| connector.status.is_none()).count();
        if all.len() == MANY && waiting == 0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    world.demo("demo", "k8s").await;
    until_told(&world, "demo", |event| event.reason.as_deref() == Some(conditions::READY)).await;
    let (sent, most) = (sent.load(Ordering::Relaxed), 26 + begun.elapsed().as_secs() as usize);
    assert!((25..=most.min(MANY - 1)).contains(&sent), "{sent} Events were sent, {most} at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_taken_whatever_the_name_and_the_letters_of_its_message() {
    let world = World::new().await;
    let failing = || ProbeReport { liveness: no(reason::CONNECTION_FAILED, "é".repeat(1000)), ..healthy() };
    let _running = world.controller(settings("one"), Arc::new(FakeProber::new(move |_| Ok(failing()))));
    let name = "x".repeat(250);
    world.demo("demo", &name).await;
    let told = |event: &Event| event.reason.as_deref() == Some(reason::CONNECTION_FAILED);
    let event = until_told(&world, "demo", told).await;
    assert_eq!(event.note.unwrap(), "é".repeat(500));
    assert_eq!(event.regarding.unwrap().name.unwrap(), name);
}
