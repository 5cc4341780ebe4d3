//! What the controller asks: is the target trusted, reachable, and does it take the credential? Trust first
//! (`probe/trust`), then the class's probes (`probe/call`), each over the dial, trust and injection of a
//! user's request. A failed step leaves the later ones unchecked, so a credential never goes to a target that
//! is not trusted.

mod call;
mod data;
pub mod fetch;
mod judge;
mod remarks;
mod trust;

use std::sync::Arc;

use connectors_api::class::{HttpProbe, Probe};
use connectors_api::conditions::reason;
use connectors_api::connector::Pin;
use connectors_api::probe::{self, Outcome, OutcomeStatus, ProbeReport, ProbeRequest, Remarks};
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::rules;
use connectors_api::{Connector, ConnectorClass};
use kube::core::ObjectMeta;

use crate::admit::credential::{Credential, CredentialError};
use crate::error::Error;
use crate::gateway::Gateway;
use crate::table::compile;
use crate::table::route::{Route, Source, Table};

pub struct Prober {
    gateway: Arc<Gateway>,
    names: remarks::Names,
}

/// A connector to be probed, as the table has it.
struct Asked {
    connector: Connector,
    class: Arc<ConnectorClass>,
    pins: Vec<Pin>,
    /// Fingerprints that the operator accepts.
    accepted: Vec<String>,
}

impl Asked {
    /// None until the table has the connector and its class as new as the controller has seen them. Pins of the
    /// table win: no request can take back what is known of a target.
    fn of(table: &Table, request: &ProbeRequest) -> Option<Asked> {
        let name = ConnectorRef::new(&request.namespace, &request.name)?;
        let Source { connector, class } = table.source(&name)?;
        let as_new = |meta: &ObjectMeta, wanted: i64| meta.generation.unwrap_or_default() >= wanted;
        if connector.metadata.uid.as_ref() != Some(&request.uid)
            || !as_new(&connector.metadata, request.generation)
            || !as_new(&class.metadata, request.class_generation)
            || probe::annotations(&connector.metadata) != request.annotations
        {
            return None;
        }
        let known =
            connector.status.as_ref().and_then(|status| status.trust.clone()).unwrap_or_default().pins;
        let new = request.pins.iter().filter(|pin| !known.iter().any(|one| one.origin == pin.origin));
        let pins: Vec<Pin> = known.iter().chain(new).cloned().collect();
        let mut connector = Connector::clone(connector);
        let trust = connector.status.get_or_insert_default().trust.get_or_insert_default();
        trust.pins.clone_from(&pins);
        // An old verdict must not keep it from being probed.
        connector.status.get_or_insert_default().conditions.clear();
        let accepted = rules::accepted_certificates(&connector);
        Some(Asked { connector, class: class.clone(), pins, accepted })
    }
}

/// What one probe works with: the route as probed, and the credential as read just now.
struct Subject<'a> {
    gateway: &'a Gateway,
    connector: &'a Connector,
    route: Route,
    credential: Arc<Credential>,
    warnings: Vec<String>,
}

impl Prober {
    pub fn new(gateway: Arc<Gateway>) -> Prober {
        Prober { gateway, names: remarks::Names::default() }
    }

    /// None while the table does not have the connector yet.
    pub async fn probe(&self, request: &ProbeRequest) -> Option<ProbeReport> {
        let asked = Asked::of(&self.gateway.parts.table.load(), request)?;
        Some(self.report(&asked).await)
    }

    async fn report(&self, asked: &Asked) -> ProbeReport {
        let mut subject = match self.subject(&asked.connector, asked).await {
            Ok(subject) => subject,
            Err(trust) => return unprobed(asked, trust),
        };
        let trust = match trust::establish(&mut subject, &asked.accepted).await {
            Ok(trust) => trust,
            Err(trust::Failed::Target(outcome)) => return unprobed(asked, outcome),
            Err(trust::Failed::Dial(error)) => return unreachable(asked, &error),
        };
        let pins = subject.route.trust.pins.clone();
        let liveness = liveness(&subject, asked).await;
        let auth = match liveness.status {
            OutcomeStatus::True => auth(&subject, asked).await,
            _ => not_checked("the target is not live"),
        };
        let taken = auth.status == OutcomeStatus::True && rules::asks_who_am_i(&asked.class);
        let identity = if taken { self.names.of(&subject).await } else { None };
        let remarks = remarks::of(subject, identity);
        ProbeReport { trust, pins, liveness, auth, remarks }
    }

    /// Or what is to be said of its trust.
    async fn subject<'a>(&'a self, connector: &'a Connector, asked: &Asked) -> Result<Subject<'a>, Outcome> {
        let mut route =
            compile::probed(connector, &asked.class).map_err(|unusable| not_checked(&unusable.message))?;
        let credential =
            self.gateway.parts.credentials.read(&mut route).await.map_err(|error| match error {
                CredentialError::InvalidCa(why) => failed(reason::INVALID_PEM, &why),
                other => not_checked(&other.to_string()),
            })?;
        route.rekey();
        Ok(Subject { gateway: &self.gateway, connector, route, credential, warnings: Vec::new() })
    }
}

async fn liveness(subject: &Subject<'_>, asked: &Asked) -> Outcome {
    match asked.class.spec.liveness_probe.as_ref().and_then(http) {
        None => outcome(OutcomeStatus::True, reason::NON_LIVENESS_PROBE, ""),
        Some(probe) => match call::call(subject, probe, call::Injection::Without).await {
            Ok(answer) if answer.success => outcome(OutcomeStatus::True, "", ""),
            Ok(answer) => failed(reason::PROBE_FAILED, &answer.words("Liveness check failed")),
            Err(call::Failed::Dial(error)) => connection_failed(&error),
            Err(call::Failed::Class(why)) => failed(reason::PROBE_FAILED, &why),
        },
    }
}

async fn auth(subject: &Subject<'_>, asked: &Asked) -> Outcome {
    let name = rules::auth_type(&asked.connector, &asked.class).map_or("", |auth| auth.name.as_str());
    let declared = asked.class.spec.auth_probes.iter().find(|probe| probe.auth_name == name);
    match declared.and_then(|declared| declared.probe.as_ref()).and_then(http) {
        None => outcome(OutcomeStatus::True, reason::NON_AUTH_PROBE, ""),
        Some(probe) => match call::call(subject, probe, call::Injection::With).await {
            Ok(answer) if answer.success => outcome(OutcomeStatus::True, "", ""),
            Ok(answer) if matches!(answer.status.as_u16(), 401 | 403) => {
                failed(reason::AUTHENTICATION_FAILED, &answer.words("Authentication failed"))
            }
            Ok(answer) => failed(reason::PROBE_FAILED, &answer.words("Authentication check failed")),
            Err(call::Failed::Dial(error)) => connection_failed(&error),
            Err(call::Failed::Class(why)) => failed(reason::PROBE_FAILED, &why),
        },
    }
}

/// `api` probes go to the class's own service, which is not served here.
fn http(probe: &Probe) -> Option<&HttpProbe> {
    probe.http.as_ref()
}

fn unprobed(asked: &Asked, trust: Outcome) -> ProbeReport {
    let later = || not_checked("the target is not trusted yet");
    ProbeReport {
        trust,
        pins: asked.pins.clone(),
        liveness: later(),
        auth: later(),
        remarks: Remarks::default(),
    }
}

/// Not reached at all: nothing is said of its certificate.
fn unreachable(asked: &Asked, error: &Error) -> ProbeReport {
    let later = || not_checked("the target was not reached");
    ProbeReport {
        trust: later(),
        pins: asked.pins.clone(),
        liveness: connection_failed(error),
        auth: later(),
        remarks: Remarks::default(),
    }
}

/// In words that name the target's host and no address behind it.
fn connection_failed(error: &Error) -> Outcome {
    let reason = match error {
        Error::Denied { .. } | Error::InCluster { .. } | Error::Itself { .. } | Error::Plaintext { .. } => {
            reason::TARGET_DENIED
        }
        Error::CertificateChanged { .. } => reason::TARGET_CERTIFICATE_CHANGED,
        Error::Unverified { .. } => reason::TARGET_UNVERIFIED,
        _ => reason::CONNECTION_FAILED,
    };
    failed(reason, &error.failure().message)
}

fn failed(reason: &str, message: &str) -> Outcome {
    outcome(OutcomeStatus::False, reason, message)
}

fn not_checked(message: &str) -> Outcome {
    outcome(OutcomeStatus::Unknown, reason::NOT_CHECKED, message)
}

fn outcome(status: OutcomeStatus, reason: &str, message: &str) -> Outcome {
    Outcome { status, reason: reason.to_owned(), message: message.to_owned() }
}
