//! How durations and networks are written in settings. Errors quote the value, since the types' own do not.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

/// Instants are computed with these: far beyond a year an addition overflows.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    match parse_duration(&text) {
        Some(duration) if duration <= LONGEST => Ok(duration),
        Some(_) => Err(serde::de::Error::custom(format!("{text:?} is too long: 8760h, a year, is the most"))),
        None => Err(serde::de::Error::custom(format!(
            "{text:?} is no duration: write it like 500ms, 10s, 5m or 24h"
        ))),
    }
}

/// The type's own error would not say which one.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parse = |text: &String| {
        text.parse().map_err(|_| {
            serde::de::Error::custom(format!("{text:?} is no network: write it like 10.0.0.0/8 or fd00::/8"))
        })
    };
    texts.iter().map(parse).collect()
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("10s", Some(Duration::from_secs(10))),
            ("5m", Some(Duration::from_secs(300))),
            ("24h", Some(Duration::from_secs(86_400))),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1d", None),
            ("99999999999999999999h", None),
            ("9999999999999999999h", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }
}
