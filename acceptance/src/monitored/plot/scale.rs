//! The vertical axis of a plot, and numbers as people read them.

/// From 0 to a round number.
pub struct Scale {
    pub most: f64,
    apart: f64,
}

const TIMES: [(f64, &str); 4] = [(86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s")];
const BYTES: [(f64, &str); 3] = [(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB")];
/// Steps of an axis.
const ROUND: [f64; 4] = [1.0, 2.0, 2.5, 5.0];
const MARKS: f64 = 4.0;

impl Scale {
    pub fn of(values: impl Iterator<Item = f64>, unit: &str) -> Scale {
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        // Round is what is round in the unit that is shown.
        let unit = match unit {
            "s" => size(most, &TIMES),
            "bytes" | "Bps" => size(most, &BYTES),
            _ => 1.0,
        };
        let wanted = most / unit / MARKS;
        let power = 10f64.powf(wanted.log10().floor());
        let step = ROUND.into_iter().map(|round| round * power).find(|step| *step >= wanted);
        let apart = step.unwrap_or(10.0 * power) * unit;
        Scale { most: (most / apart).ceil() * apart, apart }
    }

    /// Where lines go across.
    pub fn marks(&self) -> impl Iterator<Item = f64> {
        let (most, apart) = (self.most, self.apart);
        (0..).map(move |index| f64::from(index) * apart).take_while(move |mark| *mark <= most * 1.001)
    }
}

/// A value in the unit of a panel, as short as can be.
pub fn shown(value: f64, unit: &str) -> String {
    match unit {
        "s" => time(value),
        "bytes" => bytes(value),
        "Bps" => format!("{}/s", bytes(value)),
        "reqps" | "ops" => format!("{}/s", number(value)),
        "percentunit" => format!("{} %", number(value * 100.0)),
        _ => number(value),
    }
}

/// Of the largest unit that the value is at least one of.
fn size(value: f64, units: &[(f64, &str)]) -> f64 {
    units.iter().map(|(size, _)| *size).find(|size| value >= *size).unwrap_or(1.0)
}

fn time(seconds: f64) -> String {
    for (size, name) in TIMES {
        if seconds.abs() >= size {
            return format!("{} {name}", number(seconds / size));
        }
    }
    if seconds == 0.0 { "0".to_owned() } else { format!("{} ms", number(seconds * 1000.0)) }
}

fn bytes(count: f64) -> String {
    for (size, name) in BYTES {
        if count >= size {
            return format!("{} {name}", number(count / size));
        }
    }
    format!("{} B", number(count))
}

/// Three digits, and no zeros at the end.
fn number(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_above_all_values() {
        for (values, unit, marks) in [
            (&[3.0, 7.5][..], "reqps", &[0.0, 2.0, 4.0, 6.0, 8.0][..]),
            (&[0.93, f64::NAN], "percentunit", &[0.0, 0.25, 0.5, 0.75, 1.0]),
            (&[], "short", &[0.0, 0.25, 0.5, 0.75, 1.0]),
            (&[200.0], "s", &[0.0, 60.0, 120.0, 180.0, 240.0]),
            (&[30.0 * 1_048_576.0], "bytes", &[0.0, 10_485_760.0, 20_971_520.0, 31_457_280.0]),
        ] {
            let scale = Scale::of(values.iter().copied(), unit);
            assert_eq!(scale.marks().collect::<Vec<_>>(), marks, "{values:?}");
        }
    }

    #[test]
    fn a_value_is_shown_in_its_unit() {
        for (value, unit, expected) in [
            (0.0025, "s", "2.5 ms"),
            (0.0, "s", "0"),
            (604_800.0, "s", "7 d"),
            (31_457_280.0, "bytes", "30 MiB"),
            (512.0, "Bps", "512 B/s"),
            (12.34, "reqps", "12.3/s"),
            (0.5, "percentunit", "50 %"),
            (1500.0, "short", "1500"),
        ] {
            assert_eq!(shown(value, unit), expected);
        }
    }
}
