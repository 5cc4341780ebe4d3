//! Maps. Values are immutable: what sprig changes in place is returned anew, and `prepare` assigns it to the
//! variable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gotmpl::Value;

use super::super::value::{Result, display, error, list, text};
use super::{Args, Entry, MANY};

type Fields = BTreeMap<Arc<str>, Value>;

pub const FUNCTIONS: &[Entry] = &[
    ("dict", 0, MANY, |args| Ok(map(dict(args)))),
    ("get", 2, 2, |args| Ok(args.fields(0)?.get(args.text(1)?).cloned().unwrap_or_else(|| text("")))),
    ("set", 3, 3, set),
    ("unset", 2, 2, unset),
    ("hasKey", 2, 2, |args| Ok(Value::Bool(args.fields(0)?.contains_key(args.text(1)?)))),
    ("pluck", 1, MANY, pluck),
    ("keys", 0, MANY, keys),
    ("values", 1, 1, |args| Ok(list(args.fields(0)?.values().cloned()))),
    ("pick", 1, MANY, |args| select(args, true)),
    ("omit", 1, MANY, |args| select(args, false)),
    ("merge", 1, MANY, |args| merged(args, false)),
    ("mustMerge", 1, MANY, |args| merged(args, false)),
    ("mergeOverwrite", 1, MANY, |args| merged(args, true)),
    ("mustMergeOverwrite", 1, MANY, |args| merged(args, true)),
    ("deepCopy", 1, 1, |args| Ok(args.get(0).clone())),
    ("mustDeepCopy", 1, 1, |args| Ok(args.get(0).clone())),
    ("dig", 3, MANY, dig),
];

fn map(fields: Fields) -> Value {
    Value::Map(Arc::new(fields))
}

fn key(value: &Value) -> Arc<str> {
    Arc::from(display(value))
}

/// A last key without value gets the empty text.
fn dict(args: Args<'_>) -> Fields {
    args.0
        .chunks(2)
        .filter_map(|pair| Some((key(pair.first()?), pair.get(1).cloned().unwrap_or_else(|| text("")))))
        .collect()
}

fn set(args: Args<'_>) -> Result<Value> {
    let mut fields = args.map(0)?.clone();
    fields.insert(Arc::from(args.text(1)?), args.get(2).clone());
    Ok(map(fields))
}

fn unset(args: Args<'_>) -> Result<Value> {
    let mut fields = args.fields(0)?.clone();
    fields.remove(args.text(1)?);
    Ok(map(fields))
}

fn pluck(args: Args<'_>) -> Result<Value> {
    let name = args.text(0)?;
    let mut found = Vec::new();
    for index in 1..args.0.len() {
        found.extend(args.fields(index)?.get(name).cloned());
    }
    Ok(list(found))
}

fn keys(args: Args<'_>) -> Result<Value> {
    let mut found = Vec::new();
    for index in 0..args.0.len() {
        found.extend(args.fields(index)?.keys().map(text));
    }
    Ok(list(found))
}

fn select(args: Args<'_>, wanted: bool) -> Result<Value> {
    let names = (1..args.0.len()).map(|index| args.text(index)).collect::<Result<BTreeSet<_>>>()?;
    let chosen = args.fields(0)?.iter().filter(|(name, _)| names.contains(name.as_ref()) == wanted);
    Ok(map(chosen.map(|(name, value)| (name.clone(), value.clone())).collect()))
}

fn merged(args: Args<'_>, overwrite: bool) -> Result<Value> {
    let mut fields = args.fields(0)?.clone();
    for index in 1..args.0.len() {
        merge_into(&mut fields, args.fields(index)?, overwrite);
    }
    Ok(map(fields))
}

/// Without overwriting, an empty value is still replaced, but not by nil.
fn merge_into(fields: &mut Fields, source: &Fields, overwrite: bool) {
    for (name, value) in source {
        match (fields.get_mut(name), value) {
            (_, Value::Nil) if !overwrite => {}
            (Some(Value::Map(old)), Value::Map(new)) => merge_into(Arc::make_mut(old), new, overwrite),
            (Some(old), _) if old.is_truthy() && !overwrite => {}
            _ => {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Keys, then the default, then the map.
fn dig(args: Args<'_>) -> Result<Value> {
    let [names @ .., default, from] = args.0 else {
        return Err(error("keys, a default and a map are needed"));
    };
    let mut current = from;
    for name in names {
        match (current, name.as_str()) {
            (Value::Map(fields), Some(name)) => match fields.get(name) {
                Some(value) => current = value,
                None => return Ok(default.clone()),
            },
            _ => return Err(error("only maps have keys, and keys are strings")),
        }
    }
    Ok(current.clone())
}
