//! Text: case, trimming, cutting, splitting, joining, quoting.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::super::value::{Result, check_product, display, error, list, text};
use super::{Args, Entry, MANY, letters};

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
    ("upper", 1, 1, |args| Ok(text(args.text(0)?.chars().map(letters::upper).collect::<String>()))),
    ("lower", 1, 1, |args| Ok(text(args.text(0)?.chars().map(letters::lower).collect::<String>()))),
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
    ("splitList", 2, 2, |args| Ok(list(parts(args.text(1)?, args.text(0)?, -1).into_iter().map(text)))),
    ("split", 2, 2, |args| Ok(numbered(parts(args.text(1)?, args.text(0)?, -1)))),
    ("splitn", 3, 3, |args| Ok(numbered(parts(args.text(2)?, args.text(0)?, args.int(1)?)))),
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
        if starts { letters::title(c) } else { c }
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

/// A negative or too large end counts as the end, unless the start is negative: that counts as 0.
fn substr(args: Args<'_>) -> Result<Value> {
    let source = args.text(2)?;
    let end = usize::try_from(args.int(1)?).unwrap_or(usize::MAX);
    match usize::try_from(args.int(0)?) {
        Ok(start) => cut(source, start, end.min(source.len())),
        Err(_) => cut(source, 0, end),
    }
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

/// As Go's `strings.SplitN`: at most so many, all for a negative number; nothing between two characters splits
/// into these.
fn parts<'a>(source: &'a str, separator: &str, most: i64) -> Vec<&'a str> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if !separator.is_empty() {
        return source.splitn(most, separator).collect();
    }
    let starts = source.char_indices().map(|(start, _)| start).take(most);
    let mut ends = source.char_indices().map(|(start, _)| start).skip(1).take(most.saturating_sub(1));
    starts.map(|start| &source[start..ends.next().unwrap_or(source.len())]).collect()
}

fn numbered(parts: Vec<&str>) -> Value {
    let key = |index| Arc::from(format!("_{index}"));
    Value::Map(Arc::new(
        parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| (key(index), text(part)))
            .collect::<BTreeMap<_, _>>(),
    ))
}

fn sort_alpha(args: Args<'_>) -> Result<Value> {
    if matches!(args.get(0), Value::Nil) {
        return Err(args.mismatch(0, "list"));
    }
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
