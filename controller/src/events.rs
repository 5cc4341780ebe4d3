//! Events on a Connector when its Ready changes, and the published ones about its CA Secret. Comes after the
//! status was written.

use std::time::Duration;

use connectors_api::Connector;
use connectors_api::conditions::{self, Condition, reason};
use connectors_api::connector::ConnectorStatus;
use kube::Resource;
use kube::runtime::events::{Event, EventType};

use crate::context::Context;

/// For all of them: a rotation of the same Connector waits behind it.
const DEADLINE: Duration = Duration::from_secs(2);

/// `kubectl describe` shows what changed between the Connector's last status and this one. Best effort: a
/// lost Event harms nobody.
pub async fn tell(context: &Context, connector: &Connector, status: &ConnectorStatus) {
    let last = connector.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let about = connector.object_ref(&());
    let told = async {
        for event in worth_telling(last, &status.conditions) {
            if let Err(error) = context.recorder.publish(&event, &about).await {
                tracing::debug!("event: {}", crate::error::brief(&error));
            }
        }
    };
    drop(tokio::time::timeout(DEADLINE, told).await);
}

fn worth_telling(last: &[Condition], now: &[Condition]) -> Vec<Event> {
    let changed = |type_: &str| {
        let (last, now) = (conditions::find(last, type_), conditions::find(now, type_)?);
        let same = last.is_some_and(|last| (&last.status, &last.reason) == (&now.status, &now.reason));
        Some(now).filter(|_| !same)
    };
    let ready = changed(conditions::READY).map(|ready| match ready.status.as_str() {
        "True" => event(
            EventType::Normal,
            conditions::READY,
            ready.message.as_deref().unwrap_or("the Connector can be used"),
        ),
        _ => event(
            EventType::Warning,
            ready.reason.as_deref().unwrap_or("NotReady"),
            ready.message.as_deref().unwrap_or_default(),
        ),
    });
    let ca = changed(conditions::CA_CERT_READY).and_then(|ca| {
        let published = match ca.reason.as_deref()? {
            reason::SECRET_NOT_FOUND => "CACertSecretNotFound",
            reason::INVALID_PEM => "InvalidCACert",
            _ => return None,
        };
        Some(event(EventType::Warning, published, ca.message.as_deref().unwrap_or_default()))
    });
    let ends = changed(conditions::AUTH_READY).and_then(|auth| match auth.reason.as_deref()? {
        reason @ (reason::CREDENTIAL_ENDS_IN_A_WEEK | reason::CREDENTIAL_ENDS_IN_A_DAY) => {
            Some(event(EventType::Warning, reason, auth.message.as_deref().unwrap_or_default()))
        }
        _ => None,
    });
    ready.into_iter().chain(ca).chain(ends).collect()
}

fn event(type_: EventType, reason: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.into(),
        note: Some(note.into()),
        action: "Reconcile".into(),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{condition, no, yes};

    #[test]
    fn an_event_tells_a_change_of_ready_and_not_its_repetition() {
        let ready = |outcome| vec![condition(conditions::READY, &outcome, None, &[])];
        let refused = || no(reason::AUTHENTICATION_FAILED, "Authentication failed: status code 401");
        for (last, now, told) in [
            (vec![], ready(yes("", "")), Some("Ready")),
            (ready(yes("", "")), ready(yes("", "")), None),
            (ready(yes("", "")), ready(refused()), Some(reason::AUTHENTICATION_FAILED)),
            (ready(refused()), ready(refused()), None),
            (ready(refused()), ready(no(reason::CONNECTION_FAILED, "")), Some(reason::CONNECTION_FAILED)),
        ] {
            let events = worth_telling(&last, &now);
            assert_eq!(events.first().map(|event| event.reason.as_str()), told, "{last:?} to {now:?}");
        }
    }

    #[test]
    fn the_end_of_a_credential_is_told_a_week_before_and_a_day_before_and_once_each() {
        let (week, day) = (reason::CREDENTIAL_ENDS_IN_A_WEEK, reason::CREDENTIAL_ENDS_IN_A_DAY);
        let auth = |reason| vec![condition(conditions::AUTH_READY, &yes(reason, "ends"), None, &[])];
        for (last, now, told) in [
            ("", week, Some(week)),
            (week, week, None),
            (week, day, Some(day)),
            (day, day, None),
            (day, "", None),
        ] {
            let events = worth_telling(&auth(last), &auth(now));
            assert_eq!(events.first().map(|event| event.reason.as_str()), told, "{last:?} to {now:?}");
        }
    }

    #[test]
    fn a_missing_or_broken_ca_secret_is_told_by_its_published_name() {
        for (found, told) in
            [(reason::SECRET_NOT_FOUND, "CACertSecretNotFound"), (reason::INVALID_PEM, "InvalidCACert")]
        {
            let events =
                worth_telling(&[], &[condition(conditions::CA_CERT_READY, &no(found, "x"), None, &[])]);
            assert_eq!(events.iter().map(|event| event.reason.as_str()).collect::<Vec<_>>(), [told]);
        }
    }
}
