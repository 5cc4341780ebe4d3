//! Lengths of time. Points in time are left out with the clock.

use std::fmt::Write;

use gotmpl::Value;

use super::super::value::text;
use super::{Args, Entry, Result};

pub const FUNCTIONS: &[Entry] = &[("duration", 1, 1, duration), ("durationRound", 1, 1, rounded)];

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Seconds, as Go writes them: `1h1m5s`.
fn duration(args: Args<'_>) -> Result<Value> {
    let seconds = match args.get(0) {
        Value::Int(seconds) => *seconds,
        Value::String(digits) => digits.parse().unwrap_or(0),
        _ => 0,
    };
    let nanos = seconds.wrapping_mul(SECOND);
    if nanos == 0 {
        return Ok(text("0s"));
    }
    let mut output = String::from(if nanos < 0 { "-" } else { "" });
    let left = nanos.unsigned_abs();
    let (hour, minute, second) = (HOUR as u64, MINUTE as u64, SECOND as u64);
    // Writing into a String cannot fail.
    if left >= hour {
        let _ = write!(output, "{}h", left / hour);
    }
    if left >= minute {
        let _ = write!(output, "{}m", left % hour / minute);
    }
    let fraction = format!("{:09}", left % second);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let _ = write!(output, "{}{dot}{fraction}s", left % minute / second);
    Ok(text(output))
}

/// The largest unit that fits: `3mo`.
fn rounded(args: Args<'_>) -> Result<Value> {
    let nanos = match args.get(0) {
        Value::Int(nanos) => *nanos,
        Value::String(written) => parsed(written).unwrap_or(0),
        _ => 0,
    };
    let units = [
        ("y", 365 * 24 * HOUR),
        ("mo", 30 * 24 * HOUR),
        ("d", 24 * HOUR),
        ("h", HOUR),
        ("m", MINUTE),
        ("s", SECOND),
    ];
    let left = nanos.unsigned_abs();
    let fits = units.iter().find(|(_, unit)| left > unit.unsigned_abs());
    Ok(text(fits.map_or("0s".to_owned(), |(name, unit)| format!("{}{name}", left / unit.unsigned_abs()))))
}

/// Go's `time.ParseDuration`.
fn parsed(written: &str) -> Option<i64> {
    let (negative, mut rest) = match written.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, written.strip_prefix('+').unwrap_or(written)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut sum = 0f64;
    while !rest.is_empty() || sum == 0.0 {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let end = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..end] {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            _ => return None,
        };
        sum += number * unit as f64;
        rest = &rest[end..];
        if rest.is_empty() {
            break;
        }
    }
    let whole = (sum < 9.2e18).then_some(sum as i64)?;
    Some(if negative { -whole } else { whole })
}
