//! The Secret that `caCertSecretRef` names holds certificates. Sets CACertReady as far as it can be told
//! without the target, and the version by which a change reaches the gateway. Each version is read once, however
//! many Connectors name it.

use std::time::Instant;

use connectors_api::conditions::reason;
use connectors_api::places::Places;
use connectors_api::probe::Outcome;
use connectors_api::{Connector, ca_certificates};
use k8s_openapi::ByteString;
use kube::ResourceExt;
use moka::sync::Cache;
use openssl::x509::X509;
use tokio::sync::Semaphore;

use super::secret::{SecretShape, Version};
use crate::context::Context;
use crate::error::Error;
use crate::status::{self, Findings, no, unknown, yes};

/// Of one Secret each, less than a KiB.
const REMEMBERED: u64 = 4096;

/// What was found of Secrets, by namespace and name.
pub struct Verdicts {
    known: Cache<String, Verdict>,
    /// One of a namespace at a time: who waits goes by what the one before has found.
    turns: Places,
}

#[derive(Clone)]
struct Verdict {
    version: Version,
    outcome: Outcome,
    /// When the API server was asked for it.
    asked: Instant,
}

impl Default for Verdicts {
    fn default() -> Verdicts {
        Verdicts { known: Cache::new(REMEMBERED), turns: Places::new(Semaphore::MAX_PERMITS, 1) }
    }
}

pub async fn check(context: &Context, connector: &Connector, findings: &mut Findings) -> Result<(), Error> {
    let Some(name) = connector.spec.ca_secret() else {
        // The verdict on a Secret that is no longer named.
        if status::is_broken_ca(&findings.ca_cert) {
            findings.ca_cert = unknown(reason::NOT_CHECKED, "");
        }
        return Ok(());
    };
    let verdict = match verdict(context, connector, name).await {
        // The API server did not say: what is in use stays in use, and so does the verdict on it.
        Err(error) => {
            findings.trust.ca_resource_version = version_in_use(connector);
            return Err(error);
        }
        Ok(None) => no(reason::SECRET_NOT_FOUND, format!("secrets {name:?} not found")),
        Ok(Some(verdict)) => {
            findings.trust.ca_resource_version = Some(verdict.version.resource_version);
            verdict.outcome
        }
    };
    // A changed target stays the more important news until the gateway has looked again.
    if findings.ca_cert.reason != reason::TARGET_CERTIFICATE_CHANGED {
        findings.ca_cert = verdict;
    }
    Ok(())
}

async fn verdict(context: &Context, connector: &Connector, name: &str) -> Result<Option<Verdict>, Error> {
    let begun = Instant::now();
    let Some(version) = context.reader.version(connector, name).await? else { return Ok(None) };
    let namespace = connector.namespace().unwrap_or_default();
    let (key, verdicts) = (format!("{namespace}/{name}"), &context.ca_verdicts);
    // One that was read since may be of a later version, which is as good.
    let fits = |known: &Verdict| known.version == version || known.asked >= begun;
    if let Some(known) = verdicts.known.get(&key).filter(fits) {
        return Ok(Some(known));
    }
    let _one_at_a_time = verdicts.turns.take(&namespace).await;
    if let Some(known) = verdicts.known.get(&key).filter(fits) {
        return Ok(Some(known));
    }
    let (asked, named) = (Instant::now(), name.to_owned());
    let look = move |json: &[u8]| {
        let secret: SecretShape<ByteString> = serde_json::from_slice(json)?;
        Ok(Verdict { outcome: judge(&named, &secret), version: secret.metadata, asked })
    };
    let verdict = context.reader.whole(connector, name, look).await?;
    if let Some(verdict) = &verdict {
        verdicts.known.insert(key, verdict.clone());
    }
    Ok(verdict)
}

/// Of the Secret that the Connector names now: before a change of its spec it may have been another.
fn version_in_use(connector: &Connector) -> Option<String> {
    let status = connector.status.as_ref()?;
    let same = status.observed_generation == connector.metadata.generation;
    status.trust.as_ref().filter(|_| same)?.ca_resource_version.clone()
}

fn judge(name: &str, secret: &SecretShape<ByteString>) -> Outcome {
    let data = secret.data.iter().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    match ca_certificates::of_secret(data, |der| X509::from_der(der).ok()) {
        Ok(_) => yes(reason::VALID, format!("CA certificate loaded from secret {name:?}")),
        Err(error) => no(reason::INVALID_PEM, format!("Secret {name:?} {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_version_in_use_is_kept_unless_the_spec_may_name_another_secret_since() {
        for (generation, kept) in [(1, Some("7".to_owned())), (2, None)] {
            let connector = Connector {
                metadata: serde_json::from_value(json!({"generation": generation})).unwrap(),
                status: serde_json::from_value(
                    json!({"observedGeneration": 1, "trust": {"caResourceVersion": "7"}}),
                )
                .unwrap(),
                ..Connector::default()
            };
            assert_eq!(version_in_use(&connector), kept, "generation {generation}");
        }
    }

    #[test]
    fn only_certificates_are_looked_at_and_each_must_be_sound() {
        let (root, _) = crate::ca::mint::root().unwrap();
        let pem = String::from_utf8(root.to_pem().unwrap()).unwrap();
        let indented = pem.replace('\n', "\n  ");
        for (data, reason) in [
            (vec![("ca.crt", pem.as_str())], reason::VALID),
            (vec![("anything", pem.as_str()), ("password", "x")], reason::VALID),
            (vec![("ca.crt", pem.as_str()), ("other.pem", "x")], reason::INVALID_PEM),
            (vec![("password", "x")], reason::INVALID_PEM),
            (vec![("ca.crt", indented.as_str())], reason::INVALID_PEM),
            (vec![], reason::INVALID_PEM),
        ] {
            let data: std::collections::BTreeMap<_, _> =
                data.into_iter().map(|(key, value)| (key, ByteString(value.into()))).collect();
            let secret =
                serde_json::from_value(json!({"metadata": {"resourceVersion": "1"}, "data": data})).unwrap();
            assert_eq!(judge("ca", &secret).reason, reason, "{:?}", data.keys());
        }
    }
}
