//! What a JSON Schema says of one field, in words and as cells of a table. For `resources` and `settings`.

use serde_json::Value;

/// Keywords of a schema that a number follows, and the words around that.
const BOUNDS: [(&str, &str, &str); 8] = [
    ("minimum", "at least ", ""),
    ("maximum", "at most ", ""),
    ("minLength", "at least ", " characters"),
    ("maxLength", "at most ", " characters"),
    ("minItems", "at least ", " items"),
    ("maxItems", "at most ", " items"),
    ("formatMinimum", "at least ", ""),
    ("formatMaximum", "at most ", ""),
];

pub fn type_of(schema: &Value) -> String {
    // `false` says that there are no others.
    let values = schema.get("additionalProperties").filter(|values| values.is_object());
    match (schema.get("items"), values) {
        (Some(items), _) => format!("[]{}", type_of(items)),
        (None, Some(values)) => format!("map[string]{}", type_of(values)),
        (None, None) => named(schema),
    }
}

/// A format says more than a type, unless it is only the size of a number without a sign. What may be left out has
/// two types, the second of them null; a choice of words has that of the first.
fn named(schema: &Value) -> String {
    let format = schema.get("format").filter(|format| !plain(format).starts_with("uint"));
    let kind = schema["type"].get(0).or(schema.get("type")).or(schema["oneOf"][0].get("type"));
    format.or(kind).map_or_else(|| "any".to_owned(), plain)
}

/// What is checked, in words.
pub fn rules(schema: &Value) -> Vec<String> {
    let list = |key: &str| schema[key].as_array().into_iter().flatten();
    let quoted = |values: Vec<String>| format!("`{}`", values.join("`, `"));
    let choices = schema.get("enum").map(|_| format!("one of {}", quoted(list("enum").map(plain).collect())));
    let told = list("oneOf").map(|one| format!("`{}`: {}", plain(&one["const"]), meaning(one)));
    let told = Some(told.collect::<Vec<_>>().join(" ")).filter(|told| !told.is_empty());
    let default = schema.get("default").map(|value| format!("default `{}`", plain(value)));
    let bounds = BOUNDS
        .iter()
        .filter_map(|(key, before, after)| Some(format!("{before}{}{after}", plain(schema.get(key)?))));
    // A duration's says no more than its type.
    let pattern =
        schema.get("pattern").filter(|_| schema["format"] != "duration" && schema["format"] != "network");
    let pattern = pattern.map(|pattern| format!("matches `{}`", plain(pattern)));
    let keys = list("x-kubernetes-list-map-keys").map(|key| format!("one for each `{}`", plain(key)));
    let messages = list("x-kubernetes-validations").filter_map(|rule| rule.get("message")).map(plain);
    let items = schema.get("items").into_iter().flat_map(rules).map(|rule| format!("each {rule}"));
    let choices = choices.into_iter().chain(told);
    let own = choices.chain(default).chain(bounds).chain(pattern).chain(keys).chain(messages);
    own.chain(items).collect()
}

pub fn meaning(schema: &Value) -> String {
    let said = |schema: &Value| Some(plain(schema.get("description")?));
    let each = schema.get("items").and_then(said);
    let text = [said(schema), each].into_iter().flatten().collect::<Vec<_>>().join(" Each: ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text without its quotation marks, anything else as JSON.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A row of a table.
pub fn line<const COLUMNS: usize>(cells: [String; COLUMNS]) -> String {
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}
