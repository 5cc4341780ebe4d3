//! What a probe's templates see: Go-style capitalised fields, `.Connector` and `.Secret.StringData`. Wiped
//! after use.

use std::collections::BTreeMap;

use connectors_api::Connector;
use serde_json::{Map, Value, json};
use zeroize::{Zeroize, Zeroizing};

/// Data of one rendering; its strings are wiped on drop, because some are secret.
pub(super) struct Data(pub Value);

impl Data {
    /// `secret`: none for a connector without Secret, and for a probe that must not see it.
    pub fn new(connector: &Connector, secret: Option<&BTreeMap<String, Zeroizing<Vec<u8>>>>) -> Data {
        let secret = secret.map_or(Value::Null, |values| {
            let text =
                |value: &Zeroizing<Vec<u8>>| Value::String(String::from_utf8_lossy(value).into_owned());
            let data: Map<String, Value> =
                values.iter().map(|(key, value)| (key.clone(), text(value))).collect();
            json!({ "StringData": data })
        });
        Data(json!({ "Connector": self::connector(connector), "Secret": secret }))
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The Go struct has its metadata embedded: `.Connector.Name` and `.Connector.ObjectMeta.Name` are the same.
fn connector(connector: &Connector) -> Value {
    let meta = &connector.metadata;
    let meta = json!({
        "Name": meta.name.as_deref().unwrap_or_default(),
        "Namespace": meta.namespace.as_deref().unwrap_or_default(),
        "Labels": meta.labels.clone().unwrap_or_default(),
        "Annotations": meta.annotations.clone().unwrap_or_default(),
    });
    let mut fields = meta.as_object().cloned().unwrap_or_default();
    fields.insert("ObjectMeta".to_owned(), meta);
    fields.insert("Spec".to_owned(), spec(connector));
    Value::Object(fields)
}

fn spec(connector: &Connector) -> Value {
    let mut spec = capitalized(serde_json::to_value(&connector.spec).unwrap_or_default());
    // Fields that templates read although a spec leaves them out.
    let auth = connector.spec.auth.clone().unwrap_or_default();
    if let Some(fields) = spec.as_object_mut() {
        fields.entry("AddressExtensions").or_insert_with(|| json!([]));
        fields.entry("Params").or_insert_with(|| json!([]));
        let given = fields.entry("Auth").or_insert_with(|| json!({}));
        given["Name"] = json!(auth.name);
        given["Params"] = auth.params.iter().map(|param| named(&param.name, &param.value)).collect();
    }
    spec
}

/// `{name, value}` becomes `.Name` and `.Value.StringVal`.
fn named(name: &str, value: &Value) -> Value {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    json!({ "Name": name, "Value": { "StringVal": text } })
}

fn capitalized(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(capitalized).collect(),
        Value::Object(fields) => match (fields.get("name").and_then(Value::as_str), fields.get("value")) {
            (Some(name), Some(value)) => named(name, value),
            _ => fields.into_iter().map(|(key, value)| (go_name(&key), capitalized(value))).collect(),
        },
        scalar => scalar,
    }
}

fn go_name(key: &str) -> String {
    if key == "caCertSecretRef" {
        return "CACertSecretRef".to_owned();
    }
    let mut letters = key.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use connectors_api::template::Template;

    use super::*;

    fn rendered(template: &str, secret: bool) -> Result<String, String> {
        let connector = json!({
            "metadata": {"name": "git", "namespace": "demo"},
            "spec": {"address": "https://git.example/base", "caCertSecretRef": {"name": "ca"},
                     "auth": {"name": "basic", "params": [{"name": "repository", "value": "org/repo.git"}]}}});
        let connector: Connector = serde_json::from_value(connector).unwrap();
        let values = BTreeMap::from([("token".to_owned(), Zeroizing::new(b"t0ken".to_vec()))]);
        let data = Data::new(&connector, secret.then_some(&values));
        Template::parse(template)
            .and_then(|template| template.render(&data.0))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn documented_templates_find_their_fields() {
        for (template, expected) in [
            ("{{ .Connector.Spec.Address }}", "https://git.example/base"),
            ("{{ (urlParse .Connector.Spec.Address).path }}/livez", "/base/livez"),
            ("{{ .Connector.Namespace }}/{{ .Connector.ObjectMeta.Name }}", "demo/git"),
            (
                r#"{{ range .Connector.Spec.Auth.Params }}{{ if eq .Name "repository" }}{{ .Value.StringVal }}{{ end }}{{ end }}"#,
                "org/repo.git",
            ),
            ("{{ .Connector.Spec.CACertSecretRef.Name }}", "ca"),
            ("{{- if .Secret }}Bearer {{ .Secret.StringData.token }}{{ end }}", "Bearer t0ken"),
        ] {
            assert_eq!(rendered(template, true).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn a_connector_without_secret_renders_the_guarded_header_empty() {
        assert_eq!(
            rendered("{{- if .Secret }}Bearer {{ .Secret.StringData.token }}{{ end }}", false).as_deref(),
            Ok("")
        );
    }
}
