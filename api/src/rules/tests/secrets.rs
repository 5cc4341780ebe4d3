//! What a Secret must be and hold.

use super::*;

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
