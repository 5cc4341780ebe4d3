//! Tables of attributes, each a change of one valid set.

use super::*;

fn given(pairs: &[(&str, &str)]) -> Result<VolumeAttributes, AttributeError> {
    let attributes = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    parse(&attributes, "demo")
}

/// The attributes of a valid volume with one more.
fn with(key: &str, value: &str) -> Result<VolumeAttributes, AttributeError> {
    given(&[(CONNECTOR_NAME, "k8s"), (key, value)])
}

fn connectors(pairs: &[(&str, &str)]) -> String {
    given(pairs)
        .map(|volume| crate::proxy_auth::user(&volume.connectors))
        .unwrap_or_else(|error| error.to_string())
}

/// Each is compared with those before it: of a megabyte that would take minutes.
#[test]
fn a_list_of_a_quarter_of_a_million_connectors_is_refused_at_once() {
    let many = (0..250_000).map(|number| format!("c{number}")).collect::<Vec<_>>().join(",");
    let given = BTreeMap::from([(CONNECTORS.to_owned(), many)]);
    let refused = parse(&given, "demo").unwrap_err();
    assert!(refused.to_string().contains("more than the 16 connectors"), "{}", refused.to_string().len());
}

#[test]
fn the_quick_start_volume_is_understood() {
    let volume = given(&[
        (CONNECTOR_NAME, "k8s-connector"),
        (CONFIGURATION_NAMES, "kubeconfig"),
        ("csi.storage.k8s.io/pod.name", "p"),
        ("csi.storage.k8s.io/ephemeral", "true"),
        ("example.com/other", "x"),
    ]);
    let expected = VolumeAttributes {
        connectors: vec![ConnectorRef { namespace: "demo".into(), name: "k8s-connector".into() }],
        include: vec!["kubeconfig".into()],
        ..VolumeAttributes::default()
    };
    assert_eq!(volume, Ok(expected));
}

#[test]
fn connectors_are_named_in_two_forms() {
    for (pairs, expected) in [
        (vec![(CONNECTOR_NAME, "a")], "demo/a"),
        (vec![(CONNECTOR_NAME, " a ")], "demo/a"),
        (vec![(CONNECTOR_NAME, "a"), (CONNECTOR_NAMESPACE, "")], "demo/a"),
        (vec![(CONNECTOR_NAME, "a"), (CONNECTOR_NAMESPACE, "kube-public")], "kube-public/a"),
        (vec![(CONNECTORS, "a")], "demo/a"),
        (vec![(CONNECTORS, "a, other/b ,demo/a,")], "demo/a,other/b"),
        (vec![(CONNECTORS, "a"), (CONNECTOR_NAME, "")], "demo/a"),
    ] {
        assert_eq!(connectors(&pairs), expected, "{pairs:?}");
    }
}

#[test]
fn a_volume_without_usable_connector_is_refused() {
    let many = (0..=MAX_CONNECTORS).map(|n| format!("c{n}")).collect::<Vec<_>>().join(",");
    for (pairs, words) in [
        (vec![], "connectors or connector.name is required"),
        (vec![(CONNECTOR_NAMESPACE, "x")], "connectors or connector.name is required"),
        (vec![(CONNECTORS, " , ")], "connectors or connector.name is required"),
        (vec![(CONNECTOR_NAME, "")], "connectors or connector.name is required"),
        (vec![(CONNECTOR_NAME, "a"), (CONNECTORS, "b")], "either this or \"connector.name\""),
        (vec![(CONNECTORS, "b"), (CONNECTOR_NAMESPACE, "x")], "either this or \"connector.name\""),
        (vec![(CONNECTOR_NAME, "A_B")], "the name \"A_B\""),
        (vec![(CONNECTOR_NAME, "ns/a")], "the name \"ns/a\""),
        (vec![(CONNECTOR_NAME, "a"), (CONNECTOR_NAMESPACE, "a.b")], "namespace \"a.b\""),
        (vec![(CONNECTORS, "a,b/c/d")], "\"b/c/d\" is neither"),
        (vec![(CONNECTORS, "a,/d")], "\"/d\" is neither"),
        (vec![(CONNECTORS, many.as_str())], "names more than the 16 connectors"),
    ] {
        let message = connectors(&pairs);
        assert!(message.contains(words), "{pairs:?}: {message}");
    }
}

#[test]
fn a_misspelt_attribute_of_ours_names_the_right_one() {
    for (key, nearest) in [
        ("connectorName", CONNECTOR_NAME),
        ("connectorNamespace", CONNECTOR_NAMESPACE),
        ("connector.Name", CONNECTOR_NAME),
        ("connector", CONNECTORS),
        ("Connectors", CONNECTORS),
        ("connector.names", CONNECTOR_NAME),
        ("conector.name", CONNECTOR_NAME),
        ("configuration.name", CONFIGURATION_NAMES),
        ("configurations.names", CONFIGURATION_NAMES),
        ("configuration.parameters", CONFIGURATION_PARAMS),
        ("token.expiry", TOKEN_EXPIRATION),
        ("token.expirationSeconds", TOKEN_EXPIRATION),
    ] {
        assert_eq!(with(key, "x"), Err(AttributeError::Misspelt { key: key.into(), nearest }), "{key}");
    }
    let text =
        with("configuration.name", "x").map(|_| String::new()).unwrap_or_else(|error| error.to_string());
    assert_eq!(text, r#"unknown volume attribute "configuration.name": did you mean "configuration.names"?"#);
}

#[test]
fn attributes_of_others_are_ignored() {
    for key in [
        "csi.storage.k8s.io/serviceAccount.tokens",
        "csi.storage.k8s.io/pod.namespace",
        "secretProviderClass",
        "tokens",
        "name",
    ] {
        assert!(with(key, "x").is_ok(), "{key}");
    }
}

#[test]
fn names_with_an_exclamation_mark_leave_files_out() {
    for (value, include, exclude) in [
        ("a", vec!["a"], vec![]),
        ("a, b,,a", vec!["a", "b"], vec![]),
        ("!.env", vec![], vec![".env"]),
        ("kubeconfig,! context.token ,!.env", vec!["kubeconfig"], vec!["context.token", ".env"]),
        ("", vec![], vec![]),
    ] {
        let volume = with(CONFIGURATION_NAMES, value).expect(value);
        assert_eq!(
            (volume.include, volume.exclude),
            (
                include.iter().map(|s| s.to_string()).collect(),
                exclude.iter().map(|s| s.to_string()).collect()
            )
        );
    }
    assert!(matches!(
        with(CONFIGURATION_NAMES, "a,!"),
        Err(AttributeError::Invalid { key: CONFIGURATION_NAMES, .. })
    ));
}

#[test]
fn params_are_strings_by_configuration() {
    let volume =
        with(CONFIGURATION_PARAMS, r#"{"settings":{"mirror":"central","x":""},"npmrc":{}}"#).expect("valid");
    assert_eq!(volume.params["settings"]["mirror"], "central");
    assert_eq!((volume.params["settings"]["x"].as_str(), volume.params["npmrc"].len()), ("", 0));
    for (json, words) in [
        ("{", "is not a JSON object like {\"<configuration>\""),
        ("[]", "is not a JSON object"),
        ("null", "is not a JSON object"),
        (r#"{"settings":"x"}"#, "\"settings\" must be an object of parameters"),
        (r#"{"settings":{"strict":true}}"#, "parameter \"strict\" of \"settings\" must be a string"),
        (r#"{"settings":{"n":null}}"#, "parameter \"n\" of \"settings\" must be a string"),
    ] {
        let message =
            with(CONFIGURATION_PARAMS, json).map(|_| String::new()).unwrap_or_else(|error| error.to_string());
        assert!(
            message.starts_with("volume attribute \"configuration.params\"") && message.contains(words),
            "{json}: {message}"
        );
    }
}

#[test]
fn an_expiration_may_only_shorten() {
    for (text, minutes) in [
        ("30m", 30.0),
        ("60m", 30.0),
        ("1h", 30.0),
        ("10m", 10.0),
        ("20m30s", 20.5),
        ("0.25h", 15.0),
        ("+900s", 15.0),
        ("900000ms", 15.0),
    ] {
        let volume = with(TOKEN_EXPIRATION, text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(volume.expiration, Some(Duration::from_secs_f64(minutes * 60.0)), "{text}");
    }
    for text in [
        "30",
        "m",
        "9m59s",
        "0",
        "-20m",
        "20 m",
        "20min",
        "1e3s",
        "..s",
        "1.2.3m",
        "20m!",
        "999999999h999999999999999999h",
        "NaNs",
        "infs",
    ] {
        assert!(
            matches!(
                with(TOKEN_EXPIRATION, text),
                Err(AttributeError::Invalid { key: TOKEN_EXPIRATION, .. })
            ),
            "{text}"
        );
    }
}
