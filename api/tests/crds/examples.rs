//! The documented examples of tests/examples, and how our types understand them.

use serde::Deserialize;
use serde_json::{Map, Value};

const FILES: [&str; 6] = [
    include_str!("../examples/k8s.yaml"),
    include_str!("../examples/git.yaml"),
    include_str!("../examples/code-hosts.yaml"),
    include_str!("../examples/registries.yaml"),
    include_str!("../examples/packages.yaml"),
    include_str!("../examples/others.yaml"),
];

/// Fields of this prefix stand for those that a later version may add.
const UNKNOWN: &str = "future";

pub struct Example {
    pub kind: String,
    pub name: String,
    pub spec: Value,
    pub yaml: String,
}

pub fn all() -> Vec<Example> {
    FILES.into_iter().flat_map(serde_yaml_ng::Deserializer::from_str).map(example).collect()
}

fn example(document: serde_yaml_ng::Deserializer<'_>) -> Example {
    let object = Value::deserialize(document).expect("example");
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).expect(pointer).to_owned();
    Example {
        kind: text("/kind"),
        name: text("/metadata/name"),
        spec: object["spec"].clone(),
        yaml: serde_yaml_ng::to_string(&object).expect("YAML"),
    }
}

/// Without the fields that no type knows, with headers as the list that a map of them is read as, and of values that
/// are lists or objects no more than that: nothing is done with them, and they could take any memory.
pub fn as_known(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(as_known).collect(),
        Value::Object(fields) => Value::Object(fields.iter().filter_map(known_field).collect::<Map<_, _>>()),
        other => other.clone(),
    }
}

fn known_field((key, value): (&String, &Value)) -> Option<(String, Value)> {
    match (key.as_str(), value) {
        (key, _) if key.starts_with(UNKNOWN) => None,
        ("httpHeaders", Value::Object(headers)) => {
            let header = |(name, value): (&String, &Value)| serde_json::json!({"name": name, "value": value});
            Some((key.clone(), headers.iter().map(header).collect()))
        }
        ("value", Value::Array(_)) => Some((key.clone(), Value::Array(Vec::new()))),
        ("value", Value::Object(_)) => Some((key.clone(), Value::Object(Map::new()))),
        _ => Some((key.clone(), as_known(value))),
    }
}
