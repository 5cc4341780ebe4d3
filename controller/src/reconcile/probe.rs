//! Asks the gateway for trust, liveness and authentication. Sets CACertReady, LivenessReady, AuthReady and the pins.
//! Comes after the Role, without which the gateway could not read the Secret; pins reach the gateway by the status, before traffic uses them.

use std::time::Instant;

use connectors_api::conditions::reason;
use connectors_api::connector::ConnectorStatus;
use connectors_api::probe::{OutcomeStatus, ProbeReport, ProbeRequest};
use connectors_api::{Connector, ConnectorClass, names, rules};
use kube::ResourceExt;

use super::ca_cert;
use crate::context::Context;
use crate::gateway::ProbeError;
use crate::status::{self, Findings, is_true, unknown};

pub async fn ask(context: &Context, connector: &Connector, class: &ConnectorClass, findings: &mut Findings) {
    if !is_true(&findings.secret) {
        return;
    }
    let request = request(connector, class, findings);
    let started = Instant::now();
    let answer = tokio::time::timeout(context.settings.probe_timeout, context.prober.probe(&request)).await;
    context.metrics.probed(started.elapsed());
    match answer.unwrap_or(Err(ProbeError::Silent)) {
        Ok(report) => apply(report, &rules::addresses(connector, class), findings),
        Err(error) => {
            findings.liveness = unknown(reason::GATEWAY_UNAVAILABLE, error.to_string());
            findings.auth = findings.liveness.clone();
        }
    }
}

/// The Connector as its status will say: the gateway loads the credential by that version, and an old verdict must not keep it from probing.
fn request(connector: &Connector, class: &ConnectorClass, findings: &Findings) -> ProbeRequest {
    let mut connector = connector.clone();
    let accepted =
        connector.annotations().get(names::ACCEPT_CERTIFICATE_ANNOTATION).map(|list| fingerprints(list)).unwrap_or_default();
    connector.status = Some(ConnectorStatus {
        credential: findings.credential.clone(),
        trust: Some(findings.trust.clone()),
        ..ConnectorStatus::default()
    });
    ProbeRequest { connector, class: class.clone(), pins: findings.trust.pins.clone(), accepted }
}

fn apply(report: ProbeReport, addresses: &[&str], findings: &mut Findings) {
    // A broken CA Secret stays visible although the target may be trusted otherwise; a refusal of the target outweighs it.
    if !ca_cert::is_broken(&findings.ca_cert) || report.trust.status == OutcomeStatus::False {
        findings.ca_cert = report.trust;
    }
    findings.trust.pins = status::of_origins(addresses, report.pins);
    findings.liveness = report.liveness;
    findings.auth = report.auth;
}

/// `AB:CD…, ef01…` → lowercase hex without colons.
fn fingerprints(list: &str) -> Vec<String> {
    let one = |text: &str| text.trim().replace(':', "").to_ascii_lowercase();
    list.split(',').map(one).filter(|fingerprint| !fingerprint.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_taken_as_openssl_and_as_we_print_them() {
        assert_eq!(fingerprints("AB:CD:01, ef02 ,,"), ["abcd01", "ef02"]);
        assert!(fingerprints(" ").is_empty());
    }
}
