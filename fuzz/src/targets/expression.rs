//! CEL expressions of classes over what a target answered: they end.

use std::time::{Duration, Instant};

use connectors_api::expression::{Expression, Response};

use super::{parts, text};
use crate::Target;

/// More than short inputs need: the two answers are compared.
const TIME: Duration = Duration::from_secs(10);

pub const TARGET: Target = Target {
    name: "expression",
    run,
    words: &[
        "response.",
        "statusCode",
        "bodyString",
        "body",
        "headers",
        " == ",
        " && ",
        " || ",
        "!",
        "200",
        "[0]",
        ".size()",
        ".contains(\"",
        "\")",
        ".matches(\"(a*)*b\")",
        ".all(x, ",
        ".exists(x, ",
        ".map(x, ",
        "has(",
        "{\"kind\":\"Status\"}",
        "\0",
    ],
};

fn run(data: &[u8]) {
    let (source, body) = parts(data);
    let Some(source) = text(source) else { return };
    let Ok(expression) = Expression::compile(source) else { return };
    let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
    let response = Response { status: 200, headers: &headers, body };
    let answer = || expression.evaluate(&response, Instant::now() + TIME).ok();
    assert_eq!(answer(), answer());
}
