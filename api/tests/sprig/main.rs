//! Every function that sprig has for such templates: each is here, or stands among those left out; and each
//! case comes out as Go and sprig themselves say (testenv/tools-sprig). Docs and corpus are held against both.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod differences;

use std::io::Write;
use std::process::{Command, Stdio};

use connectors_api::template::Template;
use differences::{REFUSED, RENDERS};
use serde::Deserialize;

const CASES: &str = include_str!("../corpora/sprig-cases.txt");
const CORPUS: &str = include_str!("../corpora/sprig.json");
const DOCS: &str = include_str!("../../../docs/classes.md");

#[derive(Deserialize)]
struct Corpus {
    names: Vec<String>,
    data: serde_json::Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    want: Option<String>,
    want_err: Option<String>,
}

/// What is to come out here; nothing for an error.
enum Expected<'a> {
    Text(&'a str),
    Error,
}
use Expected::{Error, Text};

impl Case {
    fn expected(&self) -> Expected<'_> {
        let mut rendered = RENDERS.iter().flat_map(|(_, cases)| cases.iter());
        let refused = REFUSED.iter().any(|(_, cases)| cases.contains(&self.template.as_str()));
        match (rendered.find(|(template, _)| *template == self.template), &self.want) {
            (Some((_, ours)), _) => Text(ours),
            (None, Some(want)) if !refused => Text(want),
            _ => Error,
        }
    }
}

fn corpus() -> Corpus {
    serde_json::from_str(CORPUS).expect("corpus")
}

fn render(text: &str, data: &serde_json::Value) -> Result<String, String> {
    Template::parse(text).and_then(|template| template.render(data)).map_err(|error| error.to_string())
}

/// Nothing if the case comes out as it must; else also the first of its parts that does not.
fn judge(case: &Case, data: &serde_json::Value) -> Option<String> {
    let ours = render(&case.template, data);
    let right = match case.expected() {
        Text(text) => ours.as_deref() == Ok(text),
        Error => ours.is_err(),
    };
    let go = case.want.as_ref().or(case.want_err.as_ref());
    let mut parts = case.template.split('|').zip(case.want.as_deref().unwrap_or_default().split('|'));
    let first = parts
        .find(|(part, want)| render(part, data).as_deref() != Ok(*want))
        .map(|(part, want)| format!("\n    {part} is {:?}, not {want:?}", render(part, data)));
    (!right).then(|| format!("{}: {ours:?}, not {go:?}{}", case.template, first.unwrap_or_default()))
}

/// Of each function: an ordinary one, one at an edge, and another.
const MIN_CASES: usize = 3;

/// None for a function that is there.
fn left_out(name: &str) -> Option<String> {
    let error = Template::parse(&format!("{{{{ {name} }}}}")).err()?.to_string();
    error.contains("is not defined").then_some(error)
}

#[test]
fn each_case_comes_out_as_in_go() {
    let Corpus { cases, data, .. } = corpus();
    let wrong: Vec<String> = cases.iter().filter_map(|case| judge(case, &data)).collect();
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_listed_difference_is_a_case_and_a_difference() {
    let cases = corpus().cases;
    let want = |template: &str| {
        let case = cases.iter().find(|case| case.template == template);
        case.unwrap_or_else(|| panic!("{template} is no case")).want.as_deref()
    };
    for template in REFUSED.iter().flat_map(|(_, cases)| cases.iter()) {
        assert!(want(template).is_some(), "Go refuses {template} too");
    }
    for (template, ours) in RENDERS.iter().flat_map(|(_, cases)| cases.iter()) {
        assert_ne!(want(template), Some(*ours), "{template}");
    }
}

/// Take anything and as much as they are given.
const NEVER_FAIL: &[&str] = &[
    "add", "addf", "all", "any", "cat", "coalesce", "html", "js", "println", "quote", "squote", "tuple",
    "urlquery",
];

fn calls(template: &str, name: &str) -> bool {
    template.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name)
}

#[test]
fn each_function_has_cases_and_fails_in_one() {
    let Corpus { names, cases, .. } = corpus();
    let mut wrong = Vec::new();
    for name in names.iter().filter(|name| left_out(name).is_none()) {
        let of: Vec<&Case> = cases.iter().filter(|case| calls(&case.template, name)).collect();
        let number: usize = of.iter().map(|case| case.template.matches(name.as_str()).count()).sum();
        let fails = of.iter().any(|case| case.want_err.is_some()) || NEVER_FAIL.contains(&name.as_str());
        if number < MIN_CASES || !fails {
            wrong.push(format!("{name}: {number} cases, fails in one: {fails}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_function_is_there_or_left_out_with_a_reason_and_the_docs_say_which() {
    let (there, not_there) = DOCS.split_once("Left out of sprig").expect("docs/classes.md has both tables");
    for name in corpus().names {
        let documented = format!("`{name}`");
        match left_out(&name) {
            None => assert!(there.contains(&documented), "docs/classes.md does not name {name}"),
            Some(error) => {
                assert!(error.contains(": it "), "{name} is left out without a reason: {error}");
                let documented = not_there.contains(&documented);
                assert!(documented, "docs/classes.md does not say why {name} is left out");
            }
        }
    }
}

#[test]
fn the_corpus_is_what_go_says_today() {
    let tool = connectors_testenv::tool("sprig-corpus").expect("Go builds the generator");
    let mut go = Command::new(tool).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = go.stdin.take().unwrap();
    let fed = std::thread::spawn(move || input.write_all(CASES.as_bytes()));
    let output = go.wait_with_output().unwrap();
    fed.join().unwrap().unwrap();
    assert!(
        String::from_utf8(output.stdout).unwrap() == CORPUS,
        "the cases have changed: run \
         \"$(cargo run --bin testenv -- tools sprig-corpus)\" <api/tests/corpora/sprig-cases.txt >api/tests/corpora/sprig.json"
    );
}
