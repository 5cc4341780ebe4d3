//! Tables that change one valid class and one valid Connector: here what is wrong with a class.

mod connectors;
mod secrets;
mod text;

use serde_json::{Value, json};

use super::*;
use crate::conditions::{CONNECTOR_CLASS_READY, reason};

/// Sets (or with null removes) the value at a JSON pointer, making objects on the way.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("pointer");
    let parent = object
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{parent} exists"))
        .as_object_mut()
        .expect("object");
    match value {
        Value::Null => drop(parent.remove(key)),
        value => drop(parent.insert(key.to_owned(), value)),
    }
    object
}

fn class(pointer: &str, value: Value) -> ConnectorClass {
    let valid = json!({
        "apiVersion": "connectors.alauda.io/v1alpha1", "kind": "ConnectorClass", "metadata": {"name": "tool"},
        "spec": {
            "address": {"type": "string"},
            "addressExtensions": [{"name": "api"}, {"name": "docs", "default": "https://docs.example.com"}],
            "params": [{"name": "level", "enum": ["low", "high"]}, {"name": "comment", "default": ""}],
            "auth": {"types": [{"name": "tokenAuth", "secretType": "connectors.cpaas.io/bearer-token"}]},
            "livenessProbe": {"http": {"path": "/healthz"}},
            "authProbes": [{"authName": "tokenAuth", "probe": {"http": {
                "path": "/{{ .Connector.Spec.Address }}", "httpHeaders": [{"name": "X", "value": "{{ if .Secret }}y{{ end }}"}],
                "response": {"cel": "response.statusCode == 200"}}}}],
            "configurations": [{"name": "conf", "data": {"conf.ini": "{{ .context.token }}"}}],
        },
    });
    serde_json::from_value(with(valid, pointer, value)).expect("class")
}

fn connector(pointer: &str, value: Value) -> Connector {
    let valid = json!({
        "apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector", "metadata": {"name": "c", "namespace": "demo"},
        "spec": {
            "connectorClassName": "tool",
            "address": "https://tool.example.com/prefix",
            "addressExtensions": [{"name": "api", "value": "https://api.example.com"}],
            "params": [{"name": "level", "value": "low"}],
            "auth": {"name": "tokenAuth", "secretRef": {"name": "s", "namespace": "demo"}},
        },
    });
    serde_json::from_value(with(valid, pointer, value)).expect("connector")
}

fn plain_class() -> ConnectorClass {
    class("/spec/address", json!({"name": "address"}))
}

#[test]
fn the_valid_pair_passes() {
    assert_eq!(check_class(&plain_class()), Ok(()));
    assert_eq!(check_connector(&connector("/spec/address", json!("http://x")), &plain_class()), Ok(()));
}

#[test]
fn a_broken_class_names_the_place() {
    for (pointer, value, words) in [
        (
            "/spec/livenessProbe",
            json!({"http": {"path": "/{{ nope }}"}}),
            "livenessProbe.http.path: template does not parse: line 1: function \"nope\"",
        ),
        (
            "/spec/livenessProbe",
            json!({"http": {"path": "/", "response": {"cel": "status =="}}}),
            "livenessProbe.http.response.cel: expression does not parse",
        ),
        (
            "/spec/livenessProbe",
            json!({"http": {"path": "/", "response": {"cel": "status == 1"}}}),
            "expression names \"status\"",
        ),
        (
            "/spec/livenessProbe",
            json!({"api": {"path": "{{ end }}"}}),
            "livenessProbe.api.path: template does not parse",
        ),
        (
            "/spec/authProbes/0/probe",
            json!({"http": {"path": "/", "httpHeaders": [{"name": "A", "value": "{{ if }}"}]}}),
            "authProbes[tokenAuth].probe.http.httpHeaders[A]: template",
        ),
        (
            "/spec/configurations/0/data",
            json!({"conf.ini": "{{ if .a }}"}),
            "configurations[conf].data[conf.ini]: template does not parse",
        ),
        (
            "/spec/configurations/0/data",
            json!({"../evil": ""}),
            "configurations[conf].data[../evil]: a file name has only",
        ),
        ("/spec/configurations/0/data", json!({"..data": ""}), "does not start with"),
        ("/spec/params", json!([{"name": "a"}, {"name": "a"}]), "params: \"a\" is declared twice"),
        (
            "/spec/addressExtensions",
            json!([{"name": "a"}, {"name": "a"}]),
            "addressExtensions: \"a\" is declared twice",
        ),
        (
            "/spec/auth/types/0/generator",
            json!({"rego": "package proxy"}),
            "auth.types[tokenAuth].generator.rego: this version does not run it",
        ),
    ] {
        let violation = check_class(&class(pointer, value)).expect_err(words);
        assert_eq!((violation.condition, violation.reason), (CONNECTOR_CLASS_READY, reason::CLASS_INVALID));
        assert!(violation.message.contains(words), "{words}: {}", violation.message);
    }
}
