//! One user nests JSON deeper than a reader takes: only that Connector suffers, also when the controller
//! starts anew.

use std::sync::Arc;

use connectors_api::conditions::reason;
use connectors_controller::prober::fake::FakeProber;
use connectors_testenv::deep;
use connectors_testenv::eventually;

use crate::world::{World, bearer_secret, connector, settings};

const AUTH: &str = "{name: bearerTokenAuth, secretRef: {name: k8s-secret}}";

/// Status and reason of Ready, read by kubectl: ours could not.
async fn ready(world: &World, name: &str) -> String {
    let path =
        r#"jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.reason}: {.message}{end}"#;
    let output =
        world.plane.kubectl(&["get", "connector", name, "-n", "demo", "-o", path]).await.expect("kubectl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn until_ready_says(world: &World, name: &str, words: &str) {
    eventually(&format!("{name}: {words}"), async || {
        let told = ready(world, name).await;
        if told.contains(words) { Ok(()) } else { Err(told) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_nested_too_deep_is_told_so_and_holds_up_nobody() {
    let world = World::new().await;
    world.namespace("demo", "").await;
    world.apply(&bearer_secret("demo", "k8s-secret", "one")).await;
    let before = world.controller(settings("one"), Arc::new(FakeProber::healthy()));
    for depth in [200, 5_000] {
        for place in deep::UNREAD.iter().chain([&deep::READ]) {
            deep::create(&world.plane, "demo", place, depth).await.expect("created");
        }
    }
    world.apply(&connector("demo", "sound", AUTH)).await;
    world.until_ready("demo", "sound").await;
    for depth in [200, 5_000] {
        let unreadable = format!(
            "False {}: the connector cannot be read: it is nested deeper than 128 levels",
            reason::INVALID_PARAMETERS
        );
        until_ready_says(&world, &format!("{}-{depth}", deep::READ), &unreadable).await;
        for place in deep::UNREAD {
            until_ready_says(&world, &format!("{place}-{depth}"), "True").await;
        }
    }

    before.stop().await.expect("stopped");
    let _after = world.controller(settings("two"), Arc::new(FakeProber::healthy()));
    world.apply(&connector("demo", "later", AUTH)).await;
    world.until_ready("demo", "later").await;
}
