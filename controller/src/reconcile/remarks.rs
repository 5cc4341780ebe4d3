//! What AuthReady tells of a credential beside whether it works: whom the target takes it for, and when it
//! ends. Pure.

use connectors_api::conditions::reason;
use connectors_api::probe::{Outcome, OutcomeStatus, Remarks};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

pub fn told(auth: Outcome, remarks: &Remarks, now: Timestamp) -> Outcome {
    let end = remarks.expires.and_then(|seconds| Timestamp::from_second(seconds).ok());
    match auth.status {
        OutcomeStatus::True => working(auth, remarks.identity.as_deref(), end, now),
        OutcomeStatus::False => match end.filter(|end| *end <= now) {
            Some(end) => Outcome { message: format!("{}; the credential ended {end}", auth.message), ..auth },
            None => auth,
        },
        OutcomeStatus::Unknown => auth,
    }
}

/// An Event tells each change of the reason: that is how one comes a week before the end, and one a day.
fn working(auth: Outcome, identity: Option<&str>, end: Option<Timestamp>, now: Timestamp) -> Outcome {
    let connected = identity.map(|name| format!("Connected as {name}"));
    let ends = end.map(|end| format!("the credential ends {end}"));
    let said = [Some(auth.message.clone()).filter(|message| !message.is_empty()), connected, ends];
    let reason = match end.map(|end| end.duration_since(now)) {
        Some(left) if left <= DAY => reason::CREDENTIAL_ENDS_IN_A_DAY,
        Some(left) if left <= WEEK => reason::CREDENTIAL_ENDS_IN_A_WEEK,
        _ => &auth.reason,
    };
    Outcome {
        status: auth.status,
        reason: reason.to_owned(),
        message: said.into_iter().flatten().collect::<Vec<_>>().join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{no, unknown, yes};

    #[test]
    fn a_credential_is_told_with_its_name_and_its_end() {
        let now: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        let refused = || no(reason::AUTHENTICATION_FAILED, "Authentication failed: status code 401");
        let (name, days) = (Some("jane"), |days: i64| Some(now.as_second() + days * 86_400));
        for (auth, identity, expires, reason, message) in [
            (yes("", ""), None, None, "", ""),
            (yes("", ""), name, None, "", "Connected as jane"),
            (yes("", ""), name, days(30), "", "Connected as jane; the credential ends 2026-12-31T00:00:00Z"),
            (yes("", ""), None, days(7), "CredentialEndsInAWeek", "the credential ends 2026-12-08T00:00:00Z"),
            (yes("", ""), None, days(1), "CredentialEndsInADay", "the credential ends 2026-12-02T00:00:00Z"),
            (
                yes(reason::NON_AUTH_PROBE, ""),
                None,
                days(2),
                "CredentialEndsInAWeek",
                "the credential ends 2026-12-03T00:00:00Z",
            ),
            (
                refused(),
                None,
                days(2),
                reason::AUTHENTICATION_FAILED,
                "Authentication failed: status code 401",
            ),
            (
                refused(),
                None,
                days(-1),
                reason::AUTHENTICATION_FAILED,
                "Authentication failed: status code 401; the credential ended 2026-11-30T00:00:00Z",
            ),
            (unknown(reason::NOT_CHECKED, "m"), name, days(1), reason::NOT_CHECKED, "m"),
        ] {
            let remarks = Remarks { identity: identity.map(str::to_owned), expires, warnings: Vec::new() };
            let outcome = told(auth.clone(), &remarks, now);
            assert_eq!((outcome.status, outcome.reason.as_str()), (auth.status, reason), "{auth:?}");
            assert_eq!(outcome.message, message, "{auth:?}");
        }
    }
}
