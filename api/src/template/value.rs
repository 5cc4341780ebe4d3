//! Values of the template engine: from and to JSON, their text as Go prints it, and the bounds that every
//! function keeps.

use std::sync::Arc;

use gotmpl::{TemplateError, Value};
use serde_json::{Map, Number};

/// Units (bytes of text, items) that the arguments of one call may hold, and how deep they may nest. Values
/// share their parts, so a template could otherwise double one with every step.
pub const MAX_SIZE: usize = 1024 * 1024;
const MAX_DEPTH: usize = 100;

pub type Result<T> = std::result::Result<T, TemplateError>;

/// An error in the template's own words. Never quote a value in it.
pub fn error(message: impl Into<String>) -> TemplateError {
    TemplateError::Exec(message.into())
}

pub fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => from_number(number),
        serde_json::Value::String(text) => Value::String(Arc::from(text.as_str())),
        serde_json::Value::Array(items) => list(items.iter().map(from_json)),
        serde_json::Value::Object(fields) => Value::Map(Arc::new(
            fields.iter().map(|(key, value)| (Arc::from(key.as_str()), from_json(value))).collect(),
        )),
    }
}

fn from_number(number: &Number) -> Value {
    match number.as_i64() {
        Some(integer) => Value::Int(integer),
        None => Value::Float(number.as_f64().unwrap_or_default()),
    }
}

/// Whole floats become integers, as Go's encoder writes them.
pub fn to_json(value: &Value) -> Result<serde_json::Value> {
    Ok(match value {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => float_to_json(*number).ok_or_else(|| error("a number is not finite"))?.into(),
        Value::String(text) => text.as_ref().into(),
        Value::List(items) => items.iter().map(to_json).collect::<Result<Vec<_>>>()?.into(),
        Value::Map(fields) => {
            let field = |(key, value): (&Arc<str>, &Value)| Ok((key.to_string(), to_json(value)?));
            serde_json::Value::Object(fields.iter().map(field).collect::<Result<Map<_, _>>>()?)
        }
        Value::Function(_) => return Err(error("a function is no JSON")),
    })
}

/// The shortest digits, filled up by zeros.
fn float_to_json(number: f64) -> Option<Number> {
    let whole = (number.fract() == 0.0).then(|| number.to_string().parse::<i64>().ok());
    whole.flatten().map(Number::from).or_else(|| Number::from_f64(number))
}

/// As Go's `%v`.
pub fn display(value: &Value) -> String {
    match value {
        Value::Float(number) => go_float(*number),
        Value::List(items) => format!("[{}]", items.iter().map(inside).collect::<Vec<_>>().join(" ")),
        Value::Map(fields) => {
            let field = |(key, value): (&Arc<str>, &Value)| format!("{key}:{}", inside(value));
            format!("map[{}]", fields.iter().map(field).collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

fn inside(value: &Value) -> String {
    if matches!(value, Value::Nil) { "<nil>".into() } else { display(value) }
}

/// The shortest digits that mean the number; with an exponent from a million on, and below 0.0001.
fn go_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or_default();
    match exponent.parse::<i32>() {
        Ok(exponent) if number != 0.0 && !(-4..6).contains(&exponent) => with_exponent(digits, exponent),
        _ if number.is_infinite() => if number < 0.0 { "-Inf" } else { "+Inf" }.into(),
        _ => number.to_string(),
    }
}

fn with_exponent(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Go's name of a value's type.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Uint(_) => "uint64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        Value::Function(_) => "func()",
    }
}

/// Refuses arguments that are too large or nested too deeply to be worked on.
pub fn check_size(values: &[Value]) -> Result<()> {
    let mut left = MAX_SIZE;
    match values.iter().all(|value| fits(value, &mut left, MAX_DEPTH)) {
        true => Ok(()),
        false => Err(error("a value grew too large")),
    }
}

/// For functions that multiply: refuses before the memory is taken.
pub fn check_product(size: usize, times: usize) -> Result<()> {
    match size.checked_mul(times).is_some_and(|product| product <= MAX_SIZE) {
        true => Ok(()),
        false => Err(error("a value grew too large")),
    }
}

fn fits(value: &Value, left: &mut usize, depth: usize) -> bool {
    let own = value.len().unwrap_or(0) + 1;
    if depth == 0 || own > *left {
        return false;
    }
    *left -= own;
    match value {
        Value::List(items) => items.iter().all(|item| fits(item, left, depth - 1)),
        Value::Map(fields) => fields.iter().all(|(key, item)| {
            *left = left.saturating_sub(key.len());
            fits(item, left, depth - 1)
        }),
        _ => true,
    }
}

pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
    Value::List(items.into_iter().collect())
}

pub fn text(text: impl AsRef<str>) -> Value {
    Value::String(Arc::from(text.as_ref()))
}
