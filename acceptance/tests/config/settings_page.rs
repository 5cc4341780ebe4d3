//! The settings that pages name are those of `docs/reference-settings.md`, which is made from the types.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::folder;

/// Each setting, such as `limits.streams`, with its default; none for those of a rule in a list.
pub fn settings() -> BTreeMap<String, Option<Value>> {
    let page = std::fs::read_to_string(folder("docs/reference-settings.md")).unwrap();
    let (page, _) = page.split_once("\n## Flags\n").unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let settings = rows.map(|row| {
        let quoted = |cell: usize| row.split('|').nth(cell).unwrap().split('`').nth(1);
        let default = quoted(3).map(|text| serde_yaml_ng::from_str(text).unwrap());
        (quoted(1).unwrap().to_owned(), default)
    });
    let settings: BTreeMap<String, Option<Value>> = settings.collect();
    assert!(settings.len() > 30, "{settings:?}");
    settings
}

/// Of a folder, with what is below it.
fn pages(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| pages(folder));
    files.into_iter().chain(below).filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect()
}

/// Words such as `limits.streams` or `gateway.settings.limits.streams`, if they begin with a group of settings.
fn named<'a>(text: &'a str, groups: &BTreeSet<&str>) -> Vec<&'a str> {
    let words =
        text.split(|sign: char| !sign.is_ascii_alphanumeric() && !['.', '_', '/', '-'].contains(&sign));
    let words =
        words.map(|word| word.strip_prefix("gateway.settings.").unwrap_or(word).trim_end_matches('.'));
    let setting = |word: &&str| {
        word.split_once('.')
            .is_some_and(|(group, key)| groups.contains(group) && !["rs", "md"].contains(&key))
    };
    words.filter(setting).collect()
}

/// What YAML among the text sets: the blocks whose keys are groups of settings.
fn set(text: &str, groups: &BTreeSet<&str>) -> Vec<String> {
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let blocks = blocks.filter_map(|block| serde_yaml_ng::from_str::<BTreeMap<String, Value>>(block).ok());
    let blocks = blocks.filter(|block| block.keys().all(|key| groups.contains(key.as_str())));
    let keys = blocks.flatten().flat_map(|(group, keys)| {
        let keys = keys.as_object().unwrap().keys().map(|key| format!("{group}.{key}"));
        keys.collect::<Vec<_>>()
    });
    keys.collect()
}

#[test]
fn every_setting_that_a_page_names_exists() {
    let settings = settings();
    let groups: BTreeSet<&str> = settings.keys().filter_map(|name| Some(name.split_once('.')?.0)).collect();
    let mut files = pages(Path::new(&folder("docs")));
    let others = ["README.md", "CONTRIBUTING.md", "load-tests/README.md", "charts/connectors/values.yaml"];
    files.extend(others.map(|path| PathBuf::from(folder(path))));
    let (mut words, mut blocks) = (0, 0);
    for file in files.iter().filter(|path| !path.ends_with("reference-settings.md")) {
        let text = std::fs::read_to_string(file).unwrap();
        let (named, set) = (named(&text, &groups), set(&text, &groups));
        for name in named.iter().copied().chain(set.iter().map(String::as_str)) {
            assert!(settings.contains_key(name), "{}: there is no setting {name}", file.display());
        }
        (words, blocks) = (words + named.len(), blocks + set.len());
    }
    assert!(words > 20 && blocks > 0, "{words} words, {blocks} keys in blocks");
}
