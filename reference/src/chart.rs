//! What the chart accepts below `gateway.settings`: exactly what the gateway does, so that a wrong value is refused at
//! install and not by a gateway that ends. Pure; `main` writes it into charts/connectors/values.schema.json.

use serde_json::{Map, Value, json};

/// What Helm checks. The rest is for readers of the reference.
const CHECKED: [&str; 6] = ["type", "additionalProperties", "minimum", "maximum", "minLength", "pattern"];
const PLACE: &str = "/properties/gateway/properties/settings";

/// The chart's schema with the part for the settings made anew.
pub fn with_settings(chart: &str, settings: &Value) -> Result<String, String> {
    let mut chart: Value = serde_json::from_str(chart).map_err(|error| error.to_string())?;
    let place = chart.pointer_mut(PLACE).ok_or_else(|| format!("there is no {PLACE}"))?;
    *place = checked(settings);
    place["description"] = "docs/reference-settings.md lists the keys".into();
    Ok(format!("{chart:#}\n"))
}

fn checked(schema: &Value) -> Value {
    let kept = CHECKED.iter().filter_map(|&keyword| Some((keyword.to_owned(), schema.get(keyword)?.clone())));
    let mut kept: Map<String, Value> = kept.collect();
    if let Some(properties) = schema["properties"].as_object() {
        let properties: Value =
            properties.iter().map(|(key, schema)| (key.clone(), checked(schema))).collect();
        kept.insert("properties".to_owned(), properties);
    }
    if let Some(items) = schema.get("items") {
        kept.insert("items".to_owned(), checked(items));
    }
    // A list of words is refused with a clearer sentence than a choice of constants.
    if let Some(choices) = schema["oneOf"].as_array() {
        let words: Vec<&Value> = choices.iter().map(|choice| &choice["const"]).collect();
        kept.insert("enum".to_owned(), json!(words));
    }
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_for_settings_is_made_anew_and_the_rest_stays() {
        let chart = json!({"type": "object", "properties": {"gateway": {"properties": {
            "replicas": {"type": "integer"}, "settings": {"properties": {"old": {}}},
        }}}});
        let settings = json!({"title": "Settings", "type": "object", "additionalProperties": false, "properties": {
            "mode": {"default": "on", "oneOf": [{"const": "on", "description": "Yes."}, {"const": "off"}]},
            "ports": {"type": "array", "items": {"type": "integer", "format": "uint16", "maximum": 65535}},
        }});
        let expected = json!({"type": "object", "properties": {"gateway": {"properties": {
            "replicas": {"type": "integer"},
            "settings": {
                "type": "object", "additionalProperties": false,
                "description": "docs/reference-settings.md lists the keys", "properties": {
                    "mode": {"enum": ["on", "off"]},
                    "ports": {"type": "array", "items": {"type": "integer", "maximum": 65535}},
                },
            },
        }}}});
        let made = with_settings(&chart.to_string(), &settings).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&made).unwrap(), expected);
        assert!(with_settings("{}", &settings).unwrap_err().contains(PLACE));
    }
}
