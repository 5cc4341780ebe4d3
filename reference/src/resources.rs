//! docs/reference.md: every field of both kinds in tables, made from the definitions of `api::crd`. Pure; `main`
//! writes it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use crate::schema::{line, meaning, plain, rules, type_of};

const HEAD: &str = "\
# Reference of the custom resources

<!-- Generated from the types in api/src by `make crds`; do not edit. -->

Every field, as the API server knows it. [classes.md](classes.md) says how a class is written,
[connector-status.md](connector-status.md) what a status means, [reference-settings.md](reference-settings.md) has the settings of the gateway and the flags of all parts.

Behind `[]` is what each item of a list has, behind `.*` what each value of a map has. `any` is any JSON. A field that stands nowhere here is
stored and not looked at. *required* is meant within the object that the field is in.
";
const TABLE: &str = "| field | type | rules | meaning |\n|---|---|---|---|\n";

pub fn page(crds: &[CustomResourceDefinition]) -> String {
    let kinds = crds.iter().map(|crd| kind(&serde_json::to_value(crd).unwrap_or_default()));
    std::iter::once(HEAD.to_owned()).chain(kinds).collect()
}

/// A table for each part of the object that has fields of its own: spec and status.
fn kind(crd: &Value) -> String {
    let (spec, version) = (&crd["spec"], &crd["spec"]["versions"][0]);
    let title = format!(
        "\n## {}\n\n`apiVersion: {}/{}`, {}, `kubectl get {}`.\n",
        plain(&spec["names"]["kind"]),
        plain(&spec["group"]),
        plain(&version["name"]),
        plain(&spec["scope"]).to_lowercase(),
        plain(&spec["names"]["plural"])
    );
    let parts = version["schema"]["openAPIV3Schema"]["properties"].as_object().into_iter().flatten();
    let tables = parts.filter(|(_, part)| part.get("properties").is_some()).map(|(name, part)| {
        format!("\n### {}: `{name}`\n\n{TABLE}{}", plain(&spec["names"]["kind"]), fields(name, part).concat())
    });
    std::iter::once(title).chain(tables).collect()
}

/// The rows of an object's fields, each followed by those of what is inside of it.
fn fields(path: &str, object: &Value) -> Vec<String> {
    let required =
        |name: &str| object["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let properties = object["properties"].as_object().into_iter().flatten();
    let rows = properties.map(|(name, schema)| {
        let path = format!("{path}.{name}");
        let mut rows = vec![row(&path, schema, required(name))];
        rows.extend(inside(&path, schema));
        rows
    });
    rows.flatten().collect()
}

fn inside(path: &str, schema: &Value) -> Vec<String> {
    match (schema.get("items"), schema.get("additionalProperties")) {
        (Some(items), _) => inside(&format!("{path}[]"), items),
        (None, Some(values)) => inside(&format!("{path}.*"), values),
        (None, None) => fields(path, schema),
    }
}

fn row(path: &str, schema: &Value, required: bool) -> String {
    let required = required.then(|| "required".to_owned());
    let rules: Vec<String> = required.into_iter().chain(rules(schema)).collect();
    line([format!("`{path}`"), format!("`{}`", type_of(schema)), rules.join("; "), meaning(schema)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_field_has_a_row_with_path_type_rules_and_meaning() {
        let named = json!({"type": "object", "required": ["name"], "description": "A\n  name.", "properties": {
            "name": {"type": "string", "maxLength": 9, "pattern": "^a|b$"},
        }});
        let spec = json!({"type": "object", "properties": {
            "any": {},
            "list": {"type": "array", "maxItems": 4, "items": named, "description": "Names.",
                "x-kubernetes-list-map-keys": ["name"],
                "x-kubernetes-validations": [{"rule": "true", "message": "must be so"}]},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "method": {"type": "string", "enum": ["GET", "POST"], "default": "GET"},
            "time": {"type": "integer", "format": "int64"},
        }});
        let root = json!({"type": "object", "properties": {"kind": {"type": "string"}, "spec": spec}});
        let crd = json!({"metadata": {"name": "tools.example.org"}, "spec": {
            "group": "example.org", "scope": "Namespaced", "names": {"kind": "Tool", "plural": "tools"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": root}}],
        }});
        let expected = "
## Tool

`apiVersion: example.org/v1`, namespaced, `kubectl get tools`.

### Tool: `spec`

| field | type | rules | meaning |
|---|---|---|---|
| `spec.any` | `any` |  |  |
| `spec.list` | `[]object` | at most 4 items; one for each `name`; must be so | Names. Each: A name. |
| `spec.list[].name` | `string` | required; at most 9 characters; matches `^a\\|b$` |  |
| `spec.map` | `map[string]string` |  |  |
| `spec.method` | `string` | one of `GET`, `POST`; default `GET` |  |
| `spec.time` | `int64` |  |  |
";
        let text = page(&[serde_json::from_value(crd).unwrap()]);
        assert_eq!(text.strip_prefix(HEAD), Some(expected), "{text}");
    }
}
