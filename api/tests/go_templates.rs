//! Every case of the corpus of Go's text/template with sprig: the output, or that there is none. What differs
//! on purpose or by the engine stands in one table with the reason, and must differ in the way that the table
//! says.

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

enum Ours {
    /// Go prints something; here it is an error.
    Refused(&'static str),
    /// Go fails; here it renders this.
    Renders(&'static str, &'static str),
}
use Ours::{Refused, Renders};

const MISSING: &str = "a missing value that is printed is an error, not \"<no value>\"";
const FORMAT: &str = "a missing or unfit argument of printf is an error, not \"%!s(<nil>)\"";
const TYPE_VERB: &str = "the engine does not know the verb %T: an error, not another text";
const BASE64: &str = "sprig puts the decoder's error into the output, here it is an error";
const NULL: &str = "the engine treats a field of null like a field of a missing value";

const DIFFERENT: &[(&str, Ours)] = &[
    ("doc12-min", Refused(MISSING)),
    ("doc13-min", Refused(MISSING)),
    ("doc-params-min", Refused(MISSING)),
    ("t45", Refused(MISSING)),
    ("t46", Refused(MISSING)),
    ("t47", Refused(MISSING)),
    ("t48", Refused(MISSING)),
    ("t73", Refused(MISSING)),
    ("mk-error-5", Refused(MISSING)),
    ("mk-zero-1", Refused(MISSING)),
    ("mk-zero-5", Refused(MISSING)),
    ("doc1-missing", Refused(FORMAT)),
    ("doc1-missing-typed", Refused(FORMAT)),
    ("doc19-missing", Refused(FORMAT)),
    ("doc19-missing-typed", Refused(FORMAT)),
    ("t55", Refused(FORMAT)),
    ("t57", Refused(FORMAT)),
    ("t59", Refused(FORMAT)),
    ("t60", Refused(FORMAT)),
    ("t63", Refused(FORMAT)),
    ("t64", Refused(FORMAT)),
    ("t65", Refused(TYPE_VERB)),
    ("t110", Refused(BASE64)),
    ("t42", Renders("d", NULL)),
];

fn render(case: &Case) -> Result<String, String> {
    Template::parse(&case.template)
        .and_then(|template| template.render(&case.data))
        .map_err(|error| error.to_string())
}

/// Nothing if the case comes out as it must.
fn judge(case: &Case) -> Option<String> {
    let different = DIFFERENT.iter().find(|(name, _)| *name == case.name).map(|(_, ours)| ours);
    let ours = render(case);
    let right = match (different, &case.want, &case.want_err) {
        (Some(Refused(_)), Some(_), None) => ours.is_err(),
        (Some(Renders(text, _)), None, Some(_)) => ours.as_deref() == Ok(*text),
        (None, Some(want), None) => ours.as_ref() == Ok(want),
        (None, None, Some(_)) => ours.is_err(),
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
    for (name, ours) in DIFFERENT {
        let (Refused(reason) | Renders(_, reason)) = ours;
        assert!(cases.iter().any(|case| case.name == *name) && !reason.is_empty(), "{name}");
    }
}
