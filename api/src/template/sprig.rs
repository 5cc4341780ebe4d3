//! The functions of templates: Go's own where they need a bound, those of sprig that are pure, and
//! `yamlScalar`. What is left out stands in `LEFT_OUT`.

mod cases;
mod durations;
mod encoding;
mod letters;
mod lists;
mod maps;
mod numbers;
mod paths;
mod print;
mod re2;
mod regexes;
mod strings;
mod types;
mod urls;
mod verbs;
mod versions;
mod words;
mod yaml;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use gotmpl::{FuncMap, Value, ValueFunc};

use super::value::{Result, check_size, display, error, text, type_of};

/// Refuses nil; called by `prepare` with the place of an action and its value. No template can spell it.
pub const PRESENT: &str = "(present)";
/// Walks a path of fields; `paths` puts it in the place of one.
pub const WALK: &str = "(walk)";

/// The engine's own functions that are used as they are.
const BUILT_IN: [&str; 9] = ["and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge"];
const MANY: usize = usize::MAX;

/// What Go and sprig have for such templates, and these do not: with the reason.
const LEFT_OUT: [(&str, &[&str]); 4] = [
    ("calls a function that is a value, and no value here is one", &["call"]),
    (
        "makes keys, passwords or certificates, another at each rendering",
        &[
            "bcrypt",
            "buildCustomCert",
            "decryptAES",
            "derivePassword",
            "encryptAES",
            "genCA",
            "genCAWithKey",
            "genPrivateKey",
            "genSelfSignedCert",
            "genSelfSignedCertWithKey",
            "genSignedCert",
            "genSignedCertWithKey",
            "htpasswd",
        ],
    ),
    ("is random", &["randInt", "shuffle"]),
    (
        "works with points in time: by the clock, or by the machine's time zone",
        &["ago", "mustDateModify", "mustToDate", "must_date_modify", "toDate", "unixEpoch"],
    ),
];

/// Name, fewest and most arguments, body.
type Entry = (&'static str, usize, usize, fn(Args<'_>) -> Result<Value>);

const MODULES: [&[Entry]; 14] = [
    durations::FUNCTIONS,
    encoding::FUNCTIONS,
    lists::FUNCTIONS,
    maps::FUNCTIONS,
    numbers::FUNCTIONS,
    paths::FUNCTIONS,
    print::FUNCTIONS,
    regexes::FUNCTIONS,
    strings::FUNCTIONS,
    types::FUNCTIONS,
    urls::FUNCTIONS,
    versions::FUNCTIONS,
    words::FUNCTIONS,
    yaml::FUNCTIONS,
];

static ALL: LazyLock<FuncMap> = LazyLock::new(|| {
    let mut all: FuncMap = MODULES.into_iter().flatten().map(guarded).collect();
    all.insert(PRESENT.to_owned(), Arc::new(present));
    all.insert(WALK.to_owned(), Arc::new(walk));
    all
});

pub fn functions() -> FuncMap {
    ALL.clone()
}

pub fn is_known(name: &str) -> bool {
    BUILT_IN.contains(&name) || ALL.contains_key(name)
}

pub fn why_left_out(name: &str) -> Option<&'static str> {
    LEFT_OUT.iter().find(|(_, names)| names.contains(&name)).map(|(why, _)| *why)
}

/// Checks number and size of the arguments, and puts the function's name before its errors.
fn guarded(&(name, fewest, most, body): &Entry) -> (String, ValueFunc) {
    let function = move |values: &[Value]| {
        if !(fewest..=most).contains(&values.len()) {
            return Err(error(format!("wrong number of arguments for {name}: {}", values.len())));
        }
        check_size(values).and_then(|()| body(Args(values))).map_err(|cause| match cause {
            gotmpl::TemplateError::Exec(message) => error(format!("{name}: {message}")),
            other => other,
        })
    };
    (name.to_owned(), Arc::new(function))
}

fn present(values: &[Value]) -> Result<Value> {
    match values {
        [place, Value::Nil] => Err(error(format!("{place} has no value"))),
        // What is printed of it; the engine would write other digits.
        [_, value @ (Value::Float(_) | Value::List(_) | Value::Map(_))] => {
            check_size(values).map(|()| text(display(value)))
        }
        [_, value] => Ok(value.clone()),
        _ => Err(error("an action has no value")),
    }
}

/// A field of null is an error, though not one of a value that is missing: as in Go.
fn walk(values: &[Value]) -> Result<Value> {
    let Some((from, names)) = values.split_first() else { return Ok(Value::Nil) };
    let mut current = from;
    for (index, name) in names.iter().enumerate() {
        match (current, name.as_str()) {
            (Value::Map(fields), Some(name)) => match fields.get(name) {
                Some(value) => current = value,
                None => return Ok(Value::Nil),
            },
            (Value::Nil, Some(_)) if index == 0 => return Ok(Value::Nil),
            (Value::Nil, Some(name)) => return Err(error(format!("null has no field {name}"))),
            (other, _) => {
                return Err(error(format!("can't evaluate field {name} in type {}", type_of(other))));
            }
        }
    }
    Ok(current.clone())
}

/// Arguments of a call, read by type. Their number was checked.
#[derive(Clone, Copy)]
struct Args<'a>(&'a [Value]);

impl<'a> Args<'a> {
    fn get(self, index: usize) -> &'a Value {
        self.0.get(index).unwrap_or(&Value::Nil)
    }

    fn from(self, index: usize) -> &'a [Value] {
        self.0.get(index..).unwrap_or_default()
    }

    fn text(self, index: usize) -> Result<&'a str> {
        self.get(index).as_str().ok_or_else(|| self.mismatch(index, "string"))
    }

    fn list(self, index: usize) -> Result<&'a [Value]> {
        match self.get(index) {
            Value::List(items) => Ok(items),
            _ => Err(self.mismatch(index, "list")),
        }
    }

    fn map(self, index: usize) -> Result<&'a BTreeMap<Arc<str>, Value>> {
        match self.get(index) {
            Value::Map(fields) => Ok(fields),
            _ => Err(self.mismatch(index, "map")),
        }
    }

    /// The same, with none for a map that is missing: it can be asked, not changed.
    fn fields(self, index: usize) -> Result<&'a BTreeMap<Arc<str>, Value>> {
        static NONE: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        match self.get(index) {
            Value::Nil => Ok(&NONE),
            _ => self.map(index),
        }
    }

    fn int(self, index: usize) -> Result<i64> {
        match self.get(index) {
            Value::Int(number) => Ok(*number),
            _ => Err(self.mismatch(index, "integer")),
        }
    }

    /// An integer that counts something.
    fn count(self, index: usize) -> Result<usize> {
        usize::try_from(self.int(index)?).map_err(|_| error("a number must not be negative"))
    }

    fn mismatch(self, index: usize, expected: &str) -> gotmpl::TemplateError {
        error(format!("argument {} must be a {expected}, not {}", index + 1, type_of(self.get(index))))
    }
}
