//! `docs/csi-volumes.md` has a row for each refusal that the driver knows, with its code, and for no other.

use std::collections::BTreeMap;

use crate::folder;

/// What a row may say beside: kubelet's own words, gRPC's, what goes before another refusal, and what stands behind one.
const OTHERS: [&str; 5] = [
    "decoded message length",
    "what could be renewed was",
    "driver name connectors-csi",
    "… its latest change was not checked yet",
    "volume attribute \"token.expiration\"",
];

#[test]
fn the_page_of_volumes_has_each_refusal_with_its_code_and_no_other() {
    let read = |path: &str| std::fs::read_to_string(folder(path)).unwrap();
    let source = read("csi/src/error.rs");
    // What ends the driver's start is in its log alone.
    let (errors, _) = source.split_once("// Start-up.").unwrap();
    let codes = codes(&source);
    let mut refusals: Vec<(String, String)> =
        messages(errors).into_iter().map(|(name, said)| (said, codes[&name].clone())).collect();
    let attributes = messages(&read("api/src/attributes.rs"));
    // Of its attributes one stands for all.
    let named = |said: String| match said.strip_prefix("volume attribute \"…\"") {
        Some(rest) => format!("volume attribute \"connectors\"{rest}"),
        None => said,
    };
    refusals.extend(attributes.into_values().map(|said| (named(said), "InvalidArgument".to_owned())));
    assert!(refusals.len() > 30, "{refusals:?}");

    let page = read("docs/csi-volumes.md");
    let rows = rows(&page);
    for (said, code) in &refusals {
        let mut found = rows.iter().filter(|(words, _)| words.iter().any(|words| says(said, words)));
        assert!(found.any(|(_, codes)| codes.contains(code)), "no row for {code}: {said}");
    }
    let words = rows.iter().flat_map(|(words, _)| words);
    for words in words.filter(|words| !OTHERS.iter().any(|other| words.starts_with(other))) {
        assert!(refusals.iter().any(|(said, _)| says(said, words)), "nobody says {words}");
    }
}

/// By variant, what it says: `…` for each value.
fn messages(source: &str) -> BTreeMap<String, String> {
    let errors = source.split("#[error(").skip(1).filter(|rest| !rest.starts_with("transparent"));
    let named = errors.map(|rest| {
        let (attribute, variant) = rest.split_once(")]").unwrap();
        let name = variant.trim_start().split(|one: char| !one.is_alphanumeric()).next().unwrap();
        (name.to_owned(), plain(attribute))
    });
    named.collect()
}

/// The text of the first literal.
fn plain(attribute: &str) -> String {
    let text = attribute.split_once('"').unwrap().1.replace("\\\"", "\u{0}");
    let mut text = text.split('"').next().unwrap().replace("\\\n", "").replace('\u{0}', "\"");
    for (constant, value) in [("{CSI_DRIVER}", "connectors-csi"), ("{USER_ROLE}", "connectors-user")] {
        text = text.replace(constant, value);
    }
    let mut plain = String::new();
    for part in text.split('{') {
        match part.split_once('}') {
            Some((value, rest)) if value.ends_with(":?") => plain.push_str(&format!("\"…\"{rest}")),
            Some((_, rest)) => plain.push_str(&format!("…{rest}")),
            None => plain.push_str(part),
        }
    }
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// By variant, the code of `Error::code`.
fn codes(source: &str) -> BTreeMap<String, String> {
    let (_, body) = source.split_once("pub fn code(").unwrap();
    let (body, _) = body.split_once("\n    }\n").unwrap();
    let mut codes = BTreeMap::new();
    let mut names: Vec<&str> = Vec::new();
    for part in body.split("Error::").skip(1) {
        names.push(part.split(|one: char| !one.is_alphanumeric()).next().unwrap());
        if let Some((_, code)) = part.split_once("=> Code::") {
            let code = code.split(',').next().unwrap();
            codes.extend(names.drain(..).map(|name| (name.to_owned(), code.to_owned())));
        }
    }
    codes
}

/// The sentences of each row, and its codes.
fn rows(page: &str) -> Vec<(Vec<&str>, &str)> {
    let table = page.split("| the event says |").nth(1).unwrap().split("\n\n").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        (cells[0].split('`').skip(1).step_by(2).collect(), cells[1])
    })
    .collect()
}

/// Whether a sentence of the page, in which `…` is anything, is this one. What is quoted may be an example.
fn says(said: &str, words: &str) -> bool {
    let mut rest = said;
    for piece in words.split('…').map(str::trim).filter(|piece| !piece.is_empty()) {
        match rest.find(piece) {
            Some(place) => rest = &rest[place + piece.len()..],
            None => return false,
        }
    }
    words.starts_with('…') || said.starts_with(words.split('…').next().unwrap().trim_end())
}
