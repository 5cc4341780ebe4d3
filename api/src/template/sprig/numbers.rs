//! Numbers. As in sprig, text that is no number counts as 0.

use gotmpl::Value;

use super::super::value::{Result, error};
use super::{Args, Entry, MANY};

pub const FUNCTIONS: &[Entry] = &[
    ("int", 1, 1, |args| Ok(Value::Int(integer(args.get(0))))),
    ("int64", 1, 1, |args| Ok(Value::Int(integer(args.get(0))))),
    ("float64", 1, 1, |args| Ok(Value::Float(float(args.get(0))))),
    ("atoi", 1, 1, |args| Ok(Value::Int(args.text(0)?.parse().unwrap_or(0)))),
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
];

fn integer(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Uint(number) => i64::try_from(*number).unwrap_or(i64::MAX),
        Value::Float(number) => *number as i64,
        Value::Bool(flag) => i64::from(*flag),
        Value::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    }
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Float(number) => *number,
        Value::String(text) => text.parse().unwrap_or(0.0),
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
