//! Asks the gateway for trust, liveness and authentication. Sets CACertReady, LivenessReady, AuthReady and
//! the pins. Comes after the Role, without which the gateway could not read the Secret; pins reach the
//! gateway by the status, before traffic uses them.

use std::time::Instant;

use connectors_api::conditions::reason;
use connectors_api::probe::{self, Outcome, OutcomeStatus, ProbeReport, ProbeRequest};
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::{Connector, ConnectorClass, rules};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::remarks;
use crate::context::Context;
use crate::prober::ProbeError;
use crate::status::{self, Findings, is_true, unknown};

type Answer = Result<ProbeReport, ProbeError>;

pub async fn ask(context: &Context, request: &ProbeRequest) -> Answer {
    let started = Instant::now();
    let answer = tokio::time::timeout(context.settings.probe_timeout, context.prober.probe(request)).await;
    context.metrics.walks.probe_seconds.observe(started.elapsed().as_secs_f64());
    answer.unwrap_or(Err(ProbeError::Silent))
}

pub fn learn(
    context: &Context,
    connector: &Connector,
    class: &ConnectorClass,
    answer: Answer,
    findings: &mut Findings,
) {
    match answer {
        Ok(report) => {
            apply(report, &rules::addresses(connector, class), findings);
            let (name, life) = (ConnectorRef::of(&connector.metadata), 3 * context.settings.recheck);
            context.metrics.credential_ends(&name.to_string(), findings.expires, life);
        }
        Err(error) => {
            findings.liveness = unknown(reason::GATEWAY_UNAVAILABLE, error.to_string());
            findings.auth = findings.liveness.clone();
            if findings.ca_cert.status == OutcomeStatus::Unknown {
                findings.ca_cert = findings.liveness.clone();
            }
        }
    }
}

pub fn request(connector: &Connector, class: &ConnectorClass, findings: &Findings) -> ProbeRequest {
    let ConnectorRef { namespace, name } = ConnectorRef::of(&connector.metadata);
    ProbeRequest {
        namespace,
        name,
        uid: connector.uid().unwrap_or_default(),
        generation: connector.metadata.generation.unwrap_or_default(),
        class_generation: class.metadata.generation.unwrap_or_default(),
        annotations: probe::annotations(&connector.metadata),
        pins: findings.trust.pins.clone(),
    }
}

fn apply(report: ProbeReport, addresses: &[&str], findings: &mut Findings) {
    findings.liveness = explained(report.liveness, &report.trust);
    findings.auth = remarks::told(explained(report.auth, &report.trust), &report.remarks, Timestamp::now());
    findings.expires = report.remarks.expires;
    findings.warnings.extend(report.remarks.warnings);
    let news = match report.trust.status {
        OutcomeStatus::False => true,
        // A broken CA Secret stays visible although the target is trusted otherwise.
        OutcomeStatus::True => !status::is_broken_ca(&findings.ca_cert),
        // A target that was not reached says nothing about its certificate: the last word stands.
        OutcomeStatus::Unknown => findings.ca_cert.status == OutcomeStatus::Unknown,
    };
    if news {
        findings.ca_cert = report.trust;
    }
    findings.trust.pins = status::of_origins(addresses, report.pins);
}

/// What was not checked for want of trust says why: CACertReady itself does not count for Ready.
fn explained(outcome: Outcome, trust: &Outcome) -> Outcome {
    if is_true(trust) || outcome.reason != reason::NOT_CHECKED || trust.message.is_empty() {
        return outcome;
    }
    unknown(reason::NOT_CHECKED, format!("not checked: {}", trust.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_trust_stands_until_there_is_a_new_one() {
        let healthy = crate::prober::fake::healthy;
        let trust = |status, reason: &str| Outcome { status, reason: reason.into(), message: "why".into() };
        for (last, reported, kept) in [
            (
                status::yes(reason::PINNED, ""),
                trust(OutcomeStatus::Unknown, reason::NOT_CHECKED),
                reason::PINNED,
            ),
            (
                status::no(reason::INVALID_PEM, ""),
                trust(OutcomeStatus::True, reason::NO_CA_CERT),
                reason::INVALID_PEM,
            ),
            (
                status::no(reason::TARGET_CERTIFICATE_CHANGED, ""),
                trust(OutcomeStatus::True, reason::PINNED),
                reason::PINNED,
            ),
            (
                status::yes(reason::PINNED, ""),
                trust(OutcomeStatus::False, reason::TARGET_UNVERIFIED),
                reason::TARGET_UNVERIFIED,
            ),
            (unknown(reason::NOT_CHECKED, ""), trust(OutcomeStatus::Unknown, "new"), "new"),
        ] {
            let mut findings = Findings::unchecked(&Connector::default());
            findings.ca_cert = last.clone();
            apply(ProbeReport { trust: reported.clone(), ..healthy() }, &[], &mut findings);
            assert_eq!(findings.ca_cert.reason, kept, "{last:?}, then {reported:?}");
        }
    }

    #[test]
    fn what_was_not_checked_for_want_of_trust_says_why() {
        let mut findings = Findings::unchecked(&Connector::default());
        let trust = status::no(reason::TARGET_UNVERIFIED, "no CA vouches for the target");
        let later = unknown(reason::NOT_CHECKED, "");
        let report =
            ProbeReport { trust, liveness: later.clone(), auth: later, ..crate::prober::fake::healthy() };
        apply(report, &[], &mut findings);
        assert_eq!(findings.liveness.message, "not checked: no CA vouches for the target");
        assert_eq!(findings.auth.message, findings.liveness.message);
    }
}
