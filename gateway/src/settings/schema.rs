//! All keys as a JSON Schema: types, defaults, bounds, meanings, and by `x-takes-effect` whether a change needs a restart.
//! docs/reference-settings.md and the chart's values.schema.json are made of it. `Settings::load` does not look at it:
//! the test below holds both together.

use schemars::Schema;
use schemars::generate::SchemaSettings;

use super::Settings;

/// Without references: each group and each rule stands where it is used.
pub fn schema() -> Schema {
    let flat = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    flat.into_generator().into_root_schema_for::<Settings>()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::tests::from_file;

    /// Values at the edge of what the schema of one key allows, and whether it allows them.
    fn edges(schema: &Value) -> Vec<(Value, bool)> {
        let mut edges = Vec::new();
        let mut edge = |inside: Value, outside: Value| edges.extend([(inside, true), (outside, false)]);
        for (keyword, step) in [("minimum", -1), ("maximum", 1)] {
            if let Some(bound) = schema[keyword].as_i64() {
                edge(json!(bound), json!(bound + step));
            }
        }
        if schema["format"] == "duration" {
            edge(json!("8760h"), json!("8761h"));
            match schema["formatMinimum"].as_str() {
                Some(shortest) => edge(json!(shortest), json!("0s")),
                None => edge(json!("0s"), json!("-1s")),
            }
        }
        if schema["items"]["format"] == "network" {
            edge(json!(["255.10.0.0/32", "::/0", "fd00::1:2/128"]), json!(["10.0.0.0/33"]));
        }
        if schema["minLength"] == 1 {
            edge(json!("x"), json!(""));
        }
        for choice in schema["oneOf"].as_array().into_iter().flatten() {
            edge(choice["const"].clone(), json!("other"));
        }
        edges
    }

    #[test]
    fn a_value_at_the_edge_of_the_schema_is_accepted_and_one_beyond_it_is_refused() {
        let schema = schema().to_value();
        let mut tried = 0;
        let mut try_all = |path: &[&str], schema: &Value| {
            for (value, allowed) in edges(schema) {
                // The one bound between two keys is out of the way of each.
                let mut file = json!({"authorization": {"fresh": "1ms", "outage": "8760h"}});
                match path {
                    [key] => file[key] = value,
                    [group, key] => file[group][key] = value,
                    _ => panic!("{path:?}"),
                }
                let read = from_file(&file.to_string());
                assert_eq!(read.is_ok(), allowed, "{file}: {read:?}");
                tried += 1;
            }
        };
        for (group, schema) in schema["properties"].as_object().unwrap() {
            match schema["properties"].as_object() {
                Some(keys) => keys.iter().for_each(|(key, schema)| try_all(&[group, key], schema)),
                None => try_all(&[group], schema),
            }
        }
        assert!(tried > 60, "{tried}");
    }

    #[test]
    fn the_defaults_of_the_schema_are_those_in_force() {
        let schema = schema().to_value();
        let mut written = json!({});
        for (group, schema) in schema["properties"].as_object().unwrap() {
            for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
                written[group][key] = schema["default"].clone();
                assert!(!written[group][key].is_null(), "{group}.{key} has no default");
            }
        }
        assert_eq!(from_file(&written.to_string()).unwrap(), Settings::default());
    }
}
