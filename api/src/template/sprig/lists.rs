//! Lists: making, taking apart, changing.

use std::collections::HashSet;

use gotmpl::Value;

use super::super::MAX_ITERATIONS;
use super::super::value::{Result, check_product, display, error, list, type_of};
use super::{Args, Entry, MANY};

pub const FUNCTIONS: &[Entry] = &[
    ("list", 0, MANY, |args| Ok(list(args.0.iter().cloned()))),
    ("tuple", 0, MANY, |args| Ok(list(args.0.iter().cloned()))),
    ("first", 1, 1, |args| Ok(args.list(0)?.first().cloned().unwrap_or(Value::Nil))),
    ("mustFirst", 1, 1, |args| Ok(args.list(0)?.first().cloned().unwrap_or(Value::Nil))),
    ("last", 1, 1, |args| Ok(args.list(0)?.last().cloned().unwrap_or(Value::Nil))),
    ("mustLast", 1, 1, |args| Ok(args.list(0)?.last().cloned().unwrap_or(Value::Nil))),
    ("rest", 1, 1, |args| Ok(list(args.list(0)?.iter().skip(1).cloned()))),
    ("mustRest", 1, 1, |args| Ok(list(args.list(0)?.iter().skip(1).cloned()))),
    ("initial", 1, 1, initial),
    ("mustInitial", 1, 1, initial),
    ("append", 2, 2, append),
    ("push", 2, 2, append),
    ("mustPush", 2, 2, append),
    ("slice", 1, MANY, slice),
    ("mustSlice", 1, MANY, slice),
    ("mustAppend", 2, 2, append),
    ("prepend", 2, 2, prepend),
    ("mustPrepend", 2, 2, prepend),
    ("concat", 0, MANY, concat),
    ("reverse", 1, 1, |args| Ok(list(args.list(0)?.iter().rev().cloned()))),
    ("mustReverse", 1, 1, |args| Ok(list(args.list(0)?.iter().rev().cloned()))),
    ("uniq", 1, 1, uniq),
    ("mustUniq", 1, 1, uniq),
    ("without", 1, MANY, without),
    ("mustWithout", 1, MANY, without),
    ("has", 2, 2, has),
    ("mustHas", 2, 2, has),
    ("compact", 1, 1, |args| Ok(list(args.list(0)?.iter().filter(|item| item.is_truthy()).cloned()))),
    ("mustCompact", 1, 1, |args| Ok(list(args.list(0)?.iter().filter(|item| item.is_truthy()).cloned()))),
    ("chunk", 2, 2, chunk),
    ("mustChunk", 2, 2, chunk),
    ("until", 1, 1, |args| numbers(0, args.int(0)?, if args.int(0)? < 0 { -1 } else { 1 })),
    ("untilStep", 3, 3, |args| numbers(args.int(0)?, args.int(1)?, args.int(2)?)),
];

fn initial(args: Args<'_>) -> Result<Value> {
    let items = args.list(0)?;
    Ok(list(items.iter().take(items.len().saturating_sub(1)).cloned()))
}

fn append(args: Args<'_>) -> Result<Value> {
    Ok(list(args.list(0)?.iter().chain([args.get(1)]).cloned()))
}

fn prepend(args: Args<'_>) -> Result<Value> {
    Ok(list([args.get(1)].into_iter().chain(args.list(0)?).cloned()))
}

fn concat(args: Args<'_>) -> Result<Value> {
    let mut items = Vec::new();
    for index in 0..args.0.len() {
        items.extend_from_slice(args.list(index)?);
    }
    Ok(list(items))
}

fn uniq(args: Args<'_>) -> Result<Value> {
    let mut seen = Seen::default();
    let mut kept = Vec::new();
    for item in args.list(0)? {
        if seen.is_new(item)? {
            kept.push(item.clone());
        }
    }
    Ok(list(kept))
}

/// What was there already. A tenant's list may have a million items, too many to compare each
/// with each: simple values are looked up, and of lists and maps there may be few.
#[derive(Default)]
struct Seen<'a> {
    simple: HashSet<(&'static str, String)>,
    nested: Vec<&'a Value>,
}

impl<'a> Seen<'a> {
    fn is_new(&mut self, item: &'a Value) -> Result<bool> {
        if !matches!(item, Value::List(_) | Value::Map(_)) {
            return Ok(self.simple.insert((type_of(item), display(item))));
        }
        check_product(self.nested.len(), self.nested.len())?;
        let new = !self.nested.contains(&item);
        if new {
            self.nested.push(item);
        }
        Ok(new)
    }
}

fn without(args: Args<'_>) -> Result<Value> {
    let (items, unwanted) = (args.list(0)?, args.from(1));
    check_product(items.len(), unwanted.len())?;
    Ok(list(items.iter().filter(|item| !unwanted.contains(item)).cloned()))
}

fn has(args: Args<'_>) -> Result<Value> {
    match args.get(1) {
        Value::Nil => Ok(Value::Bool(false)),
        _ => Ok(Value::Bool(args.list(1)?.contains(args.get(0)))),
    }
}

fn chunk(args: Args<'_>) -> Result<Value> {
    let size = args.count(0)?;
    if size == 0 {
        return Err(error("a chunk must have at least one item"));
    }
    Ok(list(args.list(1)?.chunks(size).map(|part| list(part.iter().cloned()))))
}

pub fn numbers(start: i64, stop: i64, step: i64) -> Result<Value> {
    let mut numbers = Vec::new();
    let mut next = start;
    while (step > 0 && next < stop) || (step < 0 && next > stop) {
        if numbers.len() as u64 >= MAX_ITERATIONS {
            return Err(error(format!("more than {MAX_ITERATIONS} numbers")));
        }
        numbers.push(Value::Int(next));
        let Some(following) = next.checked_add(step) else { break };
        next = following;
    }
    Ok(list(numbers))
}

/// From a place, to another. sprig's takes the place of Go's, which cuts texts too.
fn slice(args: Args<'_>) -> Result<Value> {
    let items = args.list(0)?;
    if items.is_empty() {
        return Ok(Value::Nil);
    }
    let place = |index: usize, default: usize| match args.0.get(index) {
        Some(value) => usize::try_from(super::numbers::integer(value)).unwrap_or(usize::MAX),
        None => default,
    };
    let (from, to) = (place(1, 0), place(2, items.len()));
    let part = items.get(from..to).ok_or_else(|| error("a place is out of the list"))?;
    Ok(list(part.iter().cloned()))
}
