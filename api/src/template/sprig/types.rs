//! Defaults, choices and types.

use gotmpl::Value;

use super::super::value::{display, error, text, type_of};
use super::{Args, Entry, MANY};

pub const FUNCTIONS: &[Entry] = &[
    ("default", 1, MANY, |args| {
        Ok(if args.0.len() < 2 || !args.get(1).is_truthy() { args.get(0) } else { args.get(1) }.clone())
    }),
    ("empty", 1, 1, |args| Ok(Value::Bool(!args.get(0).is_truthy()))),
    ("coalesce", 0, MANY, |args| {
        Ok(args.0.iter().find(|value| value.is_truthy()).cloned().unwrap_or(Value::Nil))
    }),
    ("all", 0, MANY, |args| Ok(Value::Bool(args.0.iter().all(Value::is_truthy)))),
    ("any", 0, MANY, |args| Ok(Value::Bool(args.0.iter().any(Value::is_truthy)))),
    ("ternary", 3, 3, ternary),
    ("fail", 1, 1, |args| Err(error(args.text(0)?))),
    ("toString", 1, 1, |args| Ok(text(display(args.get(0))))),
    ("typeOf", 1, 1, |args| Ok(text(type_of(args.get(0))))),
    ("typeIs", 2, 2, |args| Ok(Value::Bool(args.text(0)? == type_of(args.get(1))))),
    ("typeIsLike", 2, 2, |args| Ok(Value::Bool(args.text(0)? == type_of(args.get(1))))),
    ("kindOf", 1, 1, |args| Ok(text(kind_of(args.get(0))))),
    ("kindIs", 2, 2, |args| Ok(Value::Bool(args.text(0)? == kind_of(args.get(1))))),
    ("deepEqual", 2, 2, |args| Ok(Value::Bool(args.get(0) == args.get(1)))),
];

fn ternary(args: Args<'_>) -> super::Result<Value> {
    match args.get(2) {
        Value::Bool(choice) => Ok(args.get(if *choice { 0 } else { 1 }).clone()),
        _ => Err(args.mismatch(2, "bool")),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "invalid",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        Value::Function(_) => "func",
        scalar => type_of(scalar),
    }
}
