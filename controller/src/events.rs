//! Events on a Connector when its Ready changes, and the published ones about its CA Secret. Comes after the
//! status was written.

mod allowance;

use std::time::{Duration, Instant};

use connectors_api::conditions::{self, Condition, reason};
use connectors_api::connector::ConnectorStatus;
use connectors_api::{Connector, names};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Resource, ResourceExt};

pub use allowance::Allowance;

use crate::context::Context;

/// For all of them: a rotation of the same Connector waits behind it.
const DEADLINE: Duration = Duration::from_secs(2);

/// `kubectl describe` shows what changed between the Connector's last status and this one. Best effort: a
/// lost Event harms nobody.
pub async fn tell(context: &Context, connector: &Connector, status: &ConnectorStatus) {
    let last = connector.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let namespace = connector.namespace().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(context.client.clone(), &namespace);
    let told = async {
        for news in worth_telling(last, &status.conditions) {
            if !context.events.take(&namespace, Instant::now()) {
                context.metrics.walks.events_left_out.inc();
                continue;
            }
            let event = event(connector, &context.settings.identity, news);
            if let Err(error) = events.create(&PostParams::default(), &event).await {
                tracing::debug!("event: {}", crate::error::brief(&error));
            }
        }
    };
    drop(tokio::time::timeout(DEADLINE, told).await);
}

/// Of a Connector's name, in that of its Events: the API server takes not much more.
const BEGINNING: usize = 50;
const NORMAL: &str = "Normal";
const WARNING: &str = "Warning";

struct News {
    type_: &'static str,
    reason: String,
    note: String,
}

impl News {
    fn new(type_: &'static str, reason: &str, note: &str) -> News {
        News { type_, reason: reason.into(), note: note.into() }
    }
}

/// Each is an object of its own: to count repetitions, all that were told lately had to be remembered, and whoever
/// makes and deletes Connectors decides how many those are.
fn event(connector: &Connector, identity: &str, news: News) -> Event {
    let name = connector.name_any();
    // A name may be as long as that of an Event, which has a suffix besides.
    let beginning = name[..name.floor_char_boundary(BEGINNING)].trim_end_matches(['.', '-']);
    let metadata = ObjectMeta {
        generate_name: Some(format!("{beginning}-")),
        namespace: connector.namespace(),
        ..ObjectMeta::default()
    };
    Event {
        metadata,
        type_: Some(news.type_.into()),
        reason: Some(news.reason),
        note: Some(news.note),
        action: Some("Reconcile".into()),
        event_time: Some(MicroTime(Timestamp::now())),
        regarding: Some(connector.object_ref(&())),
        reporting_controller: Some(names::CONTROLLER.into()),
        reporting_instance: Some(identity.into()),
        ..Event::default()
    }
}

fn worth_telling(last: &[Condition], now: &[Condition]) -> Vec<News> {
    let changed = |type_: &str| {
        let (last, now) = (conditions::find(last, type_), conditions::find(now, type_)?);
        let same = last.is_some_and(|last| (&last.status, &last.reason) == (&now.status, &now.reason));
        Some(now).filter(|_| !same)
    };
    let ready = changed(conditions::READY).map(|ready| match ready.status.as_str() {
        "True" => News::new(
            NORMAL,
            conditions::READY,
            ready.message.as_deref().unwrap_or("the Connector can be used"),
        ),
        _ => News::new(
            WARNING,
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
        Some(News::new(WARNING, published, ca.message.as_deref().unwrap_or_default()))
    });
    let ends = changed(conditions::AUTH_READY).and_then(|auth| match auth.reason.as_deref()? {
        reason @ (reason::CREDENTIAL_ENDS_IN_A_WEEK | reason::CREDENTIAL_ENDS_IN_A_DAY) => {
            Some(News::new(WARNING, reason, auth.message.as_deref().unwrap_or_default()))
        }
        _ => None,
    });
    ready.into_iter().chain(ca).chain(ends).collect()
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
