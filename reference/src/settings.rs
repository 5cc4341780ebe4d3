//! docs/reference-settings.md: every setting of the gateway, made from its schema, then the flags of all parts. Pure;
//! `main` writes it.

use serde_json::Value;

use crate::flags;
use crate::schema::{line, meaning, plain, rules, type_of};

const HEAD: &str = "\
# Reference of settings and flags

<!-- Generated from the types in gateway/src/settings, gateway/src/flags.rs, controller/src/settings.rs and csi/src/settings.rs by `make crds`; do not edit. -->

## Settings of the gateway

Keys of `gateway.yaml` in ConfigMap `connectors-gateway`, in the chart below `gateway.settings`; as environment variables
`CONNECTORS_GATEWAY__<GROUP>__<KEY>`, for example `CONNECTORS_GATEWAY__TIMEOUTS__CONNECT=3s`. [operations.md](operations.md#gateway-settings) says
when an edit arrives and what becomes of a wrong one.

A duration is a number and a unit: `500ms`, `10s`, `5m`, `24h`. Behind `[]` is what each item of a list has. *shipped*: what `config/` and the chart set
in place of the default.
";
const FLAGS: &str = "\n## Flags\n
Each is a flag or an environment variable and is read at start. Beside them `RUST_LOG` says for each part [what it logs](operations.md#logs-and-metrics);
outside of a Pod `KUBECONFIG` names the cluster.
";
const TABLE: &str =
    "\n| setting | type | default | rules | takes effect | meaning |\n|---|---|---|---|---|---|\n";

/// `shipped` are the settings of `config/gateway/settings.yaml`.
pub fn page(schema: &Value, shipped: &Value, programs: &[clap::Command]) -> String {
    let mut walk = Walk { shipped, lists: Vec::new() };
    let (groups, single): (Vec<_>, Vec<_>) =
        fields(schema).partition(|(_, schema)| schema.get("properties").is_some());
    let single: Vec<String> =
        single.into_iter().flat_map(|(key, schema)| walk.rows(key, schema, "")).collect();
    let mut text = format!("{HEAD}{TABLE}{}", single.concat());
    for (name, group) in groups {
        let rows = walk.inside(name, group, "").concat();
        text += &format!("\n### `{name}`\n\n{}\n{TABLE}{rows}", meaning(group));
    }
    text + FLAGS + &programs.iter().map(flags::section).collect::<String>()
}

fn fields(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object["properties"].as_object().into_iter().flatten()
}

struct Walk<'a> {
    shipped: &'a Value,
    /// What the items of a list have, and the first setting in which that stood.
    lists: Vec<(&'a Value, String)>,
}

impl<'a> Walk<'a> {
    fn inside(&mut self, path: &str, object: &'a Value, effect: &str) -> Vec<String> {
        let effect = takes(object, effect);
        let rows = fields(object).map(|(key, schema)| self.rows(&format!("{path}.{key}"), schema, &effect));
        rows.flatten().collect()
    }

    /// The row of a setting and, the first time, those of what is inside of its items.
    fn rows(&mut self, path: &str, schema: &'a Value, effect: &str) -> Vec<String> {
        let items = schema.get("items").filter(|items| items.get("properties").is_some());
        let Some(items) = items else { return vec![self.row(path, schema, effect, None)] };
        if let Some((_, first)) = self.lists.iter().find(|(seen, _)| *seen == items) {
            return vec![self.row(path, schema, effect, Some(format!("each as in `{first}`")))];
        }
        self.lists.push((items, path.to_owned()));
        let mut rows = vec![self.row(path, schema, effect, None)];
        rows.extend(self.inside(&format!("{path}[]"), items, &takes(schema, effect)));
        rows
    }

    fn row(&self, path: &str, schema: &Value, effect: &str, more: Option<String>) -> String {
        let mut checked = schema.clone();
        if let Some(checked) = checked.as_object_mut() {
            checked.remove("default");
        }
        let rules: Vec<String> = rules(&checked).into_iter().chain(more).collect();
        line([
            format!("`{path}`"),
            format!("`{}`", type_of(schema)),
            self.default(path, schema),
            rules.join("; "),
            takes(schema, effect),
            meaning(schema),
        ])
    }

    fn default(&self, path: &str, schema: &Value) -> String {
        let default = schema.get("default").filter(|value| !value.is_null());
        let default = default.map_or_else(|| "none".to_owned(), |value| format!("`{}`", plain(value)));
        match self.shipped.pointer(&format!("/{}", path.replace('.', "/"))) {
            Some(shipped) => format!("{default}; shipped: `{}`", plain(shipped)),
            None => default,
        }
    }
}

/// When a change counts: as the setting itself says, else as what it is part of.
fn takes(schema: &Value, around: &str) -> String {
    schema["x-takes-effect"].as_str().unwrap_or(around).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_setting_has_a_row_with_its_default_and_when_it_takes_effect() {
        let rule = json!({"type": "object", "additionalProperties": false, "description": "A rule.", "properties": {
            "hosts": {"type": "array", "items": {"type": "string"}, "default": [], "description": "Names."},
        }});
        let list =
            |meaning: &str| json!({"type": "array", "items": rule, "default": [], "description": meaning});
        let limits = json!({
            "type": "object", "x-takes-effect": "at once", "description": "Of what\n there is.", "properties": {
                "allow": list("May."),
                "deny": list("May not."),
                "mode": {"default": "on", "description": "Which.", "x-takes-effect": "restart", "oneOf": [
                    {"type": "string", "const": "on", "description": "Yes."},
                    {"type": "string", "const": "off", "description": "No."},
                ]},
                "wait": {"type": "string", "format": "duration", "pattern": "^.$", "formatMinimum": "1ms",
                    "formatMaximum": "9h", "default": "3s", "description": "How long."},
            },
        });
        let threads = json!({"type": ["integer", "null"], "format": "uint", "minimum": 1, "default": null,
            "description": "Workers.", "x-takes-effect": "restart"});
        let schema = json!({"properties": {"limits": limits, "threads": threads}});
        let expected = "
| setting | type | default | rules | takes effect | meaning |
|---|---|---|---|---|---|
| `threads` | `integer` | none | at least 1 | restart | Workers. |

### `limits`

Of what there is.

| setting | type | default | rules | takes effect | meaning |
|---|---|---|---|---|---|
| `limits.allow` | `[]object` | `[]` |  | at once | May. Each: A rule. |
| `limits.allow[].hosts` | `[]string` | `[]` |  | at once | Names. |
| `limits.deny` | `[]object` | `[]` | each as in `limits.allow` | at once | May not. Each: A rule. |
| `limits.mode` | `string` | `on` | `on`: Yes. `off`: No. | restart | Which. |
| `limits.wait` | `duration` | `3s`; shipped: `4s` | at least 1ms; at most 9h | at once | How long. |
";
        let text = page(&schema, &json!({"limits": {"wait": "4s"}}), &[]);
        let tables = text.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix(FLAGS));
        assert_eq!(tables, Some(expected), "{text}");
    }

    #[test]
    fn every_setting_of_the_gateway_has_a_meaning_and_says_when_it_takes_effect() {
        let schema = connectors_gateway::settings::schema().to_value();
        for (group, schema) in fields(&schema) {
            assert!(!meaning(schema).is_empty(), "{group} has no comment");
            for (key, setting) in fields(schema) {
                assert!(!meaning(setting).is_empty(), "{group}.{key} has no comment");
                assert_ne!(takes(setting, &takes(schema, "")), "", "{group}.{key} has no x-takes-effect");
            }
        }
    }
}
