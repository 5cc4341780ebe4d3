//! Connectors whose address leads back to a gateway: to this one, through another replica, or on to another
//! installation.

use std::sync::Arc;

use connectors_gateway::upstream::policy::Known;

use crate::target::{Target, field};
use crate::world::{SECRET, TOKEN, World, connector};

/// A connector of `world` that leads to the connector `target` of `next`, in reverse mode and as one of its
/// clients.
fn lead(world: &World, next: &World) {
    let address = format!("http://127.0.0.1:{}/namespaces/demo/connectors/target", next.port);
    world.apply(&connector("target", &address, "", TOKEN, ""));
}

/// What a client of `world` gets for a request to its connector, in reverse mode.
async fn asked(world: &World, arguments: &[&str]) -> (u16, String) {
    let login = format!("Authorization: Bearer {TOKEN}");
    world.direct("http://c-target.demo.svc/head", &[&["-H", &login], arguments].concat()).await
}

fn connections(world: &World) -> u64 {
    world.gateway.parts.metrics.connections.get()
}

#[tokio::test]
async fn a_connector_that_leads_to_itself_ends_after_one_round() {
    let world = World::new().await;
    lead(&world, &world);
    let (code, body) = asked(&world, &[]).await;
    assert_eq!(code, 508, "{body}");
    assert!(body.contains("has passed this gateway before"), "{body}");
    assert!(connections(&world) <= 3, "{} connections", connections(&world));
}

#[tokio::test]
async fn a_loop_through_another_replica_ends_as_well_and_upgrades_too() {
    let world = World::new().await;
    let replica = World::beside(&world).await;
    lead(&world, &replica);
    lead(&replica, &world);
    let upgrade = ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Key: eA=="];
    for arguments in [&[][..], &upgrade] {
        let (code, body) = asked(&world, arguments).await;
        assert_eq!(code, 508, "{body}");
    }
    assert!(connections(&world) + connections(&replica) <= 8);
}

#[tokio::test]
async fn gateways_of_two_installations_may_stand_behind_each_other() {
    // Also under one root.
    let near = World::new().await;
    let far = World::under_the_root_of(&near).await;
    let target = Target::http(&far.leaf(), false).await;
    far.connect("target", &target.url());
    lead(&near, &far);
    let (code, seen) = asked(&near, &[]).await;
    assert_eq!(code, 200, "{seen}");
    assert_eq!(field(&seen, "authorization"), Some(format!("Bearer {SECRET}").as_str()));
    let hops: Vec<&str> =
        seen.lines().filter_map(|line| line.strip_prefix("connectors-gateway-hops: ")).collect();
    assert_eq!(hops.len(), 2, "{seen}");
    assert_ne!(hops[0], hops[1]);
}

#[tokio::test]
async fn more_gateways_than_anybody_wants_are_a_loop() {
    let (world, target) = World::with_target(false).await;
    let hops =
        |count: usize| format!("connectors-gateway-hops: {}", vec!["0123456789abcdef"; count].join(", "));
    for (count, code) in [(7, 200), (8, 508), (1000, 508)] {
        let (found, body) = asked(&world, &["-H", &hops(count)]).await;
        assert_eq!(found, code, "{count}: {body}");
    }
    assert_eq!(target.seen.heads().len(), 1);
}

/// Before DNS by its names, after it by its addresses: then nothing is dialled at all.
#[tokio::test]
async fn the_gateway_does_not_dial_itself_by_any_name_or_address() {
    let world = World::with(|settings| settings.listeners.http.set_port(18_080)).await;
    let known = Known {
        services: vec!["127.1.2.3".parse().unwrap()],
        cluster: Some(Arc::default()),
        ..Known::default()
    };
    world.surroundings.store(Arc::new(known));
    world.apply(&connector("second", "https://a.example", "", SECRET, ""));
    for address in [
        "http://connectors-gateway.connectors-system.svc.cluster.local/namespaces/demo/connectors/target",
        "http://Connectors-Gateway.connectors-system.svc.",
        "https://connectors-gateway.connectors-system",
        "http://connectors-gateway",
        "http://connectors-gateway-admin.connectors-system.svc:9090",
        "http://c-target.demo.svc.cluster.local",
        "https://c-second.demo.svc",
        "http://127.0.0.1:18080",
        "http://localhost:18080",
        "http://127.1.2.3",
        "https://127.1.2.3:6443",
    ] {
        world.apply(&connector("target", address, "", SECRET, ""));
        let (code, body) = asked(&world, &[]).await;
        assert_eq!(code, 403, "{address}: {body}");
        assert!(body.contains("is this gateway itself: set spec.address"), "{address}: {body}");
    }
}
