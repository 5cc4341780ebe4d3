//! The Secret that `caCertSecretRef` names holds certificates. Sets CACertReady as far as it can be told without the target, and the
//! version by which a change reaches the gateway.

use connectors_api::Connector;
use connectors_api::conditions::reason;
use connectors_api::probe::Outcome;
use k8s_openapi::ByteString;
use openssl::x509::X509;

use super::secret::{self, SecretShape};
use crate::context::Context;
use crate::error::Error;
use crate::status::{Findings, no, unknown, yes};

const HEADER: &[u8] = b"-----BEGIN CERTIFICATE-----";

pub async fn check(context: &Context, connector: &Connector, findings: &mut Findings) -> Result<(), Error> {
    let Some(name) = connector.spec.ca_secret() else {
        // The verdict on a Secret that is no longer named.
        if is_broken(&findings.ca_cert) {
            findings.ca_cert = unknown(reason::NOT_CHECKED, "");
        }
        return Ok(());
    };
    let verdict = match secret::read::<ByteString>(&context.client, connector, name).await? {
        None => no(reason::SECRET_NOT_FOUND, format!("secrets {name:?} not found")),
        Some(secret) => {
            let verdict = judge(name, &secret);
            findings.trust.ca_resource_version = Some(secret.metadata.resource_version);
            verdict
        }
    };
    // A changed target stays the more important news until the gateway has looked again.
    if findings.ca_cert.reason != reason::TARGET_CERTIFICATE_CHANGED {
        findings.ca_cert = verdict;
    }
    Ok(())
}

/// The Secret itself is at fault, not the target.
pub fn is_broken(outcome: &Outcome) -> bool {
    matches!(outcome.reason.as_str(), reason::SECRET_NOT_FOUND | reason::INVALID_PEM)
}

/// Keys that end in `.crt` or `.pem` and values that begin with a certificate count; all else in the Secret is none of our business.
fn judge(name: &str, secret: &SecretShape<ByteString>) -> Outcome {
    let is_named = |key: &str| key.ends_with(".crt") || key.ends_with(".pem");
    let certificates: Vec<&ByteString> =
        secret.data.iter().filter(|(key, value)| is_named(key) || value.0.starts_with(HEADER)).map(|(_, value)| value).collect();
    let sound = |pem: &ByteString| X509::stack_from_pem(&pem.0).is_ok_and(|stack| !stack.is_empty());
    if certificates.is_empty() {
        no(reason::INVALID_PEM, format!("Secret {name:?} contains no certificate: put PEM under a key that ends in .crt"))
    } else if certificates.into_iter().all(sound) {
        yes(reason::VALID, format!("CA certificate loaded from secret {name:?}"))
    } else {
        no(reason::INVALID_PEM, format!("Secret {name:?} contains invalid PEM data"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_certificates_are_looked_at_and_each_must_be_sound() {
        let (root, _) = crate::ca::mint::root().unwrap();
        let pem = String::from_utf8(root.to_pem().unwrap()).unwrap();
        for (data, reason) in [
            (vec![("ca.crt", pem.as_str())], reason::VALID),
            (vec![("anything", pem.as_str()), ("password", "x")], reason::VALID),
            (vec![("ca.crt", pem.as_str()), ("other.pem", "x")], reason::INVALID_PEM),
            (vec![("password", "x")], reason::INVALID_PEM),
            (vec![], reason::INVALID_PEM),
        ] {
            let data: std::collections::BTreeMap<_, _> =
                data.into_iter().map(|(key, value)| (key, ByteString(value.into()))).collect();
            let secret = serde_json::from_value(json!({"metadata": {"resourceVersion": "1"}, "data": data})).unwrap();
            assert_eq!(judge("ca", &secret).reason, reason, "{:?}", data.keys());
        }
    }
}
