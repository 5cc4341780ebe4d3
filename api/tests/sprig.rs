//! Every function that sprig has for such templates: each is here, or stands among those left out; and each
//! case comes out as Go and sprig themselves say (testenv/tools-sprig). Docs and corpus are held against both.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::io::Write;
use std::process::{Command, Stdio};

use connectors_api::template::Template;
use serde::Deserialize;
use serde_json::json;

const CASES: &str = include_str!("corpora/sprig-cases.txt");
const CORPUS: &str = include_str!("corpora/sprig.json");
const DOCS: &str = include_str!("../../docs/classes.md");

#[derive(Deserialize)]
struct Corpus {
    names: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    want: Option<String>,
    #[serde(default)]
    fails: bool,
}

/// What differs on purpose: a part of the template, what comes out here, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("abbrev 5 \"h\u{e9}llo", "a cut inside of a character is an error, not half of a character"),
    (
        "{{ duration 95 }}",
        "a number that is written in the template counts as seconds; there it is an int and 0s",
    ),
];

fn corpus() -> Corpus {
    serde_json::from_str(CORPUS).expect("corpus")
}

fn render(text: &str) -> Result<String, String> {
    let data = json!({"text": "abc", "none": null, "number": 3});
    Template::parse(text).and_then(|template| template.render(&data)).map_err(|error| error.to_string())
}

/// None for a function that is there.
fn left_out(name: &str) -> Option<String> {
    let error = Template::parse(&format!("{{{{ {name} }}}}")).err()?.to_string();
    error.contains("is not defined").then_some(error)
}

#[test]
fn each_case_comes_out_as_in_go() {
    let mut wrong = Vec::new();
    for case in corpus().cases {
        let known = DIFFERENT.iter().any(|(part, _)| case.template.contains(part));
        let parts = case.template.split('|').zip(case.want.as_deref().unwrap_or_default().split('|'));
        let ours = render(&case.template);
        if (ours.as_ref().ok() == case.want.as_ref() && ours.is_err() == case.fails) == known {
            let first = parts
                .filter(|(part, want)| render(part).as_deref() != Ok(*want))
                .map(|(part, want)| format!("\n    {part} is {:?}, not {want:?}", render(part)));
            wrong.push(format!(
                "{}: {ours:?}, not {:?}{}",
                case.template,
                case.want,
                first.collect::<String>()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn each_function_is_there_with_a_case_or_left_out_with_a_reason_and_the_docs_say_which() {
    let (there, not_there) = DOCS.split_once("Left out of sprig").expect("docs/classes.md has both tables");
    for name in corpus().names {
        let documented = format!("`{name}`");
        match left_out(&name) {
            None => {
                let called = |template: &str| {
                    template.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name)
                };
                assert!(CASES.lines().any(called), "{name} has no case");
                assert!(there.contains(&documented), "docs/classes.md does not name {name}");
            }
            Some(error) => {
                assert!(error.contains(": it "), "{name} is left out without a reason: {error}");
                assert!(
                    not_there.contains(&documented),
                    "docs/classes.md does not say why {name} is left out"
                );
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
        "the cases have changed: run \"$(cargo run --bin testenv -- tools sprig-corpus)\" <api/tests/corpora/sprig-cases.txt >api/tests/corpora/sprig.json"
    );
}
