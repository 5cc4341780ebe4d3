//! Connectors and classes as an API server might hand them over, up to the route of the gateway: an object that
//! cannot be read takes only itself out, and a route leads to the connector's own addresses.

use connectors_api::item::{Item, MAX_CONNECTOR};
use connectors_api::target::Target as Address;
use connectors_api::{Connector, ConnectorClass, rules};
use connectors_gateway::table::compile::{self, ClassState};

use super::parts;
use crate::Target;

pub const TARGET: Target = Target {
    name: "objects",
    run,
    words: &[
        "{\"metadata\":{\"name\":\"k8s\"",
        "\"namespace\":\"team\"",
        "\"spec\":{",
        "\"address\":\"https://target.example\"",
        "\"connectorClassName\":\"k8s\"",
        "\"auth\":{",
        "\"secretRef\":{\"name\":\"s\"}",
        "\"params\":[{\"name\":\"a\",\"value\":",
        "\"annotations\":{",
        "null",
        "[]",
        "{}",
        "\"\\u0000\"",
        "1e400",
        "-0",
        "}",
        ",",
        "\0",
        "\"address\":{\"type\":\"string\"}",
    ],
};

fn run(data: &[u8]) {
    let (connector, class) = parts(data);
    let class =
        serde_json::from_slice::<Item<ConnectorClass>>(class).ok().map(|class| class.bounded(1 << 20));
    let Ok(connector) = serde_json::from_slice::<Item<Connector>>(connector) else { return };
    let connector = connector.bounded(MAX_CONNECTOR);
    let Ok(connector) = connector.read() else { return };
    let state = class.clone().map(ClassState::new);
    let Ok(route) = compile::route(connector, state.as_ref()) else { return };
    let class = class.as_ref().and_then(|class| class.read().ok()).expect("a route has a class");
    let written: Vec<Address> = rules::addresses(connector, class)
        .into_iter()
        .map(|address| Address::parse(address).unwrap())
        .collect();
    assert!(!route.targets.is_empty());
    assert!(
        route.targets.iter().all(|target| written.contains(target)),
        "{:?} of {written:?}",
        route.targets
    );
    assert_eq!(route.connector.name, connector.metadata.name.as_deref().unwrap_or_default());
}
