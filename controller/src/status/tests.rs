//! Findings in, conditions out.

use connectors_api::connector::PinKind;
use serde_json::json;

use super::*;

fn connector(status: serde_json::Value) -> Connector {
    serde_json::from_value(json!({
        "apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector",
        "metadata": {"name": "k8s", "namespace": "demo", "generation": 3},
        "spec": {"connectorClassName": "k8s", "address": "https://target:6443"},
        "status": status,
    }))
    .unwrap()
}

fn fine() -> Findings {
    let mut findings = Findings::unchecked(&connector(json!({})));
    for outcome in [
        &mut findings.class,
        &mut findings.secret,
        &mut findings.liveness,
        &mut findings.auth,
        &mut findings.service,
    ] {
        *outcome = yes("", "");
    }
    findings.ca_cert = yes(reason::NO_CA_CERT, "");
    findings
}

fn ready_of(findings: &Findings) -> Condition {
    conditions::find(&next(&connector(json!({})), findings).conditions, conditions::READY).unwrap().clone()
}

#[test]
fn ready_takes_reason_and_message_of_the_first_that_is_not_true() {
    let mut findings = fine();
    assert!(ready_of(&findings).is_true());
    findings.service = no(reason::NAME_TAKEN, "taken");
    assert_eq!(ready_of(&findings).reason.as_deref(), Some(reason::NAME_TAKEN));
    findings.auth = no(reason::AUTHENTICATION_FAILED, "Authentication failed: status code 401");
    let ready = ready_of(&findings);
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_deref()),
        ("False", Some(reason::AUTHENTICATION_FAILED))
    );
    assert_eq!(ready.message.as_deref(), Some("Authentication failed: status code 401"));
    findings.liveness = unknown(reason::GATEWAY_UNAVAILABLE, "no answer");
    assert_eq!(ready_of(&findings).status, "Unknown");
}

#[test]
fn the_ca_condition_informs_and_counts_where_traffic_stops_for_it() {
    let mut findings = fine();
    findings.ca_cert = unknown(reason::NOT_CHECKED, "");
    assert!(ready_of(&findings).is_true());
    for stops in [reason::INVALID_PEM, reason::SECRET_NOT_FOUND, reason::TARGET_CERTIFICATE_CHANGED] {
        findings.ca_cert = no(stops, "why");
        assert_eq!(ready_of(&findings).reason.as_deref(), Some(stops));
    }
    let status = next(&connector(json!({})), &findings);
    let ca = conditions::find(&status.conditions, conditions::CA_CERT_READY).unwrap();
    assert_eq!(ca.severity.as_deref(), Some("Info"));
}

#[test]
fn the_transition_time_moves_with_the_status_only() {
    let last = condition(conditions::AUTH_READY, &no("A", "a"), None, &[]);
    let last = Condition { last_transition_time: Some("2020-01-01T00:00:00Z".into()), ..last };
    let same = condition(conditions::AUTH_READY, &no("B", "b"), None, std::slice::from_ref(&last));
    assert_eq!(same.last_transition_time, last.last_transition_time);
    let changed = condition(conditions::AUTH_READY, &yes("", ""), None, std::slice::from_ref(&last));
    assert_ne!(changed.last_transition_time, last.last_transition_time);
}

#[test]
fn the_same_findings_make_the_same_status_again() {
    let first = next(&connector(json!({})), &fine());
    let again = connector(serde_json::to_value(&first).unwrap());
    assert_eq!(next(&again, &fine()), first);
    assert_eq!(first.observed_generation, Some(3));
    assert_eq!(first.api, None, "nothing serves it yet");
}

#[test]
fn pins_are_dropped_with_the_origin_that_they_were_for() {
    let pin = |origin: &str| Pin {
        origin: origin.into(),
        kind: PinKind::PublicKey,
        sha256: "ab".into(),
        certificate: None,
    };
    let pins = vec![pin("https://target:6443"), pin("https://elsewhere:6443")];
    let trusted = json!({"type": "CACertReady", "status": "True", "reason": "Pinned"});
    let last = connector(json!({"trust": {"pins": pins}, "conditions": [trusted]}));
    for (addresses, kept, verdict) in [
        (vec!["https://target:6443/path"], 1, reason::NOT_CHECKED),
        (vec!["https://new:6443"], 0, reason::NOT_CHECKED),
        (vec!["https://target:6443", "https://elsewhere:6443"], 2, reason::PINNED),
    ] {
        let mut findings = Findings::unchecked(&last);
        findings.keep_pins_of(&addresses);
        assert_eq!(
            (findings.trust.pins.len(), findings.ca_cert.reason.as_str()),
            (kept, verdict),
            "{addresses:?}"
        );
    }
}

#[test]
fn a_new_version_of_the_same_secret_is_a_rotation_and_another_secret_is_not() {
    let credential = |name: &str, version: &str| CredentialStatus {
        secret_name: name.into(),
        resource_version: version.into(),
    };
    let current = connector(json!({"credential": credential("s", "1"), "observedGeneration": 2}));
    for (found, rotated_to) in [
        (Some(credential("s", "2")), Some(credential("s", "2"))),
        (Some(credential("s", "1")), None),
        (Some(credential("other", "9")), None),
        (None, None),
    ] {
        let findings = Findings { credential: found.clone(), ..fine() };
        let status = rotated(&current, &findings);
        assert_eq!(status.clone().and_then(|status| status.credential), rotated_to, "{found:?}");
        assert!(status.is_none_or(|status| status.observed_generation == Some(2)), "the rest stays as it is");
    }
    assert!(
        rotated(&connector(json!(null)), &Findings { credential: Some(credential("s", "2")), ..fine() })
            .is_none()
    );
}

#[test]
fn a_secret_that_was_deleted_and_made_anew_is_handed_over_at_once_where_the_target_was_trusted() {
    let made = CredentialStatus { secret_name: "s".into(), resource_version: "2".into() };
    let findings = Findings { credential: Some(made.clone()), ..fine() };
    for (generation, trusted, handed_over) in [(3, "True", true), (2, "True", false), (3, "Unknown", false)] {
        let trust = json!({"type": "CACertReady", "status": trusted});
        let current = connector(json!({"observedGeneration": generation, "conditions": [trust]}));
        let credential = rotated(&current, &findings).and_then(|status| status.credential);
        assert_eq!(credential, Some(made.clone()).filter(|_| handed_over), "{generation} {trusted}");
    }
}

#[test]
fn what_no_watch_can_tell_is_looked_at_sooner() {
    let mut findings = fine();
    assert_eq!(left(&findings), Left::Settled);
    findings.liveness = no(reason::CONNECTION_FAILED, "");
    assert_eq!(left(&findings), Left::Failing);
    findings.liveness = unknown(reason::GATEWAY_UNAVAILABLE, "");
    assert_eq!(left(&findings), Left::Unanswered);
    findings = Findings {
        secret: no(reason::SECRET_NOT_FOUND, ""),
        liveness: unknown(reason::NOT_CHECKED, ""),
        ..fine()
    };
    assert_eq!(left(&findings), Left::Settled);
}

#[test]
fn an_endless_message_is_cut() {
    for (letter, bytes) in [("a", MESSAGE_MAX), ("é", MESSAGE_MAX), ("字", MESSAGE_MAX - 1)] {
        let cut = condition(conditions::AUTH_READY, &no("A", letter.repeat(5000)), None, &[]);
        assert_eq!(cut.message.unwrap().len(), bytes, "{letter}");
    }
}
