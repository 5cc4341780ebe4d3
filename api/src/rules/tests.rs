//! Tables that change one valid class and one valid Connector.

use serde_json::{Value, json};

use super::*;
use crate::conditions::{CONNECTOR_CLASS_READY, SECRET_READY, reason};

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

/// A pointer into the connector, the JSON put there (null: taken away), the reason and words of the message.
type Mistake = (&'static str, &'static str, &'static str, &'static str);

const UNFIT_FOR_THE_CLASS: &[Mistake] = &[
    ("/spec/address", "null", reason::INVALID_ADDRESS, "spec.address is empty"),
    (
        "/spec/address",
        r#""tool.example.com""#,
        reason::INVALID_ADDRESS,
        "spec.address must start with http:// or https://",
    ),
    (
        "/spec/address",
        r#""https://u:p@tool""#,
        reason::INVALID_ADDRESS,
        "spec.address must not hold user name or password",
    ),
    (
        "/spec/addressExtensions",
        "[]",
        reason::INVALID_PARAMETERS,
        "spec.addressExtensions \"api\" is required by connectorclass \"tool\"",
    ),
    (
        "/spec/addressExtensions",
        r#"[{"name": "api", "value": "x"}]"#,
        reason::INVALID_ADDRESS,
        "spec.addressExtensions \"api\" must start with",
    ),
    (
        "/spec/addressExtensions",
        r#"[{"name": "api", "value": 1}]"#,
        reason::INVALID_PARAMETERS,
        "\"api\" must be a string",
    ),
    (
        "/spec/addressExtensions",
        r#"[{"name": "api", "value": "https://tool.example.com/prefix"}]"#,
        reason::INVALID_ADDRESS,
        "repeats spec.address",
    ),
    (
        "/spec/addressExtensions",
        r#"[{"name": "x", "value": "https://x"}]"#,
        reason::INVALID_PARAMETERS,
        "\"x\" is not declared by connectorclass \"tool\": it has \"api\", \"docs\"",
    ),
    (
        "/spec/addressExtensions",
        r#"[{"name": "api", "value": "https://x"}, {"name": "api", "value": "https://y"}]"#,
        reason::INVALID_PARAMETERS,
        "\"api\" is given twice",
    ),
    ("/spec/params", "[]", reason::INVALID_PARAMETERS, "spec.params \"level\" is required"),
    (
        "/spec/params",
        r#"[{"name": "level", "value": "mid"}]"#,
        reason::INVALID_PARAMETERS,
        "is \"mid\", allowed are \"low\", \"high\"",
    ),
    (
        "/spec/params",
        r#"[{"name": "level", "value": "low"}, {"name": "z", "value": ""}]"#,
        reason::INVALID_PARAMETERS,
        "\"z\" is not declared",
    ),
    (
        "/spec/params",
        r#"[{"name": "level", "value": true}]"#,
        reason::INVALID_PARAMETERS,
        "\"level\" must be a string",
    ),
    (
        "/spec/auth/name",
        r#""basic-auth""#,
        reason::INVALID_PARAMETERS,
        "spec.auth.name \"basic-auth\" is unknown to connectorclass \"tool\": it has \"tokenAuth\"",
    ),
    (
        "/spec/caCertSecretRef",
        r#"{"name": "?watch=true"}"#,
        reason::INVALID_PARAMETERS,
        "spec.caCertSecretRef.name is \"?watch=true\": no secret can have this name",
    ),
];

const WITHOUT_SECRET: &[Mistake] = &[
    (
        "/spec/auth",
        "null",
        reason::SECRET_REQUIRED,
        "connectorclass \"tool\" needs a secret: set spec.auth.name to \"tokenAuth\"",
    ),
    ("/spec/auth", r#"{"name": "tokenAuth"}"#, reason::SECRET_REQUIRED, "set spec.auth.secretRef.name"),
    (
        "/spec/auth/secretRef",
        r#"{"namespace": "demo"}"#,
        reason::SECRET_REQUIRED,
        "set spec.auth.secretRef.name",
    ),
    (
        "/spec/auth/secretRef",
        r#"{"name": "s", "namespace": "other"}"#,
        reason::CROSS_NAMESPACE_SECRET,
        "points into namespace \"other\": put the secret into \"demo\"",
    ),
    (
        "/spec/auth/secretRef",
        r#"{"name": "s", "kind": "ConfigMap"}"#,
        reason::SECRET_TYPE_MISMATCH,
        "is of kind \"ConfigMap\"",
    ),
    (
        "/spec/auth/secretRef",
        r#"{"name": "?watch=true"}"#,
        reason::SECRET_NOT_FOUND,
        "spec.auth.secretRef.name is \"?watch=true\": no secret can have this name",
    ),
    (
        "/spec/auth/secretRef",
        r#"{"name": "../configmaps/s"}"#,
        reason::SECRET_NOT_FOUND,
        "no secret can have this name",
    ),
    (
        "/spec/auth/secretRef",
        r#"{"name": "S"}"#,
        reason::SECRET_NOT_FOUND,
        "use lower-case letters, digits, \"-\" and \".\"",
    ),
];

#[test]
fn a_connector_that_does_not_fit_is_told_what_to_do() {
    for (condition, mistakes) in
        [(CONNECTOR_CLASS_READY, UNFIT_FOR_THE_CLASS), (SECRET_READY, WITHOUT_SECRET)]
    {
        for (pointer, value, reason, words) in mistakes {
            let value = serde_json::from_str(value).expect("JSON");
            let violation = check_connector(&connector(pointer, value), &plain_class()).expect_err(words);
            assert_eq!((violation.condition, violation.reason), (condition, *reason), "{words}");
            assert!(violation.message.contains(words), "{words}: {}", violation.message);
        }
    }
}

#[test]
fn a_ca_secret_without_a_name_counts_as_none() {
    for reference in [json!({}), json!({"name": ""}), json!({"name": "a-secret.with.dots"})] {
        assert_eq!(check_connector(&connector("/spec/caCertSecretRef", reference), &plain_class()), Ok(()));
    }
}

#[test]
fn auth_may_be_left_out_where_the_class_says_so() {
    let optional = class("/spec/auth/types/0/optional", json!(true));
    let none = class("/spec/auth", json!(null));
    for (pointer, value, class, passes) in [
        ("/spec/auth", json!(null), &optional, true),
        ("/spec/auth/secretRef", json!(null), &optional, true),
        ("/spec/auth/name", json!(null), &plain_class(), true),
        ("/spec/auth", json!(null), &none, true),
        ("/spec/auth", json!({}), &none, true),
        ("/spec/params/0/value", json!("high"), &none, false),
        ("/spec/auth/name", json!("other"), &optional, false),
    ] {
        assert_eq!(check_connector(&connector(pointer, value), class).is_ok(), passes, "{pointer}");
    }
}

#[test]
fn the_only_auth_type_needs_no_name() {
    let nameless = connector("/spec/auth/name", json!(null));
    assert_eq!(auth_type(&nameless, &plain_class()).map(|auth| auth.name.as_str()), Some("tokenAuth"));
    let two = class("/spec/auth/types", json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!(auth_type(&nameless, &two), None);
}

#[test]
fn defaults_of_the_class_count_as_addresses() {
    let connector = connector("/spec/address", json!("https://tool"));
    assert_eq!(
        addresses(&connector, &plain_class()),
        ["https://tool", "https://api.example.com", "https://docs.example.com"]
    );
}

#[test]
fn a_secret_has_the_keys_of_its_type_or_the_declared_ones() {
    for (auth, keys) in [
        (json!({"name": "a", "secretType": "connectors.cpaas.io/bearer-token"}), vec!["token"]),
        (json!({"name": "a", "secretType": "kubernetes.io/basic-auth"}), vec!["username", "password"]),
        (json!({"name": "a", "secretType": "Opaque"}), vec![]),
        (
            json!({"name": "a", "secretType": "Opaque", "params": [{"name": "key"}, {"name": "region", "default": "x"}]}),
            vec!["key"],
        ),
        (json!({"name": "a"}), vec![]),
    ] {
        let auth: AuthType = serde_json::from_value(auth).expect("auth type");
        assert_eq!(secret_keys(&auth), keys, "{auth:?}");
    }
}

#[test]
fn a_secret_of_another_type_or_without_a_key_is_refused() {
    let bearer: AuthType =
        serde_json::from_value(json!({"name": "a", "secretType": "connectors.cpaas.io/bearer-token"}))
            .expect("auth");
    let opaque: AuthType =
        serde_json::from_value(json!({"name": "a", "secretType": "kubernetes.io/opaque"})).expect("auth");
    for (auth, type_, key, expected) in [
        (&bearer, "connectors.cpaas.io/bearer-token", "token", None),
        (
            &bearer,
            "Opaque",
            "token",
            Some((
                reason::SECRET_TYPE_MISMATCH,
                "secret \"s\" is of type \"Opaque\", auth \"a\" needs \"connectors.cpaas.io/bearer-token\"",
            )),
        ),
        (
            &bearer,
            "connectors.cpaas.io/bearer-token",
            "Token",
            Some((reason::SECRET_KEY_MISSING, "secret \"s\" has no key \"token\": add it to its data")),
        ),
        (&opaque, "Opaque", "x", None),
        (&opaque, "", "x", None),
    ] {
        let violation = check_secret_type(auth, "s", type_, |name| name == key).err();
        assert_eq!(
            violation.as_ref().map(|found| found.reason),
            expected.map(|(reason, _)| reason),
            "{type_}"
        );
        assert!(
            violation.is_none_or(|found| found.message.contains(expected.map_or("", |(_, words)| words))),
            "{type_}"
        );
    }
}

#[test]
fn no_text_of_a_spec_ends_its_line() {
    let evil = |text: &str| format!("{text}\nusers: [{{user: {{exec: {{command: sh}}}}}}]\n---");
    for (pointer, value, place, reason) in [
        ("/spec/address", json!(evil("https://a")), "spec.address ", reason::INVALID_ADDRESS),
        ("/spec/address", json!("https://a/\u{2028}b"), "spec.address ", reason::INVALID_ADDRESS),
        ("/spec/address", json!("https://a\r\n"), "spec.address ", reason::INVALID_ADDRESS),
        (
            "/spec/addressExtensions",
            json!([{"name": "api", "value": evil("https://a")}]),
            "spec.addressExtensions[0].value ",
            reason::INVALID_ADDRESS,
        ),
        (
            "/spec/params",
            json!([{"name": "level", "value": evil("low")}]),
            "spec.params[0].value ",
            reason::INVALID_PARAMETERS,
        ),
        (
            "/spec/params",
            json!([{"name": evil("level"), "value": "low"}]),
            "spec.params[0].name ",
            reason::INVALID_PARAMETERS,
        ),
        ("/spec/auth/name", json!("tokenAuth\n"), "spec.auth.name ", reason::INVALID_PARAMETERS),
        (
            "/spec/auth/secretRef/fieldPath",
            json!("a\u{0}"),
            "spec.auth.secretRef.fieldPath ",
            reason::INVALID_PARAMETERS,
        ),
        ("/spec/connectorClassName", json!("tool\t"), "spec.connectorClassName ", reason::INVALID_PARAMETERS),
    ] {
        let broken = check_connector(&connector(pointer, value), &plain_class()).unwrap_err();
        assert_eq!(broken.reason, reason, "{place}");
        assert!(
            broken.message.starts_with(place) && broken.message.contains("line break"),
            "{}",
            broken.message
        );
        assert!(is_printable(&broken.message));
    }
}

#[test]
fn what_cannot_be_seen_is_not_printable() {
    for text in ["", "plain", "a b", "\u{e4}\u{4e2d}\u{1f600}", "https://a/b?c=d#e"] {
        assert!(is_printable(text), "{text:?}");
    }
    for c in [
        '\n',
        '\r',
        '\t',
        '\0',
        '\u{7f}',
        '\u{85}',
        '\u{ad}',
        '\u{200b}',
        '\u{2028}',
        '\u{2029}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{feff}',
        '\u{e0041}',
    ] {
        assert!(!is_printable(&format!("a{c}b")), "{c:?}");
    }
}

#[test]
fn accepted_fingerprints_are_taken_as_openssl_and_as_we_print_them() {
    for (list, expected) in
        [(Some("AB:CD:01, ef02 ,,"), vec!["abcd01", "ef02"]), (Some(" "), vec![]), (None, vec![])]
    {
        let mut connector = Connector::default();
        if let Some(list) = list {
            let name = crate::names::ACCEPT_CERTIFICATE_ANNOTATION.to_owned();
            connector.metadata.annotations = Some([(name, list.to_owned())].into());
        }
        assert_eq!(accepted_certificates(&connector), expected);
    }
}
