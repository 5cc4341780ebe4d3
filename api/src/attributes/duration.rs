//! Go's duration syntax: `1h30m`, `1.5h`, `90s`. Negative ones have no use here and are refused.

use std::time::Duration;

const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];
/// Longest sensible text.
const MAX_LENGTH: usize = 64;

/// Nothing where the text is not a duration or exceeds what Go can hold (290 years).
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() || rest.len() > MAX_LENGTH {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (value, after) = component(rest)?;
        seconds += value;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| seconds < i64::MAX as f64 * 1e-9)
}

/// One number with its unit, in seconds.
fn component(text: &str) -> Option<(f64, &str)> {
    let (number, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.')?);
    let (unit, rest) =
        rest.split_at(rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len()));
    let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    Some((number.parse::<f64>().ok()? * scale, rest))
}
