//! Numbers. As in sprig, text that is no number counts as 0.

use gotmpl::Value;
use rust_decimal::{Decimal, RoundingStrategy};

use super::super::value::{Result, display, error, text};
use super::{Args, Entry, MANY};

pub const FUNCTIONS: &[Entry] = &[
    ("int", 1, 1, |args| Ok(Value::Int(integer(args.get(0))))),
    ("int64", 1, 1, |args| Ok(Value::Int(integer(args.get(0))))),
    ("float64", 1, 1, |args| Ok(Value::Float(float(args.get(0))))),
    ("atoi", 1, 1, |args| Ok(Value::Int(atoi(args.text(0)?)))),
    ("add", 0, MANY, |args| Ok(folded(args, i64::wrapping_add, 0))),
    ("add1", 1, 1, |args| Ok(Value::Int(integer(args.get(0)).wrapping_add(1)))),
    ("sub", 2, 2, |args| Ok(Value::Int(integer(args.get(0)).wrapping_sub(integer(args.get(1)))))),
    ("mul", 1, MANY, |args| Ok(folded(args, i64::wrapping_mul, 1))),
    ("div", 2, 2, |args| divided(args, i64::checked_div)),
    ("mod", 2, 2, |args| divided(args, i64::checked_rem)),
    ("max", 1, MANY, |args| Ok(folded(args, i64::max, i64::MIN))),
    ("biggest", 1, MANY, |args| Ok(folded(args, i64::max, i64::MIN))),
    ("min", 1, MANY, |args| Ok(folded(args, i64::min, i64::MAX))),
    ("floor", 1, 1, |args| Ok(Value::Float(float(args.get(0)).floor()))),
    ("ceil", 1, 1, |args| Ok(Value::Float(float(args.get(0)).ceil()))),
    ("round", 2, 3, round),
    ("add1f", 1, 1, |args| decimal(&[args.get(0).clone(), Value::Int(1)], Decimal::checked_add)),
    ("addf", 0, MANY, |args| decimal(&[&[Value::Int(0)], args.0].concat(), Decimal::checked_add)),
    ("subf", 1, MANY, |args| decimal(args.0, Decimal::checked_sub)),
    ("mulf", 1, MANY, |args| decimal(args.0, Decimal::checked_mul)),
    ("divf", 1, MANY, |args| decimal(args.0, quotient)),
    ("maxf", 1, MANY, |args| Ok(Value::Float(args.0.iter().map(float).fold(f64::NEG_INFINITY, f64::max)))),
    ("minf", 1, MANY, |args| Ok(Value::Float(args.0.iter().map(float).fold(f64::INFINITY, f64::min)))),
    ("toDecimal", 1, 1, |args| Ok(Value::Int(i64::from_str_radix(&display(args.get(0)), 8).unwrap_or(0)))),
    ("seq", 0, MANY, seq),
];

pub fn integer(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Uint(number) => i64::try_from(*number).unwrap_or(i64::MAX),
        Value::Float(number) => *number as i64,
        Value::Bool(flag) => i64::from(*flag),
        Value::String(text) => literal(text).unwrap_or(0),
        _ => 0,
    }
}

/// Whole as Go writes it in a program: `0x10`, `0b1`, `0o7`, `07`, `1_000`, and here `3.00`.
fn literal(written: &str) -> Option<i64> {
    let (whole, zeros) = written.split_once('.').unwrap_or((written, ""));
    let written = if zeros.is_empty() || zeros.bytes().any(|digit| digit != b'0') { written } else { whole };
    let (sign, digits) = match written.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", written.strip_prefix('+').unwrap_or(written)),
    };
    let prefixes = [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8), ("0", 8)];
    let prefixed = prefixes.iter().find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, *radix)));
    let (digits, radix) = prefixed.filter(|(rest, _)| !rest.is_empty()).unwrap_or((digits, 10));
    let digits = if radix == 10 { without_lines(digits) } else { digits.replace('_', "") };
    let plain = digits.starts_with(|first: char| first.is_ascii_alphanumeric());
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().filter(|_| plain)
}

/// Digits may be grouped by lines below, one between two of them.
fn without_lines(digits: &str) -> String {
    let groups: Vec<&str> = digits.split('_').collect();
    let grouped = groups.iter().all(|group| !group.is_empty());
    if grouped { groups.concat() } else { digits.to_owned() }
}

/// What is too large counts as the largest.
fn atoi(digits: &str) -> i64 {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    digits.parse().unwrap_or_else(|error: std::num::ParseIntError| match error.kind() {
        PosOverflow => i64::MAX,
        NegOverflow => i64::MIN,
        _ => 0,
    })
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Float(number) => *number,
        Value::String(text) => without_lines(text).parse().unwrap_or(0.0),
        other => integer(other) as f64,
    }
}

fn folded(args: Args<'_>, combine: fn(i64, i64) -> i64, start: i64) -> Value {
    Value::Int(args.0.iter().map(integer).fold(start, combine))
}

fn divided(args: Args<'_>, divide: fn(i64, i64) -> Option<i64>) -> Result<Value> {
    divide(integer(args.get(0)), integer(args.get(1)))
        .map(Value::Int)
        .ok_or_else(|| error("division by zero"))
}

/// Places, and from which fraction on upwards (0.5).
fn round(args: Args<'_>) -> Result<Value> {
    let power = 10f64.powi(i32::try_from(args.int(1)?).unwrap_or(0));
    let digits = power * float(args.get(0));
    let upwards = if args.0.len() == 3 { float(args.get(2)) } else { 0.5 };
    let rounded = if digits.fract() >= upwards { digits.ceil() } else { digits.floor() };
    Ok(Value::Float(rounded / power))
}

/// Of decimal fractions, so that 0.1 and 0.2 are 0.3.
fn decimal(values: &[Value], combine: fn(Decimal, Decimal) -> Option<Decimal>) -> Result<Value> {
    let beyond = || error("a number is too large, or divided by zero");
    let mut parsed = values.iter().map(|value| {
        let shortest = float(value).to_string();
        Decimal::from_str_exact(&shortest).map_err(|_| beyond())
    });
    let mut result = parsed.next().unwrap_or(Ok(Decimal::ZERO))?;
    for value in parsed {
        result = combine(result, value?).ok_or_else(beyond)?;
    }
    result.to_string().parse().map(Value::Float).map_err(|_| beyond())
}

/// To 16 places.
fn quotient(one: Decimal, other: Decimal) -> Option<Decimal> {
    let exact = one.checked_div(other)?;
    Some(exact.round_dp_with_strategy(16, RoundingStrategy::MidpointAwayFromZero))
}

/// As the command of this name: to an end, from a start, by a step.
fn seq(args: Args<'_>) -> Result<Value> {
    let given = (0..args.0.len()).map(|index| args.int(index)).collect::<Result<Vec<_>>>()?;
    let (start, step, end) = match given[..] {
        [end] => (1, None, end),
        [start, end] => (start, None, end),
        [start, step, end] => (start, Some(step), end),
        _ => return Ok(text("")),
    };
    let towards = if end < start { -1 } else { 1 };
    if step.is_some_and(|step| end < start && step > 0) {
        return Ok(text(""));
    }
    let numbers = super::lists::numbers(start, end.saturating_add(towards), step.unwrap_or(towards))?;
    Ok(text(display(&numbers).trim_matches(['[', ']'])))
}
