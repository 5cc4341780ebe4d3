//! Which crates a binary is made of, and which of them uses which: as cargo resolves the workspace for a
//! target, without macros, build scripts and tests, none of which ends up in the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use toml_edit::DocumentMut;

use crate::ran::answer;

/// Name and version.
pub type Id = (String, String);

pub struct Crate {
    /// An SPDX expression.
    pub license: Option<String>,
    /// SHA-256 of what the registry gave; none: of this workspace.
    pub checksum: Option<String>,
}

#[derive(Default)]
pub struct Linked {
    pub root: Id,
    pub crates: BTreeMap<Id, Crate>,
    pub uses: BTreeMap<Id, BTreeSet<Id>>,
}

/// What `package` links for `target`. Asked for the whole workspace, as it is built: together its members
/// have more features.
pub fn linked(folder: &Path, package: &str, target: &str) -> Result<Linked> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["tree", "--workspace", "--locked", "--edges", "normal,no-proc-macro", "--target", target]);
    cargo.args(["--prefix", "depth", "--format", "{p};{l}"]).current_dir(folder);
    let tree = parse(&answer(&mut cargo)?)?;
    let mut linked =
        below(&tree, package).with_context(|| format!("the workspace has no package {package}"))?;
    let lock = std::fs::read_to_string(folder.join("Cargo.lock")).context("read Cargo.lock")?;
    let checksums = checksums(&lock)?;
    for (id, one) in &mut linked.crates {
        one.checksum = checksums.get(id).cloned();
    }
    Ok(linked)
}

/// A line is `2anyhow v1.0.104;MIT OR Apache-2.0`, the number says how deep below the last line of a smaller
/// one. What is below a package that was there before is left out, and `(*)` says so.
fn parse(text: &str) -> Result<Linked> {
    let mut tree = Linked::default();
    let mut walk: Vec<Id> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (depth, id, license) = entry(line).with_context(|| format!("cargo tree says {line:?}"))?;
        walk.truncate(depth);
        if let Some(user) = walk.last() {
            tree.uses.entry(user.clone()).or_default().insert(id.clone());
        }
        tree.crates.insert(id.clone(), Crate { license, checksum: None });
        walk.push(id);
    }
    Ok(tree)
}

fn entry(line: &str) -> Option<(usize, Id, Option<String>)> {
    let name = line.find(|letter: char| !letter.is_ascii_digit())?;
    let (depth, rest) = line.split_at(name);
    let (package, license) = rest.trim_end_matches(" (*)").split_once(';')?;
    let mut words = package.split(' ');
    let id = (words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned());
    // How old crates write OR.
    let license = license.replace('/', " OR ");
    Some((depth.parse().ok()?, id, Some(license).filter(|text| !text.is_empty())))
}

/// The part of the tree that a package needs, itself included.
fn below(tree: &Linked, package: &str) -> Option<Linked> {
    let root = tree.crates.keys().find(|(name, _)| name == package)?.clone();
    let mut linked = Linked { root: root.clone(), ..Linked::default() };
    let mut waiting = vec![root];
    while let Some(id) = waiting.pop() {
        if linked.crates.contains_key(&id) {
            continue;
        }
        let uses = tree.uses.get(&id).cloned().unwrap_or_default();
        waiting.extend(uses.iter().cloned());
        linked
            .crates
            .insert(id.clone(), Crate { license: tree.crates.get(&id)?.license.clone(), checksum: None });
        linked.uses.insert(id, uses);
    }
    Some(linked)
}

fn checksums(lock: &str) -> Result<BTreeMap<Id, String>> {
    let lock: DocumentMut = lock.parse().context("Cargo.lock")?;
    let packages = lock
        .get("package")
        .and_then(|list| list.as_array_of_tables())
        .context("Cargo.lock has no package")?;
    let text = |package: &toml_edit::Table, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    let entry =
        |package| Some(((text(package, "name")?, text(package, "version")?), text(package, "checksum")?));
    Ok(packages.iter().filter_map(entry).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        (name.to_owned(), "1.0.0".to_owned())
    }

    /// `b` is below `a`; what it needs itself was told in another member's tree.
    const TREE: &str = "
0other v1.0.0 (/w/other);Apache-2.0
1b v1.0.0;MIT/Apache-2.0
2c v1.0.0;
2d v1.0.0;MIT
1e v1.0.0;MIT

0a v1.0.0 (/w/a);Apache-2.0
1b v1.0.0;MIT/Apache-2.0 (*)
";

    #[test]
    fn a_package_links_what_is_below_it_wherever_that_was_told() {
        let linked = below(&parse(TREE).unwrap(), "a").unwrap();
        assert_eq!(linked.root, id("a"));
        assert_eq!(linked.crates.keys().cloned().collect::<Vec<_>>(), ["a", "b", "c", "d"].map(id));
        assert_eq!(linked.uses[&id("b")], BTreeSet::from([id("c"), id("d")]));
        assert_eq!(linked.crates[&id("b")].license.as_deref(), Some("MIT OR Apache-2.0"));
        assert_eq!(linked.crates[&id("c")].license, None);
    }

    #[test]
    fn a_package_that_is_not_there_and_a_line_that_is_none_are_told() {
        assert!(below(&parse(TREE).unwrap(), "z").is_none());
        assert!(parse("warning: something").is_err());
    }

    #[test]
    fn checksums_are_of_what_comes_from_a_registry() {
        let lock = r#"
            version = 4
            [[package]]
            name = "a"
            version = "1.0.0"
            [[package]]
            name = "b"
            version = "1.0.0"
            checksum = "12ab"
        "#;
        assert_eq!(checksums(lock).unwrap(), BTreeMap::from([(id("b"), "12ab".to_owned())]));
    }
}
