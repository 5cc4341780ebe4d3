//! A bill of materials as CycloneDX 1.5 has it, in JSON. The same content is the same text.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::crates::{Crate, Id, Linked};
use crate::debian::Package;

/// `time` is when it was made, as RFC 3339 has it.
pub fn cyclone_dx(linked: &Linked, system: &BTreeSet<Package>, rust: &str, time: &str) -> Result<Value> {
    let root = linked.crates.get(&linked.root).context("the root is one of the crates")?;
    let mut product = library(&linked.root, root);
    product.insert("type".to_owned(), json!("application"));
    let standard = json!({
        "type": "library",
        "bom-ref": format!("rust-std@{rust}"),
        "name": "rust-std",
        "version": rust,
        "description": "Rust's standard library",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
    });
    let crates = linked.crates.iter().filter(|(id, _)| **id != linked.root);
    let crates = crates.map(|(id, one)| Value::Object(library(id, one)));
    let components: Vec<Value> = crates.chain([standard]).chain(system.iter().map(installed)).collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": time, "component": product},
        "components": components,
        "dependencies": dependencies(linked, system, rust),
    }))
}

/// Who uses what. Debian's packages and the standard library are the product's as a whole.
fn dependencies(linked: &Linked, system: &BTreeSet<Package>, rust: &str) -> Vec<Value> {
    let whole = || system.iter().map(package_url).chain([format!("rust-std@{rust}")]);
    let entry = |(id, uses): (&Id, &BTreeSet<Id>)| {
        let mut uses: Vec<String> =
            uses.iter().map(|used| reference(used, linked.crates.get(used))).collect();
        if *id == linked.root {
            uses.extend(whole());
        }
        json!({"ref": reference(id, linked.crates.get(id)), "dependsOn": uses})
    };
    linked.uses.iter().map(entry).collect()
}

fn library(id: &Id, one: &Crate) -> Map<String, Value> {
    let reference = reference(id, Some(one));
    let mut library = Map::new();
    library.insert("type".to_owned(), json!("library"));
    library.insert("bom-ref".to_owned(), json!(reference));
    library.insert("name".to_owned(), json!(id.0));
    library.insert("version".to_owned(), json!(id.1));
    if let Some(license) = &one.license {
        library.insert("licenses".to_owned(), json!([{"expression": license}]));
    }
    if let Some(checksum) = &one.checksum {
        library.insert("hashes".to_owned(), json!([{"alg": "SHA-256", "content": checksum}]));
        library.insert("purl".to_owned(), json!(reference));
    }
    library
}

/// What comes from the registry has an address that scanners know, what is ours has none.
fn reference((name, version): &Id, one: Option<&Crate>) -> String {
    let ours = one.is_none_or(|one| one.checksum.is_none());
    if ours { format!("{name}@{version}") } else { format!("pkg:cargo/{name}@{}", escaped(version)) }
}

fn installed(package: &Package) -> Value {
    let url = package_url(package);
    json!({"type": "library", "bom-ref": url, "name": package.name, "version": package.version, "purl": url})
}

fn package_url(package: &Package) -> String {
    let Package { name, version, architecture, source, system: (system, release) } = package;
    format!(
        "pkg:deb/{system}/{}@{}?arch={architecture}&distro={release}&upstream={}",
        escaped(name),
        escaped(version),
        escaped(source)
    )
}

/// The letters that a package's name or version may have and a package URL may not.
fn escaped(text: &str) -> String {
    text.replace('+', "%2B").replace(':', "%3A")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn id(name: &str, version: &str) -> Id {
        (name.to_owned(), version.to_owned())
    }

    fn bom() -> Value {
        let (root, used) = (id("connectors-csi", "0.1.0"), id("zstd-sys", "2.1.2+zstd.1.5.7"));
        let license = Some("MIT".to_owned());
        let crates = BTreeMap::from([
            (root.clone(), Crate { license: license.clone(), checksum: None }),
            (used.clone(), Crate { license, checksum: Some("12ab".to_owned()) }),
        ]);
        let uses = BTreeMap::from([(root.clone(), BTreeSet::from([used.clone()])), (used, BTreeSet::new())]);
        let text = str::to_owned;
        let package = Package {
            name: text("libstdc++-12-dev"),
            version: text("1:12.2.0-14+deb12u1"),
            architecture: text("arm64"),
            source: text("gcc-12"),
            system: (text("debian"), text("debian-12")),
        };
        cyclone_dx(
            &Linked { root, crates, uses },
            &BTreeSet::from([package]),
            "1.95.0",
            "2026-11-28T12:00:00Z",
        )
        .unwrap()
    }

    #[test]
    fn what_is_from_elsewhere_has_an_address_that_is_escaped_and_a_checksum() {
        let bom = bom();
        let addresses: Vec<_> =
            bom["components"].as_array().unwrap().iter().map(|one| &one["purl"]).collect();
        let debian = "pkg:deb/debian/libstdc%2B%2B-12-dev@1%3A12.2.0-14%2Bdeb12u1?\
                      arch=arm64&distro=debian-12&upstream=gcc-12";
        assert_eq!(
            addresses,
            [&json!("pkg:cargo/zstd-sys@2.1.2%2Bzstd.1.5.7"), &Value::Null, &json!(debian)]
        );
        assert_eq!(bom["components"][0]["hashes"], json!([{"alg": "SHA-256", "content": "12ab"}]));
        assert_eq!(bom["metadata"]["component"]["purl"], Value::Null);
    }

    #[test]
    fn each_reference_of_a_dependency_is_a_component() {
        let bom = bom();
        let product = std::iter::once(&bom["metadata"]["component"]);
        let known: Vec<&Value> =
            product.chain(bom["components"].as_array().unwrap()).map(|one| &one["bom-ref"]).collect();
        for entry in bom["dependencies"].as_array().unwrap() {
            let named = std::iter::once(&entry["ref"]).chain(entry["dependsOn"].as_array().unwrap());
            named.for_each(|name| assert!(known.contains(&name), "{name}"));
        }
        assert_eq!(bom["dependencies"][0]["dependsOn"].as_array().unwrap().len(), 3);
    }
}
