//! First step of a probe: does something vouch for each target? If nothing does and the policy allows it, the
//! target is pinned, before the credential is ever sent. A changed target is pinned anew only if the operator
//! accepted the fingerprint.

use connectors_api::conditions::reason;
use connectors_api::connector::Pin;
use connectors_api::names::ACCEPT_CERTIFICATE_ANNOTATION;
use connectors_api::probe::{Outcome, OutcomeStatus};
use connectors_api::target::Target;

use super::{Subject, failed, outcome};
use crate::error::Error;
use crate::probe::fetch::FirstContact;

pub(super) enum Failed {
    /// Its certificate is not acceptable.
    Target(Outcome),
    /// It was not reached.
    Dial(Error),
}

/// Leaves the pins that hold from now on in the subject's route.
pub(super) async fn establish(subject: &mut Subject<'_>, accepted: &[String]) -> Result<Outcome, Failed> {
    let credentials = &subject.gateway.parts.credentials;
    let given = credentials.certificates(&subject.route).await;
    let given = given.map_err(|error| Failed::Target(failed(reason::INVALID_PEM, &error.to_string())))?;
    let (given, pins) = (!given.is_empty(), subject.route.trust.pins.clone());
    for target in subject.route.targets.clone() {
        match subject.gateway.first_contact(&subject.route, &target).await.map_err(Failed::Dial)? {
            FirstContact::Verified => {}
            FirstContact::Plain => subject.warnings.push(unencrypted(&target)),
            FirstContact::Unverified { cause } => return Err(Failed::Target(unverified(&target, &cause))),
            // Whoever gave a CA wants that one.
            FirstContact::Pin { cause, .. } if given => {
                let was_pinned = pins.iter().any(|pin| pin.origin == target.origin());
                let more = if was_pinned { "; it was pinned, which ended when a CA was given" } else { "" };
                return Err(Failed::Target(unverified(&target, &format!("{cause}{more}"))));
            }
            FirstContact::Changed(pin) if !is_accepted(&pin, accepted) => {
                return Err(Failed::Target(changed(&target, &pin)));
            }
            FirstContact::Pin { pin, .. } | FirstContact::Changed(pin) => take(subject, pin, accepted),
        }
    }
    if given {
        // They would be back with the next Secret that gives none.
        subject.route.trust.pins.clear();
    }
    subject.route.rekey();
    Ok(told(subject, given))
}

fn unencrypted(target: &Target) -> String {
    format!(
        "{} is not encrypted: the credential can be read on its way, so use an https address",
        target.origin()
    )
}

/// Of the pins before, those stay that are for other targets or that the operator accepts too (API servers of
/// one address may differ).
fn take(subject: &mut Subject<'_>, pin: Pin, accepted: &[String]) {
    let pins = &mut subject.route.trust.pins;
    pins.retain(|held| held.origin != pin.origin || is_accepted(held, accepted));
    pins.push(pin);
}

fn told(subject: &Subject<'_>, given: bool) -> Outcome {
    let held = |target: &Target| subject.route.trust.pins.iter().any(|pin| pin.origin == target.origin());
    match subject.connector.spec.ca_secret() {
        Some(name) if given => outcome(
            OutcomeStatus::True,
            reason::VALID,
            &format!("CA certificate loaded from secret {name:?}"),
        ),
        _ if given => {
            outcome(OutcomeStatus::True, reason::VALID, "CA certificate loaded from the credential's secret")
        }
        _ if subject.route.targets.iter().any(held) => outcome(
            OutcomeStatus::True,
            reason::PINNED,
            "the target is held to what it showed at first contact",
        ),
        _ => outcome(OutcomeStatus::True, reason::NO_CA_CERT, ""),
    }
}

/// In the spellings of usual tools: with or without colons, in either case.
fn is_accepted(pin: &Pin, accepted: &[String]) -> bool {
    let plain = |text: &str| {
        text.trim().chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    accepted.iter().any(|accepted| plain(accepted) == pin.sha256)
}

fn changed(target: &Target, pin: &Pin) -> Outcome {
    let (origin, fingerprint) = (target.origin(), &pin.sha256);
    let message = format!(
        "{origin} presents another certificate than the pinned one; nothing was sent. If the change is intended, annotate the connector: {ACCEPT_CERTIFICATE_ANNOTATION}={fingerprint}"
    );
    failed(reason::TARGET_CERTIFICATE_CHANGED, &message)
}

fn unverified(target: &Target, cause: &str) -> Outcome {
    let origin = target.origin();
    failed(reason::TARGET_UNVERIFIED, &format!("{origin} is not trusted: {cause}"))
}

#[cfg(test)]
mod tests {
    use connectors_api::connector::PinKind;

    use super::*;

    #[test]
    fn a_fingerprint_is_accepted_in_the_spellings_of_usual_tools_and_no_other_is() {
        let sha256 = "0a".repeat(32);
        let pin = Pin {
            origin: "https://t:443".into(),
            kind: PinKind::PublicKey,
            sha256: sha256.clone(),
            certificate: None,
        };
        for accepted in [sha256.clone(), sha256.to_uppercase(), ["0A"; 32].join(":"), format!(" {sha256} ")] {
            assert!(is_accepted(&pin, std::slice::from_ref(&accepted)), "{accepted}");
        }
        assert!(!is_accepted(&pin, &["0b".repeat(32), String::new()]));
    }
}
