//! Attributes of volumes: `key=value` a line, as a Pod would write them.

use std::collections::BTreeMap;

use connectors_api::attributes;

use super::text;
use crate::Target;

pub const TARGET: Target = Target {
    name: "attributes",
    run,
    words: &[
        "connector.name=",
        "connector.namespace=",
        "connectors=",
        "configuration.names=",
        "configuration.params=",
        "token.expiration=",
        "\n",
        ",",
        "team/k8s",
        "k8s",
        "-k8s",
        "30m",
        "1h",
        "{\"kubeconfig\":{\"login\":\"file\"}}",
        "!",
        "../",
        "kubeconfig",
    ],
};

fn run(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let given: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let Ok(read) = attributes::parse(&given, "team") else { return };
    assert!((1..=16).contains(&read.connectors.len()));
    let twice = (1..read.connectors.len()).any(|at| read.connectors[..at].contains(&read.connectors[at]));
    assert!(!twice, "a connector stands there twice");
    let plain = |name: &String| !name.is_empty() && name.trim() == name && !name.contains(',');
    assert!(read.include.iter().chain(&read.exclude).all(plain), "{:?} {:?}", read.include, read.exclude);
    if let Some(expiration) = read.expiration {
        assert!((600..=1800).contains(&expiration.as_secs()), "{expiration:?}");
    }
}
