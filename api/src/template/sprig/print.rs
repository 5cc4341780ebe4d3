//! Go's printing functions, strict: a missing value or a wrong verb is an error and never text like
//! `%!s(<nil>)`.

use std::sync::LazyLock;

use gotmpl::{Template, Value};

use super::super::value::{Result, check_product, display, error, list, text};
use super::{Args, Entry, MANY, verbs};

pub const FUNCTIONS: &[Entry] = &[
    ("printf", 1, 1 + MAX_ARGS, printf),
    ("print", 0, MANY, |args| present(args).map(|()| text(sprint(args.0)))),
    ("println", 0, MANY, |args| present(args).map(|()| text(words(args.0) + "\n"))),
    ("html", 0, MANY, |args| present(args).map(|()| text(gotmpl::html_escape(&sprint(args.0))))),
    ("js", 0, MANY, |args| present(args).map(|()| text(gotmpl::js_escape(&sprint(args.0))))),
    ("urlquery", 0, MANY, |args| present(args).map(|()| text(gotmpl::url_encode(&sprint(args.0))))),
    ("index", 1, MANY, |args| args.from(1).iter().try_fold(args.get(0).clone(), |value, at| value.index(at))),
    ("len", 1, 1, |args| {
        Ok(Value::Int(args.get(0).len().ok_or_else(|| args.mismatch(0, "text, list or map"))? as i64))
    }),
];

const MAX_ARGS: usize = 32;

/// The engine does not hand out its formatter: these templates call it with 0, 1, … arguments.
static PRINTF: LazyLock<Vec<Template>> = LazyLock::new(|| {
    let arguments =
        |count: usize| (0..=count).map(|index| format!("(index . {index})")).collect::<Vec<_>>().join(" ");
    (0..=MAX_ARGS)
        .filter_map(|count| Template::new("").parse(&format!("{{{{printf {}}}}}", arguments(count))).ok())
        .collect()
});

fn printf(args: Args<'_>) -> Result<Value> {
    present(args)?;
    args.text(0)?;
    check_product(1, widths(args))?;
    let template = PRINTF.get(args.0.len() - 1).ok_or_else(|| error("too many arguments"))?;
    let output = template.execute_to_string(&list(verbs::as_go_prints(args)?))?;
    // Go writes its complaints into the text; an argument may hold the same characters by itself.
    let innocent = args.from(1).iter().any(|value| display(value).contains("%!"));
    match output.contains("%!") && !innocent {
        true => Err(error("the arguments do not fit the format")),
        false => Ok(text(output)),
    }
}

fn present(args: Args<'_>) -> Result<()> {
    match args.0.iter().position(|value| matches!(value, Value::Nil)) {
        Some(index) => Err(error(format!("argument {} has no value", index + 1))),
        None => Ok(()),
    }
}

/// The sum of all numbers that a format holds or, by `*`, takes: widths and precisions among them.
fn widths(args: Args<'_>) -> usize {
    let format = args.text(0).unwrap_or_default();
    let written = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let sum = written.map(|digits| digits.parse().unwrap_or(usize::MAX)).fold(0, usize::saturating_add);
    let taken = args.from(1).iter().filter_map(Value::as_int).map(|number| number.unsigned_abs() as usize);
    if format.contains('*') { taken.fold(sum, usize::saturating_add) } else { sum }
}

/// Blanks only between two values that are not text.
fn sprint(values: &[Value]) -> String {
    let mut output = String::new();
    let mut after_text = true;
    for value in values {
        let is_text = value.as_str().is_some();
        if !after_text && !is_text {
            output.push(' ');
        }
        output.push_str(&display(value));
        after_text = is_text;
    }
    output
}

fn words(values: &[Value]) -> String {
    values.iter().map(display).collect::<Vec<_>>().join(" ")
}
