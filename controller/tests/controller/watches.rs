//! What the watches ask the API server for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use connectors_controller::prober::fake::FakeProber;

use crate::between;
use crate::world::{World, settings};

/// All of them go through this process's memory, whoever's they are.
#[tokio::test(flavor = "multi_thread")]
async fn no_watch_asks_for_the_values_of_secrets() {
    let world = World::new().await;
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = asked.clone();
    let client = between::client_by_head(world.controllers_client(), move |request| {
        let path = request.uri().path();
        if ["/api/v1/secrets", "/api/v1/namespaces"].contains(&path) {
            let watches = request.uri().query().unwrap_or_default().contains("watch=true");
            let accept = request.headers().get("accept").map(|accept| accept.to_str().unwrap());
            let of_metadata = accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
            noted.lock().unwrap().insert((path.to_owned(), watches, of_metadata));
        }
        std::future::ready(None)
    });
    let _running = world.controller_by(client, settings("one"), Arc::new(FakeProber::healthy()));
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    let each = |path: &str| [false, true].map(|watches| (path.to_owned(), watches, true));
    let expected: BTreeSet<_> =
        ["/api/v1/secrets", "/api/v1/namespaces"].into_iter().flat_map(each).collect();
    assert_eq!(*asked.lock().unwrap(), expected);
}
