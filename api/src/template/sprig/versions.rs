//! Versions by semver 2.0, with missing parts as 0, and the constraints of the library that sprig has.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use gotmpl::Value;
use regex::{Captures, Regex};

use super::super::value::{Result, error, text};
use super::{Args, Entry};

pub const FUNCTIONS: &[Entry] = &[
    ("semver", 1, 1, |args| Ok(shown(&Version::parse(args.text(0)?)?, args.text(0)?))),
    ("semverCompare", 2, 2, compare),
];

const NUMBERS: &str = r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?";
const WILD: &str = r"v?([0-9|xX*]+)(?:\.([0-9|xX*]+))?(?:\.([0-9|xX*]+))?";
const REST: &str = r"(?:-([0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*))?(?:\+([0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*))?";
const OPERATORS: &str = r"(=||!=|>|<|>=|=>|<=|=<|~|~>|\^)";

/// None only if one of the constants above were broken.
fn compiled(pattern: String) -> Option<Regex> {
    Regex::new(&pattern).ok()
}

static VERSION: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(format!("^{NUMBERS}{REST}$")));
static RANGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let bare = |pattern: &str| pattern.replace("(?:", "(").replace('(', "(?:");
    let version = bare(&format!("{WILD}{REST}"));
    compiled(format!(r"\s*({version})\s+-\s+({version})\s*"))
});
static VALID: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let one = format!(r"\s*{OPERATORS}\s*{WILD}{REST}\s*");
    compiled(format!(r"^(?:{one})(?:(?:\s+|,\s*){OPERATORS}\s*{WILD}{REST}\s*)*$"))
});
static ONE: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(format!(r"{OPERATORS}\s*{WILD}{REST}")));

fn found<'a>(pattern: &Option<Regex>, source: &'a str) -> Option<Captures<'a>> {
    pattern.as_ref()?.captures(source)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    parts: [u64; 3],
    pre: String,
    metadata: String,
}

impl Version {
    fn parse(source: &str) -> Result<Version> {
        let invalid = || error("the text is no semantic version");
        let groups = found(&VERSION, source).ok_or_else(invalid)?;
        let part = |index| match groups.get(index) {
            Some(digits) => digits.as_str().parse().map_err(|_| invalid()),
            None => Ok(0),
        };
        let rest = |index| groups.get(index).map_or("", |rest| rest.as_str()).to_owned();
        let version = Version { parts: [part(1)?, part(2)?, part(3)?], pre: rest(4), metadata: rest(5) };
        let padded = |id: &str| id.len() > 1 && id.starts_with('0') && id.bytes().all(|b| b.is_ascii_digit());
        if version.pre.split('.').any(padded) {
            return Err(invalid());
        }
        Ok(version)
    }

    fn order(&self, other: &Version) -> Ordering {
        self.parts.cmp(&other.parts).then_with(|| match (self.pre.as_str(), other.pre.as_str()) {
            ("", "") => Ordering::Equal,
            ("", _) => Ordering::Greater,
            (_, "") => Ordering::Less,
            (one, other) => order_of_pre(one, other),
        })
    }
}

/// Numbers before words, and the shorter first.
fn order_of_pre(one: &str, other: &str) -> Ordering {
    let (mut ours, mut theirs) = (one.split('.'), other.split('.'));
    loop {
        let order = match (ours.next(), theirs.next()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(one), Some(other)) => match (one.parse::<u64>(), other.parse::<u64>()) {
                (Ok(one), Ok(other)) => one.cmp(&other),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => one.cmp(other),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Its parts, under the names that they have there.
fn shown(version: &Version, original: &str) -> Value {
    let number = |part: u64| Value::Int(i64::try_from(part).unwrap_or(i64::MAX));
    let [major, minor, patch] = version.parts.map(number);
    let fields = [
        ("Major", major),
        ("Minor", minor),
        ("Patch", patch),
        ("Prerelease", text(&version.pre)),
        ("Metadata", text(&version.metadata)),
        ("Original", text(original)),
    ];
    Value::Map(Arc::new(
        fields.map(|(name, value)| (Arc::from(name), value)).into_iter().collect::<BTreeMap<_, _>>(),
    ))
}

/// One comparison, and how many parts of its version are written.
struct Constraint<'a> {
    operator: &'a str,
    version: Version,
    written: usize,
}

fn compare(args: Args<'_>) -> Result<Value> {
    let version = Version::parse(args.text(1)?);
    let alternatives: Vec<Vec<(String, String)>> = constraints(args.text(0)?)?;
    let version = version?;
    let mut any = false;
    for all in &alternatives {
        let mut fits = true;
        for (operator, text) in all {
            fits &= constraint(operator, text)?.holds(&version);
        }
        any |= fits;
    }
    Ok(Value::Bool(any))
}

/// Operators and versions: alternatives of what must hold together.
fn constraints(source: &str) -> Result<Vec<Vec<(String, String)>>> {
    let improper = || error("the text is no constraint of versions");
    let ranges = RANGE.as_ref().ok_or_else(improper)?;
    let source = ranges.replace_all(source, ">= $1, <= $2 ");
    let mut alternatives = Vec::new();
    for part in source.split("||") {
        if !VALID.as_ref().ok_or_else(improper)?.is_match(part) {
            return Err(improper());
        }
        let one = ONE.as_ref().ok_or_else(improper)?;
        let all = one.captures_iter(part).map(|groups| {
            let whole = groups.get(0).map_or("", |whole| whole.as_str());
            let operator = groups.get(1).map_or("", |operator| operator.as_str());
            (operator.to_owned(), whole[operator.len()..].trim().to_owned())
        });
        alternatives.push(all.collect());
    }
    Ok(alternatives)
}

fn constraint<'a>(operator: &'a str, source: &str) -> Result<Constraint<'a>> {
    let improper = || error("the text is no constraint of versions");
    static WILDCARD: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(format!("^{WILD}{REST}$")));
    let groups = found(&WILDCARD, source).ok_or_else(improper)?;
    let part = |index| groups.get(index).map_or("", |part: regex::Match<'_>| part.as_str());
    let written = (1..=3).take_while(|index| !matches!(part(*index), "" | "x" | "X" | "*")).count();
    let mut numbers = [1, 2, 3].map(part);
    numbers.iter_mut().skip(written).for_each(|number| *number = "0");
    let pre = part(4);
    let mut whole = numbers.join(".");
    if !pre.is_empty() {
        whole = format!("{whole}-{pre}");
    }
    Ok(Constraint { operator, version: Version::parse(&whole).map_err(|_| improper())?, written })
}

impl Constraint<'_> {
    fn holds(&self, version: &Version) -> bool {
        if !version.pre.is_empty()
            && self.version.pre.is_empty()
            && !(self.operator == "!=" && self.written == 3)
        {
            return false;
        }
        let order = version.order(&self.version);
        match self.operator {
            "" | "=" if self.written == 3 => order == Ordering::Equal,
            "" | "=" | "~" | "~>" => self.tilde(version, order),
            "!=" => self.differs(version, order),
            ">" => self.greater(version, order),
            "<" => order == Ordering::Less,
            ">=" | "=>" => order != Ordering::Less,
            "<=" | "=<" => self.at_most(version, order),
            _ => self.caret(version, order),
        }
    }

    fn same(&self, version: &Version, parts: usize) -> bool {
        version.parts[..parts] == self.version.parts[..parts]
    }

    fn tilde(&self, version: &Version, order: Ordering) -> bool {
        let anything = self.version.parts == [0, 0, 0] && matches!(self.written, 0 | 3);
        order != Ordering::Less && (anything || self.same(version, self.written.clamp(1, 2)))
    }

    fn differs(&self, version: &Version, order: Ordering) -> bool {
        match self.written {
            3 => order != Ordering::Equal,
            2 if self.same(version, 2) => {
                (!version.pre.is_empty() || !self.version.pre.is_empty()) && version.pre != self.version.pre
            }
            written => !self.same(version, written.max(1)),
        }
    }

    fn greater(&self, version: &Version, order: Ordering) -> bool {
        match self.written {
            1 | 2 => version.parts[..self.written] > self.version.parts[..self.written],
            _ => order == Ordering::Greater,
        }
    }

    fn at_most(&self, version: &Version, order: Ordering) -> bool {
        match self.written {
            3 => order != Ordering::Greater,
            0 => version.parts[..2] <= self.version.parts[..2] || version.parts[0] < self.version.parts[0],
            written => version.parts[..written] <= self.version.parts[..written],
        }
    }

    /// Nothing that the leftmost part that is not 0 would forbid.
    fn caret(&self, version: &Version, order: Ordering) -> bool {
        if order == Ordering::Less {
            return false;
        }
        let [major, minor, _] = self.version.parts;
        let parts = match (major, minor, self.written) {
            (1.., _, _) | (_, _, 1) => 1,
            (0, 1.., _) | (_, _, 2) => 2,
            _ => 3,
        };
        self.same(version, parts)
    }
}
