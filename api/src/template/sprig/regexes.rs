//! Regular expressions in RE2's syntax, run in linear time. A pattern that does not compile is an error.

use gotmpl::Value;
use regex::{NoExpand, Regex, RegexBuilder};

use super::super::value::{Result, check_product, error, list, text};
use super::{Args, Entry, re2};

pub const FUNCTIONS: &[Entry] = &[
    ("regexMatch", 2, 2, is_match),
    ("mustRegexMatch", 2, 2, is_match),
    ("regexFind", 2, 2, find),
    ("mustRegexFind", 2, 2, find),
    ("regexFindAll", 3, 3, find_all),
    ("mustRegexFindAll", 3, 3, find_all),
    ("regexReplaceAll", 3, 3, replace_all),
    ("mustRegexReplaceAll", 3, 3, replace_all),
    ("regexReplaceAllLiteral", 3, 3, replace_literal),
    ("mustRegexReplaceAllLiteral", 3, 3, replace_literal),
    ("regexSplit", 3, 3, split),
    ("mustRegexSplit", 3, 3, split),
    ("regexQuoteMeta", 1, 1, |args| Ok(text(quote_meta(args.text(0)?)))),
];

/// Bytes of a pattern, which takes some hundred times that while it is compiled, and of what it comes to.
const MAX_PATTERN: usize = 16 * 1024;
const MAX_PROGRAM: usize = 1024 * 1024;

fn pattern(args: Args<'_>) -> Result<Regex> {
    if args.text(0)?.len() > MAX_PATTERN {
        return Err(error(format!("the pattern is longer than {MAX_PATTERN} bytes")));
    }
    re2::translated(args.text(0)?)
        .and_then(|source| RegexBuilder::new(&source).size_limit(MAX_PROGRAM).build().ok())
        .ok_or_else(|| error("the pattern is no regular expression of RE2's syntax"))
}

/// How many matches are wanted: all for a negative number.
fn limit(args: Args<'_>, index: usize) -> Result<usize> {
    Ok(usize::try_from(args.int(index)?).unwrap_or(usize::MAX))
}

fn is_match(args: Args<'_>) -> Result<Value> {
    Ok(Value::Bool(pattern(args)?.is_match(args.text(1)?)))
}

fn find(args: Args<'_>) -> Result<Value> {
    Ok(text(pattern(args)?.find(args.text(1)?).map_or("", |found| found.as_str())))
}

fn find_all(args: Args<'_>) -> Result<Value> {
    Ok(list(pattern(args)?.find_iter(args.text(1)?).take(limit(args, 2)?).map(|found| text(found.as_str()))))
}

/// A replacement may hold a group, and so the whole source, once per `$`.
fn check_growth(source: &str, replacement: &str, matches: usize) -> Result<()> {
    check_product(replacement.len(), matches)?;
    check_product(source.len(), replacement.matches('$').count())
}

fn replace_all(args: Args<'_>) -> Result<Value> {
    let (pattern, source, replacement) = (pattern(args)?, args.text(1)?, args.text(2)?);
    check_growth(source, replacement, pattern.find_iter(source).count())?;
    Ok(text(pattern.replace_all(source, replacement)))
}

fn replace_literal(args: Args<'_>) -> Result<Value> {
    let (pattern, source, replacement) = (pattern(args)?, args.text(1)?, args.text(2)?);
    check_product(replacement.len(), pattern.find_iter(source).count())?;
    Ok(text(pattern.replace_all(source, NoExpand(replacement))))
}

/// As Go's: nothing is left before and after an empty match at the beginning or the end.
fn split(args: Args<'_>) -> Result<Value> {
    let (pattern, source, most) = (pattern(args)?, args.text(1)?, limit(args, 2)?);
    if most == 0 || source.is_empty() && !pattern.as_str().is_empty() {
        return Ok(list((most > 0).then(|| text(""))));
    }
    let (mut parts, mut begin, mut end) = (Vec::new(), 0, 0);
    for found in pattern.find_iter(source).take(most) {
        if parts.len() == most - 1 {
            break;
        }
        end = found.start();
        if found.end() > 0 {
            parts.push(text(&source[begin..end]));
        }
        begin = found.end();
    }
    if end != source.len() {
        parts.push(text(&source[begin..]));
    }
    Ok(list(parts))
}

/// Go's, which leaves `-`, `#`, `&` and `~` as they are.
fn quote_meta(source: &str) -> String {
    let mut output = String::new();
    for c in source.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            output.push('\\');
        }
        output.push(c);
    }
    output
}
