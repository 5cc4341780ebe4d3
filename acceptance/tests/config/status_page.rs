//! `docs/connector-status.md` has a row for each condition, reason and event that the code knows, and for no other.

use std::collections::BTreeSet;

use crate::folder;

#[test]
fn the_status_page_has_each_condition_and_each_reason_and_no_other() {
    let source = read("api/src/conditions.rs");
    let (conditions, rest) = source.split_once("pub mod reason {").unwrap();
    let (reasons, _) = rest.split_once("\n}\n").unwrap();
    let (conditions, reasons) = (constants(conditions), constants(reasons));
    assert!(conditions.len() > 8 && reasons.len() > 20, "{conditions:?} {reasons:?}");

    let page = read("docs/connector-status.md");
    assert_eq!(first_cells(&page, "Conditions"), conditions);
    assert_eq!(first_cells(&page, "Reasons"), reasons);
}

/// An event's reason is that of a condition, or one of these.
#[test]
fn the_status_page_has_each_event_whose_reason_is_its_own() {
    let page = read("docs/connector-status.md");
    let source = read("controller/src/events.rs");
    let (source, _) = source.split_once("#[cfg(test)]").unwrap();
    let others = ["True", "Reconcile", "Normal", "Warning"];
    let words = source.split('"').skip(1).step_by(2);
    let reasons = words.filter(|word| is_reason(word) && !others.contains(word));
    let mut events: BTreeSet<String> = reasons.map(str::to_owned).collect();
    events.insert("Ready".to_owned());
    assert_eq!(first_cells(&page, "Events"), events);
}

fn read(path: &str) -> String {
    std::fs::read_to_string(folder(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The values of `pub const NAME: &str = "value";`.
fn constants(source: &str) -> BTreeSet<String> {
    let declared = source.split("pub const ").skip(1).map(|rest| rest.split(';').next().unwrap());
    declared
        .filter(|one| one.contains(": &str"))
        .map(|one| one.split('"').nth(1).unwrap().to_owned())
        .collect()
}

/// `UpperCamelCase`, as reasons of Kubernetes are.
fn is_reason(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.chars().all(|character| character.is_ascii_alphanumeric())
}

/// What stands in backticks in the first cell of each row below this heading, each once.
fn first_cells(page: &str, heading: &str) -> BTreeSet<String> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut cells = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cell = row.split('|').nth(1).unwrap().trim();
        let name = cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        let name = name.unwrap_or_else(|| panic!("no name in backticks begins the row {row}"));
        assert!(cells.insert(name.to_owned()), "{name} has two rows");
    }
    cells
}
