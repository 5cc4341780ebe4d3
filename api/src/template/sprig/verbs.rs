//! Verbs of `printf` whose text is another in Go than in the engine: its argument is replaced by that text.

use gotmpl::Value;

use super::super::value::{Result, display, error, text, type_of};
use super::Args;

/// The format and its arguments. A format that takes its arguments out of order is left to the engine.
pub fn as_go_prints(args: Args<'_>) -> Result<Vec<Value>> {
    let format = args.text(0)?;
    let mut given: Vec<Value> = args.0.to_vec();
    if format.contains(['[', '*']) {
        return Ok(given);
    }
    let (mut output, mut rest, mut next) = (String::new(), format, 1);
    while let Some((before, after)) = rest.split_once('%') {
        let end = after.find(|c: char| !c.is_ascii_digit() && !"+-# .".contains(c)).unwrap_or(after.len());
        let (flags, verb) = (&after[..end], after[end..].chars().next());
        rest = &after[end + verb.map_or(0, char::len_utf8)..];
        output.extend([before, "%", flags]);
        match (verb, given.get_mut(next)) {
            (None, _) => return Err(error("the format ends in the middle of a verb")),
            (Some('%'), _) => output.push('%'),
            (Some(verb), None) => output.push(verb),
            (Some(verb), Some(value)) => {
                output.push(replaced(verb, flags, value)?);
                next += 1;
            }
        }
    }
    output.push_str(rest);
    given[0] = text(output);
    Ok(given)
}

/// The verb for what then stands in the argument's place.
fn replaced(verb: char, flags: &str, value: &mut Value) -> Result<char> {
    let plain = flags.bytes().all(|flag| b"-123456789".contains(&flag));
    let unlike = match verb {
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => matches!(value, Value::Int(_)),
        'd' => matches!(value, Value::Float(_)),
        'x' | 'X' => matches!(value, Value::Float(_)) || flags.contains(' '),
        'v' if matches!(value, Value::Float(_)) => flags.contains(['#', '+']),
        'v' => flags.contains('#') && !matches!(value, Value::Int(_) | Value::Bool(_)),
        'c' => !flags.is_empty(),
        _ => false,
    };
    if unlike {
        return Err(error("the arguments do not fit the format"));
    }
    let written = match (verb, &*value) {
        ('T', value) => type_of(value).to_owned(),
        ('v', Value::Float(_) | Value::List(_) | Value::Map(_)) if plain => display(value),
        ('v', Value::Float(_)) => return Ok('g'),
        ('d', Value::List(items)) if flags.is_empty() && items.iter().all(|item| item.as_int().is_some()) => {
            display(value)
        }
        ('s', Value::List(_) | Value::Map(_)) if plain && is_text(value) => display(value),
        _ => return Ok(verb),
    };
    *value = text(written);
    Ok('s')
}

fn is_text(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::List(items) => items.iter().all(is_text),
        Value::Map(fields) => fields.values().all(is_text),
        _ => false,
    }
}
