//! `deny.toml` against what is compiled, as far as that can be told without the network.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use spdx::{Expression, ParseMode};
use toml_edit::DocumentMut;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// None: of the registry.
    from: Option<String>,
}

/// What is compiled for this machine, build scripts and tests included. `cargo metadata` would also list what
/// only a feature that is off would need.
fn compiled() -> Vec<Package> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--workspace", "--all-features", "--locked", "--offline"]);
    cargo.args(["--edges", "normal,build,dev", "--prefix", "none", "--no-dedupe", "--format", "{p};{l}"]);
    let answer = cargo.current_dir(FOLDER).output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let lines: BTreeSet<String> =
        String::from_utf8(answer.stdout).unwrap().lines().map(str::to_owned).collect();
    let lines = lines.iter().filter(|line| !line.is_empty());
    let used: Vec<Package> = lines.map(|line| package(line)).collect();
    assert!(used.len() > 100, "{} packages", used.len());
    used
}

/// `name v1.2.3 (where from);licence`, or `(proc-macro)`.
fn package(line: &str) -> Package {
    // A package that depends on itself, for its tests, is marked.
    let (package, license) = line.trim_end_matches(" (*)").split_once(';').unwrap();
    let mut words = package.split(' ');
    let (name, version) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let from = words.find(|word| *word != "(proc-macro)").map(str::to_owned);
    Package { name, version, license: Some(license.to_owned()).filter(|text| !text.is_empty()), from }
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
        let ours = package.from.as_ref().is_none_or(|from| from.starts_with("(/") && !from.contains("://"));
        assert!(ours, "{} comes from {:?}", package.name, package.from);
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
