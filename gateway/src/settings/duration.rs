//! How durations are written in settings: for `#[serde(with = "duration")]`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serializer};

/// Instants are computed with these: far beyond a year an addition overflows.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// In milliseconds, the longest first.
const UNITS: [(u64, &str); 4] = [(3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = parse(&String::deserialize(deserializer)?).filter(|duration| *duration <= LONGEST);
    // `mistake` has the words for it.
    duration.ok_or_else(|| serde::de::Error::custom("no duration, or too long"))
}

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&written(*duration))
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (size, _) = UNITS.iter().find(|(_, name)| *name == unit)?;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(*size)?))
}

/// In the longest unit that needs no fraction.
fn written(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let fits = |(size, _): &&(u64, &str)| milliseconds.is_multiple_of(u128::from(*size));
    let (size, unit) = UNITS.iter().find(fits).unwrap_or(&UNITS[3]);
    format!("{}{unit}", milliseconds / u128::from(*size))
}

/// What the schema says of one.
pub(super) struct MayBeZero;
pub(super) struct LongerThanZero;

impl JsonSchema for MayBeZero {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let longest = written(LONGEST);
        json_schema!({"type": "string", "format": "duration", "pattern": "^[0-9]+(ms|s|m|h)$", "formatMaximum": longest})
    }
}

impl JsonSchema for LongerThanZero {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "duration longer than zero".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = MayBeZero::json_schema(generator);
        schema.insert("pattern".to_owned(), "^0*[1-9][0-9]*(ms|s|m|h)$".into());
        schema.insert("formatMinimum".to_owned(), "1ms".into());
        schema
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
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_duration_is_written_in_the_longest_unit_without_a_fraction() {
        for (text, written_as) in
            [("1500ms", "1500ms"), ("2000ms", "2s"), ("90s", "90s"), ("60m", "1h"), ("24h", "24h")]
        {
            assert_eq!(written(parse(text).unwrap()), written_as);
        }
    }
}
