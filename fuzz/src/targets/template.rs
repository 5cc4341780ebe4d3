//! Templates of classes, over a text of a connector: they end, come out the same each time, and do not grow
//! beyond what a file may hold.

use connectors_api::template::Template;
use serde_json::json;

use super::{parts, text};
use crate::Target;

pub const TARGET: Target = Target {
    name: "template",
    run,
    words: &[
        "{{",
        "}}",
        "{{-",
        "-}}",
        "range ",
        "if ",
        "else",
        "end",
        "define \"a\"",
        "template \"a\" .",
        "with ",
        "$x := ",
        "|",
        ".text",
        ".list",
        ".map",
        ".number",
        "printf \"%s\" ",
        "repeat 1000 ",
        "toYaml",
        "toJson",
        "fromJson ",
        "b64enc",
        "regexReplaceAll \"a*\" ",
        "until 100",
        "splitList \",\" ",
        "index ",
        "quote",
        "nindent 4",
        "dict \"a\" 1",
        "list 1 2",
        "semver ",
        "default ",
        "ternary ",
        "substr 0 5",
        "trunc -3",
        "urlParse ",
        "mul ",
        "div 1 0",
        "/* ",
        " */",
    ],
};

const MOST: usize = 1 << 20;

fn run(data: &[u8]) {
    let (source, value) = parts(data);
    let (Some(source), Some(value)) = (text(source), text(value)) else { return };
    let Ok(template) = Template::parse(source) else { return };
    let given = json!({
        "text": value, "list": [value, 1, true, null], "map": {"a": value, "b": {"c": 2}}, "number": 7,
    });
    let once = template.render(&given);
    assert_eq!(once.as_ref().ok(), template.render(&given).as_ref().ok(), "it comes out in two ways");
    if let Ok(out) = once {
        assert!(out.len() <= MOST, "{} bytes", out.len());
    }
}
