//! Text that would end a line of a file or hide in a message.

use super::*;

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
