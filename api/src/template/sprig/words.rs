//! Words of a text: shortened, wrapped, their first letters and their case. Cut by bytes, as there.

use gotmpl::Value;

use super::super::value::{Result, check_product, error, text};
use super::{Entry, letters};

pub const FUNCTIONS: &[Entry] = &[
    ("abbrev", 2, 2, |args| abbreviated(args.text(1)?, 0, args.int(0)?)),
    ("abbrevboth", 3, 3, |args| abbreviated(args.text(2)?, args.int(0)?, args.int(1)?)),
    ("initials", 1, 1, |args| Ok(text(initials(args.text(0)?)))),
    ("untitle", 1, 1, |args| Ok(text(untitle(args.text(0)?)))),
    ("swapcase", 1, 1, |args| Ok(text(swapped(args.text(0)?)))),
    ("wrap", 2, 2, |args| wrapped(args.text(1)?, args.int(0)?, "\n", Long::Whole)),
    ("wrapWith", 3, 3, |args| {
        let separator = Some(args.text(1)?).filter(|separator| !separator.is_empty()).unwrap_or("\n");
        wrapped(args.text(2)?, args.int(0)?, separator, Long::Cut)
    }),
    ("hello", 0, 0, |_| Ok(text("Hello!"))),
    ("camelcase", 1, 1, |args| Ok(text(super::cases::pascal(args.text(0)?)))),
    ("snakecase", 1, 1, |args| Ok(text(super::cases::joined(args.text(0)?, '_')))),
    ("kebabcase", 1, 1, |args| Ok(text(super::cases::joined(args.text(0)?, '-')))),
];

const DOTS: &str = "...";

fn piece(source: &str, from: usize, to: usize) -> Result<&str> {
    source.get(from..to).ok_or_else(|| error("a cut is out of range or inside of a character"))
}

/// At most `width` bytes, dots included, of what stands around `offset`. Widths without room for that leave
/// the text as it is.
fn abbreviated(source: &str, offset: i64, width: i64) -> Result<Value> {
    let least = if offset > 0 { 7 } else { 4 };
    let (Ok(width), length) = (usize::try_from(width), source.len()) else { return Ok(text(source)) };
    if width < least || length <= width {
        return Ok(text(source));
    }
    let room = width - DOTS.len();
    let mut from = usize::try_from(offset).unwrap_or(0).min(length);
    if length - from < room {
        from = length - room;
    }
    if from <= 4 {
        return Ok(text(format!("{}{DOTS}", piece(source, 0, room)?)));
    }
    if from + room < length {
        let rest = piece(source, from, length)?;
        let end = piece(rest, 0, room - DOTS.len())?;
        return Ok(text(format!("{DOTS}{end}{DOTS}")));
    }
    Ok(text(format!("{DOTS}{}", piece(source, length - room, length)?)))
}

/// Of each byte as a character of its own, as there.
fn initials(source: &str) -> String {
    let mut gap = true;
    let first = |byte: &u8| {
        let c = char::from(*byte);
        let starts = gap && !c.is_whitespace();
        gap = c.is_whitespace();
        starts.then_some(c)
    };
    source.as_bytes().iter().filter_map(first).collect()
}

fn untitle(source: &str) -> String {
    let mut starts = true;
    let change = |c: char| {
        let changed = if starts && !c.is_whitespace() { letters::lower(c) } else { c };
        starts = c.is_whitespace();
        changed
    };
    source.chars().map(change).collect()
}

/// A small letter that begins a word gets the form for that.
fn swapped(source: &str) -> String {
    let mut starts = true;
    let change = |c: char| {
        let letter = c.is_uppercase() || letters::is_title(c) || c.is_lowercase();
        let changed = match c {
            c if c.is_uppercase() || letters::is_title(c) => letters::lower(c),
            c if c.is_lowercase() && starts => letters::title(c),
            c if c.is_lowercase() => letters::upper(c),
            c => c,
        };
        starts = !letter && c.is_whitespace();
        changed
    };
    source.chars().map(change).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Long {
    Whole,
    Cut,
}

/// Lines of `width` bytes, broken at blanks; a longer word stays whole or is cut.
fn wrapped(source: &str, width: i64, separator: &str, long: Long) -> Result<Value> {
    let width = usize::try_from(width).unwrap_or(0).max(1);
    check_product(separator.len(), source.len())?;
    let (mut output, mut rest) = (String::new(), source);
    while rest.len() > width {
        if let Some(after) = rest.strip_prefix(' ') {
            rest = after;
            continue;
        }
        let window = &rest.as_bytes()[..=width];
        let (end, next) = match window.iter().rposition(|byte| *byte == b' ') {
            Some(blank) => (blank, blank + 1),
            None if long == Long::Cut => (width, width),
            None => match rest.as_bytes()[width..].iter().position(|byte| *byte == b' ') {
                Some(blank) => (width + blank, width + blank + 1),
                None => break,
            },
        };
        output.push_str(piece(rest, 0, end)?);
        output.push_str(separator);
        rest = piece(rest, next, rest.len())?;
    }
    output.push_str(rest);
    Ok(text(output))
}
