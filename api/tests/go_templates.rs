//! Every case of the corpus of Go's text/template with sprig: the output, or that there is none. What is
//! refused on purpose stands in one table with the reason, and must be an error.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use connectors_api::template::Template;
use serde::Deserialize;
use serde_json::Value;

const CORPUS: &str = include_str!("corpora/go-templates.json");

#[derive(Deserialize)]
struct Case {
    name: String,
    template: String,
    data: Value,
    want: Option<String>,
    want_err: Option<String>,
}

const MISSING: &str = "a missing value that is printed is an error, not \"<no value>\"";
const FORMAT: &str = "a missing or unfit argument of printf is an error, not \"%!s(<nil>)\"";
const BASE64: &str = "sprig puts the decoder's error into the output, here it is an error";

/// Go prints something; here it is an error.
const REFUSED: &[(&str, &str)] = &[
    ("doc12-min", MISSING),
    ("doc13-min", MISSING),
    ("doc-params-min", MISSING),
    ("t45", MISSING),
    ("t46", MISSING),
    ("t47", MISSING),
    ("t48", MISSING),
    ("t73", MISSING),
    ("mk-error-5", MISSING),
    ("mk-zero-1", MISSING),
    ("mk-zero-5", MISSING),
    ("doc1-missing", FORMAT),
    ("doc1-missing-typed", FORMAT),
    ("doc19-missing", FORMAT),
    ("doc19-missing-typed", FORMAT),
    ("t55", FORMAT),
    ("t57", FORMAT),
    ("t59", FORMAT),
    ("t60", FORMAT),
    ("t63", FORMAT),
    ("t64", FORMAT),
    ("t110", BASE64),
];

fn render(case: &Case) -> Result<String, String> {
    Template::parse(&case.template)
        .and_then(|template| template.render(&case.data))
        .map_err(|error| error.to_string())
}

/// Nothing if the case comes out as it must.
fn judge(case: &Case) -> Option<String> {
    let refused = REFUSED.iter().any(|(name, _)| *name == case.name);
    let ours = render(case);
    let right = match (refused, &case.want, &case.want_err) {
        (true, Some(_), None) | (false, None, Some(_)) => ours.is_err(),
        (false, Some(want), None) => ours.as_ref() == Ok(want),
        _ => false,
    };
    (!right).then(|| format!("{}: {:?} {:?} is {ours:?}", case.name, case.want, case.want_err))
}

#[test]
fn the_corpus_renders_as_in_go() {
    let cases: Vec<Case> = serde_json::from_str(CORPUS).expect("corpus");
    assert!(cases.len() >= 150, "the corpus is incomplete: {}", cases.len());
    let wrong: Vec<String> = cases.iter().filter_map(judge).collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_listed_difference_is_a_case_of_the_corpus() {
    let cases: Vec<Case> = serde_json::from_str(CORPUS).expect("corpus");
    for (name, reason) in REFUSED {
        assert!(cases.iter().any(|case| case.name == *name) && !reason.is_empty(), "{name}");
    }
}
