//! Last step of a walk: what the steps found → conditions and the rest of the status. Pure; `status/patch.rs`
//! writes it.

pub mod patch;

use crate::schedule::Left;
use connectors_api::Connector;
use connectors_api::conditions::{self, Condition, reason};
use connectors_api::connector::{
    Addressable, ConnectorStatus, CredentialStatus, Pin, ProxyStatus, TrustStatus,
};
use connectors_api::probe::{Outcome, OutcomeStatus};
use connectors_api::target::Target;

/// In bytes. A status is read by people: more than this is noise, and an Event's note takes no more than 1 KiB.
const MESSAGE_MAX: usize = 1000;
pub const INFO: &str = "Info";

/// What the steps found, each its own field.
#[derive(Clone, Debug)]
pub struct Findings {
    pub class: Outcome,
    pub secret: Outcome,
    pub ca_cert: Outcome,
    pub liveness: Outcome,
    pub auth: Outcome,
    pub service: Outcome,
    pub credential: Option<CredentialStatus>,
    pub trust: TrustStatus,
    /// Where clients reach it, what their token must be for and what they trust.
    pub proxy: Option<Addressable>,
    /// When the credential ends, Unix time.
    pub expires: Option<i64>,
    /// Said where everything is fine.
    pub warnings: Vec<String>,
    /// Why the gateway may be unable to read a Secret that is sound: it sends who asks it to SecretReady.
    pub unread: Option<String>,
}

pub fn yes(reason: &str, message: impl Into<String>) -> Outcome {
    Outcome { status: OutcomeStatus::True, reason: reason.into(), message: message.into() }
}

pub fn no(reason: &str, message: impl Into<String>) -> Outcome {
    Outcome { status: OutcomeStatus::False, reason: reason.into(), message: message.into() }
}

pub fn unknown(reason: &str, message: impl Into<String>) -> Outcome {
    Outcome { status: OutcomeStatus::Unknown, reason: reason.into(), message: message.into() }
}

fn not_checked() -> Outcome {
    unknown(reason::NOT_CHECKED, "not checked, because an earlier condition is not True")
}

impl Findings {
    /// Before the first step: nothing checked, and kept of the last status what only a later step may
    /// replace.
    pub fn unchecked(connector: &Connector) -> Findings {
        let last = connector.status.clone().unwrap_or_default();
        Findings {
            class: not_checked(),
            secret: not_checked(),
            // Without a new probe the last word on the target's certificate stands.
            ca_cert: conditions::find(&last.conditions, conditions::CA_CERT_READY)
                .map_or_else(not_checked, as_outcome),
            liveness: not_checked(),
            auth: not_checked(),
            service: not_checked(),
            credential: None,
            trust: TrustStatus { ca_resource_version: None, pins: last.trust.unwrap_or_default().pins },
            proxy: last.proxy.and_then(|proxy| proxy.http_address),
            expires: None,
            warnings: Vec::new(),
            unread: None,
        }
    }

    /// Drops pins of an origin that the Connector no longer names, so that a new address gets a first contact
    /// of its own.
    pub fn keep_pins_of(&mut self, addresses: &[&str]) {
        let pins = std::mem::take(&mut self.trust.pins);
        let before = pins.len();
        self.trust.pins = of_origins(addresses, pins);
        if self.trust.pins.len() < before {
            self.ca_cert = not_checked();
        }
    }

    /// In the order of the walk, with severity.
    fn conditions(&self) -> [(&'static str, &Outcome, Option<&'static str>); 6] {
        [
            (conditions::CONNECTOR_CLASS_READY, &self.class, None),
            (conditions::SECRET_READY, &self.secret, None),
            (conditions::CA_CERT_READY, &self.ca_cert, Some(INFO)),
            (conditions::LIVENESS_READY, &self.liveness, None),
            (conditions::AUTH_READY, &self.auth, None),
            (conditions::PROXY_SERVICE_READY, &self.service, None),
        ]
    }

    /// True when all are; else status, reason and message of the first that is not. CACertReady only informs,
    /// unless traffic stops for it.
    fn ready(&self) -> Outcome {
        let counts = |severity: Option<&str>, outcome: &Outcome| {
            severity.is_none()
                || outcome.reason == reason::TARGET_CERTIFICATE_CHANGED
                || is_broken_ca(outcome)
        };
        let first = self
            .conditions()
            .into_iter()
            .find(|(_, outcome, severity)| counts(*severity, outcome) && !is_true(outcome));
        first.map_or_else(|| yes("", self.warnings.join("; ")), |(_, outcome, _)| outcome.clone())
    }
}

pub fn is_true(outcome: &Outcome) -> bool {
    outcome.status == OutcomeStatus::True
}

/// The Secret with the CA is at fault, not the target: nothing may be sent until it is mended.
pub fn is_broken_ca(outcome: &Outcome) -> bool {
    matches!(outcome.reason.as_str(), reason::SECRET_NOT_FOUND | reason::INVALID_PEM)
}

/// The status that the findings make of the present one.
pub fn next(connector: &Connector, findings: &Findings) -> ConnectorStatus {
    let last = connector.status.clone().unwrap_or_default();
    let ready = findings.ready();
    let all = findings.conditions().into_iter().chain([(conditions::READY, &ready, None)]);
    let trust = Some(findings.trust.clone()).filter(|trust| *trust != TrustStatus::default());
    ConnectorStatus {
        observed_generation: connector.metadata.generation,
        conditions: all
            .map(|(type_, outcome, severity)| condition(type_, outcome, severity, &last.conditions))
            .collect(),
        annotations: last.annotations,
        proxy: findings.proxy.clone().map(|address| ProxyStatus { http_address: Some(address) }),
        // Nothing serves it yet.
        api: None,
        credential: findings.credential.clone(),
        trust,
    }
}

/// The present status with the new version of a Secret, if that is a rotation: the gateway already uses an
/// earlier version of it, or did before the Secret was deleted and made anew.
pub fn rotated(connector: &Connector, findings: &Findings) -> Option<ConnectorStatus> {
    let mut status = connector.status.clone()?;
    let credential = match (&status.credential, &findings.credential) {
        (Some(old), Some(new)) if old.secret_name == new.secret_name && old != new => Some(new.clone()),
        (None, Some(new)) if is_trusted(connector, &status) => Some(new.clone()),
        _ => None,
    };
    let ca = findings.trust.ca_resource_version.clone();
    let trust = status.trust.clone().filter(|trust| {
        trust.ca_resource_version.is_some() && ca.is_some() && trust.ca_resource_version != ca
    });
    if credential.is_none() && trust.is_none() {
        return None;
    }
    status.credential = credential.or(status.credential);
    status.trust = trust.map(|trust| TrustStatus { ca_resource_version: ca, ..trust }).or(status.trust);
    Some(status)
}

/// The last word on the target's certificate, which stands without a Secret, was good, and of this very spec.
fn is_trusted(connector: &Connector, status: &ConnectorStatus) -> bool {
    let trust = conditions::find(&status.conditions, conditions::CA_CERT_READY);
    status.observed_generation == connector.metadata.generation && trust.is_some_and(Condition::is_true)
}

/// When the Connector is looked at again. What a watch reports needs no hurry.
pub fn left(findings: &Findings) -> Left {
    let outside = [&findings.ca_cert, &findings.liveness, &findings.auth, &findings.service];
    if outside.iter().any(|outcome| outcome.reason == reason::GATEWAY_UNAVAILABLE) {
        Left::Unanswered
    } else if is_true(&findings.class) && is_true(&findings.secret) && !is_true(&findings.ready()) {
        Left::Failing
    } else {
        Left::Settled
    }
}

/// The time changes with the status only, not with reason or message.
pub fn condition(type_: &str, outcome: &Outcome, severity: Option<&str>, last: &[Condition]) -> Condition {
    let status = match outcome.status {
        OutcomeStatus::True => "True",
        OutcomeStatus::False => "False",
        OutcomeStatus::Unknown => "Unknown",
    };
    let since = conditions::find(last, type_)
        .filter(|last| last.status == status)
        .and_then(|last| last.last_transition_time.clone());
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(outcome.reason.clone()).filter(|reason| !reason.is_empty()),
        message: Some(outcome.message[..outcome.message.floor_char_boundary(MESSAGE_MAX)].to_owned())
            .filter(|message| !message.is_empty()),
        severity: severity.map(Into::into),
        last_transition_time: Some(since.unwrap_or_else(Condition::now)),
    }
}

fn as_outcome(condition: &Condition) -> Outcome {
    let status = match condition.status.as_str() {
        "True" => OutcomeStatus::True,
        "False" => OutcomeStatus::False,
        _ => OutcomeStatus::Unknown,
    };
    Outcome {
        status,
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    }
}

/// Pins for the origins of these addresses.
pub fn of_origins(addresses: &[&str], mut pins: Vec<Pin>) -> Vec<Pin> {
    let origins: Vec<String> = addresses
        .iter()
        .filter_map(|address| Target::parse(address).ok())
        .map(|target| target.origin())
        .collect();
    pins.retain(|pin| origins.contains(&pin.origin));
    pins
}

#[cfg(test)]
mod tests;
