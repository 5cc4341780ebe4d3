//! CEL expressions of classes over what a target answered: they end.

use connectors_api::expression::{Expression, Response};

use super::{parts, text};
use crate::Target;

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
    let answer = || expression.evaluate(&Response { status: 200, headers: &headers, body }).ok();
    assert_eq!(answer(), answer());
}
