//! Our schemas against the published ones: every property, its type and its list type are there, and nothing
//! more is demanded.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use connectors_api::crd;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

const CONNECTORS: &str = include_str!("published/connectors.alauda.io_connectors.yaml");
const CLASSES: &str = include_str!("published/connectors.alauda.io_connectorclasses.yaml");

/// Published as a list, but documented examples write a map: any JSON here.
const LOOSER: &str = ".http.httpHeaders";

fn schema(crd: &Value) -> &Value {
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("schema")
}

fn strings(schema: &Value, key: &str) -> Vec<String> {
    serde_json::from_value(schema.get(key).cloned().unwrap_or_else(|| Value::Array(Vec::new()))).expect(key)
}

/// All that differs below `path`.
fn compare(path: &str, published: &Value, ours: Option<&Value>, differences: &mut Vec<String>) {
    let Some(ours) = ours else { return differences.push(format!("{path}: missing")) };
    if path.ends_with(LOOSER) {
        return;
    }
    for key in [
        "type",
        "format",
        "enum",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
    ] {
        if published.get(key) != ours.get(key) {
            differences.push(format!(
                "{path}: {key} is {:?}, published {:?}",
                ours.get(key),
                published.get(key)
            ));
        }
    }
    let demanded = strings(published, "required");
    for key in strings(ours, "required").into_iter().filter(|key| !demanded.contains(key)) {
        differences.push(format!("{path}: {key} is required, published optional"));
    }
    for (name, property) in published.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let ours = ours.get("properties").and_then(|properties| properties.get(name));
        compare(&format!("{path}.{name}"), property, ours, differences);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = published.get(key) {
            compare(&format!("{path}[{key}]"), inner, ours.get(key), differences);
        }
    }
}

fn differences(published: &str, ours: &CustomResourceDefinition) -> Vec<String> {
    let published: Value = serde_yaml_ng::from_str(published).expect("published schema");
    let ours = serde_json::to_value(ours).expect("own schema");
    let mut differences = Vec::new();
    compare("", schema(&published), Some(schema(&ours)), &mut differences);
    for key in ["group", "scope", "names"] {
        let (published, ours) = (&published["spec"][key], &ours["spec"][key]);
        if published != ours {
            differences.push(format!("spec.{key}: {ours}, published {published}"));
        }
    }
    differences
}

#[test]
fn the_published_connector_schema_is_covered() {
    assert_eq!(differences(CONNECTORS, &crd::connector()), Vec::<String>::new());
}

#[test]
fn the_published_class_schema_is_covered() {
    assert_eq!(differences(CLASSES, &crd::connector_class()), Vec::<String>::new());
}

#[test]
fn a_difference_would_be_seen() {
    let missing = CONNECTORS.replace("connectorClassName:", "connectorClazzName:");
    assert_eq!(differences(&missing, &crd::connector()), [".spec.connectorClazzName: missing"]);
    let typed = CONNECTORS.replacen(
        "description: Address is connector address\n                  type: string",
        "type: object",
        1,
    );
    assert_eq!(differences(&typed, &crd::connector()).len(), 1);
}
