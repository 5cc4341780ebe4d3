//! `deny.toml` against what is compiled, as far as that can be told without the network.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;
use spdx::{Expression, ParseMode};
use toml_edit::DocumentMut;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

/// What is compiled for this machine, build scripts and tests included.
fn compiled() -> Vec<Package> {
    let host = Command::new("rustc").args(["--print", "host-tuple"]).output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--offline",
        "--filter-platform",
        host.trim(),
    ]);
    let answer = cargo.current_dir(FOLDER).output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let metadata: Metadata = serde_json::from_slice(&answer.stdout).unwrap();
    let used: BTreeSet<String> = metadata.resolve.nodes.into_iter().map(|node| node.id).collect();
    let used: Vec<Package> =
        metadata.packages.into_iter().filter(|package| used.contains(&package.id)).collect();
    assert!(used.len() > 100, "{} packages", used.len());
    used
}

fn rules() -> DocumentMut {
    std::fs::read_to_string(format!("{FOLDER}/deny.toml")).unwrap().parse().unwrap()
}

/// The names of a list of crates in `[bans]`.
fn crates(list: &str) -> BTreeSet<String> {
    let rules = rules();
    let list = rules["bans"][list].as_array().unwrap();
    list.iter().map(|entry| entry.as_inline_table().unwrap()["crate"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_dependency_has_an_allowed_license() {
    let rules = rules();
    let allowed: Vec<&str> =
        rules["licenses"]["allow"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    for package in compiled() {
        let text = package.license.unwrap_or_else(|| panic!("{} names no licence", package.name));
        let expression = Expression::parse_mode(&text, ParseMode::LAX).unwrap();
        let fits = expression.evaluate(|wanted| allowed.contains(&wanted.to_string().as_str()));
        assert!(fits, "{} has {text:?}: none of {allowed:?}", package.name);
    }
}

#[test]
fn no_dependency_is_banned_or_from_elsewhere_than_the_registry() {
    let banned = crates("deny");
    for package in compiled() {
        assert!(!banned.contains(&package.name), "{} is banned by deny.toml", package.name);
        let source = package.source.unwrap_or_else(|| "registry+ours".to_owned());
        assert!(source.starts_with("registry+"), "{} comes from {source}", package.name);
    }
}

#[test]
fn a_dependency_is_compiled_twice_only_if_that_is_written_down_and_true() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in compiled() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    let twice: BTreeSet<String> =
        versions.into_iter().filter(|(_, found)| found.len() > 1).map(|(name, _)| name).collect();
    assert_eq!(twice, crates("skip"), "left: compiled in several versions, right: `skip` in deny.toml");
}
