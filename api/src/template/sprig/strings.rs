//! Text: case, trimming, cutting, splitting, joining, quoting.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::super::value::{Result, check_product, display, error, list, text};
use super::{Args, Entry, MANY};

pub const FUNCTIONS: &[Entry] = &[
    ("trim", 1, 1, |args| Ok(text(args.text(0)?.trim()))),
    ("trimAll", 2, 2, trim_all),
    ("trimall", 2, 2, trim_all),
    ("trimPrefix", 2, 2, |args| {
        args.text(1).and_then(|s| Ok(text(s.strip_prefix(args.text(0)?).unwrap_or(s))))
    }),
    ("trimSuffix", 2, 2, |args| {
        args.text(1).and_then(|s| Ok(text(s.strip_suffix(args.text(0)?).unwrap_or(s))))
    }),
    ("upper", 1, 1, |args| Ok(text(args.text(0)?.to_uppercase()))),
    ("lower", 1, 1, |args| Ok(text(args.text(0)?.to_lowercase()))),
    ("title", 1, 1, |args| Ok(text(title(args.text(0)?)))),
    ("nospace", 1, 1, |args| Ok(text(args.text(0)?.replace(char::is_whitespace, "")))),
    ("contains", 2, 2, |args| Ok(Value::Bool(args.text(1)?.contains(args.text(0)?)))),
    ("hasPrefix", 2, 2, |args| Ok(Value::Bool(args.text(1)?.starts_with(args.text(0)?)))),
    ("hasSuffix", 2, 2, |args| Ok(Value::Bool(args.text(1)?.ends_with(args.text(0)?)))),
    ("repeat", 2, 2, repeat),
    ("replace", 3, 3, replace),
    ("trunc", 2, 2, trunc),
    ("substr", 3, 3, substr),
    ("indent", 2, 2, |args| Ok(text(indent(args)?))),
    ("nindent", 2, 2, |args| Ok(text(format!("\n{}", indent(args)?)))),
    ("plural", 3, 3, |args| Ok(text(args.text(if args.int(2)? == 1 { 0 } else { 1 })?))),
    ("quote", 0, MANY, |args| Ok(joined(args, |value| go_quote(&display(value))))),
    ("squote", 0, MANY, |args| Ok(joined(args, |value| format!("'{value}'")))),
    ("cat", 0, MANY, |args| Ok(joined(args, display))),
    ("join", 2, 2, |args| join(args.text(0)?, &strings(args.get(1)))),
    ("splitList", 2, 2, |args| Ok(list(args.text(1)?.split(args.text(0)?).map(text)))),
    ("split", 2, 2, |args| Ok(numbered(args.text(1)?.split(args.text(0)?)))),
    ("splitn", 3, 3, |args| Ok(numbered(args.text(2)?.splitn(args.count(1)?, args.text(0)?)))),
    ("toStrings", 1, 1, |args| Ok(list(strings(args.get(0)).into_iter().map(text)))),
    ("sortAlpha", 1, 1, sort_alpha),
];

fn trim_all(args: Args<'_>) -> Result<Value> {
    let cut = args.text(0)?;
    Ok(text(args.text(1)?.trim_matches(|c| cut.contains(c))))
}

/// Upper case after everything that is no letter, digit or underscore, as Go's `strings.Title`.
fn title(input: &str) -> String {
    let mut before = ' ';
    let mut letter = |c: char| {
        let starts = if before.is_ascii() {
            !before.is_ascii_alphanumeric() && before != '_'
        } else {
            before.is_whitespace()
        };
        before = c;
        if starts { c.to_uppercase().to_string() } else { c.to_string() }
    };
    input.chars().map(&mut letter).collect()
}

fn repeat(args: Args<'_>) -> Result<Value> {
    let (times, part) = (args.count(0)?, args.text(1)?);
    check_product(part.len(), times)?;
    Ok(text(part.repeat(times)))
}

fn replace(args: Args<'_>) -> Result<Value> {
    let (old, new, source) = (args.text(0)?, args.text(1)?, args.text(2)?);
    check_product(new.len(), source.matches(old).count())?;
    Ok(text(source.replace(old, new)))
}

fn cut(source: &str, from: usize, to: usize) -> Result<Value> {
    source.get(from..to).map(text).ok_or_else(|| error("a cut is out of range or inside of a character"))
}

fn trunc(args: Args<'_>) -> Result<Value> {
    let (limit, source) = (args.int(0)?, args.text(1)?);
    let length = usize::try_from(limit.unsigned_abs()).unwrap_or(usize::MAX);
    match limit {
        _ if length >= source.len() => Ok(text(source)),
        ..0 => cut(source, source.len() - length, source.len()),
        _ => cut(source, 0, length),
    }
}

/// A negative start counts as 0, a negative or too large end as the end.
fn substr(args: Args<'_>) -> Result<Value> {
    let source = args.text(2)?;
    let start = usize::try_from(args.int(0)?).unwrap_or(0);
    let end = usize::try_from(args.int(1)?).unwrap_or(source.len()).min(source.len());
    cut(source, start, end)
}

fn indent(args: Args<'_>) -> Result<String> {
    let (width, source) = (args.count(0)?, args.text(1)?);
    check_product(width, source.matches('\n').count() + 1)?;
    let pad = " ".repeat(width);
    Ok(format!("{pad}{}", source.replace('\n', &format!("\n{pad}"))))
}

/// Without the nil ones, separated by blanks.
fn joined(args: Args<'_>, write: impl Fn(&Value) -> String) -> Value {
    let present = args.0.iter().filter(|value| !matches!(value, Value::Nil));
    text(present.map(write).collect::<Vec<_>>().join(" "))
}

fn join(separator: &str, parts: &[String]) -> Result<Value> {
    check_product(separator.len(), parts.len())?;
    Ok(text(parts.join(separator)))
}

/// What sprig takes for a list of strings: a list without its nil items, nothing for nil, else the one value.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::Nil => Vec::new(),
        Value::List(items) => items.iter().filter(|item| !matches!(item, Value::Nil)).map(display).collect(),
        other => vec![display(other)],
    }
}

fn numbered<'a>(parts: impl Iterator<Item = &'a str>) -> Value {
    let key = |index| Arc::from(format!("_{index}"));
    Value::Map(Arc::new(
        parts.enumerate().map(|(index, part)| (key(index), text(part))).collect::<BTreeMap<_, _>>(),
    ))
}

fn sort_alpha(args: Args<'_>) -> Result<Value> {
    let mut sorted = strings(args.get(0));
    sorted.sort();
    Ok(list(sorted.into_iter().map(text)))
}

/// A Go string literal.
pub fn go_quote(source: &str) -> String {
    let escaped: String = source.chars().map(go_escape).collect();
    format!("\"{escaped}\"")
}

fn go_escape(c: char) -> String {
    match c {
        '"' => "\\\"".into(),
        '\\' => "\\\\".into(),
        '\u{7}' => "\\a".into(),
        '\u{8}' => "\\b".into(),
        '\u{c}' => "\\f".into(),
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '\t' => "\\t".into(),
        '\u{b}' => "\\v".into(),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.into(),
    }
}
