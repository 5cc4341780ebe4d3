//! A Connector against its class.

use super::*;
use crate::conditions::SECRET_READY;

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
