//! The issuing CA: from the Secret `connectors-gateway-ca` (watched by name) or from files. `leaf` mints with
//! what is here; before it is loaded the gateway is not ready.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use connectors_api::names::ISSUING_CA_SECRET;
use futures::StreamExt;
use http::HeaderValue;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use openssl::x509::X509;

use crate::home::cluster;
use crate::metrics::Metrics;

/// The intermediate that signs leaves. Immutable; a renewal swaps the whole.
pub struct Issuer {
    pub cert: X509,
    pub key: PKey<Private>,
    /// What a server sends after the leaf: the intermediate and what is above it, without the self-signed
    /// root.
    pub chain: Vec<X509>,
    pub not_after: SystemTime,
    /// Names this installation to others, the same in all its replicas: of the intermediate's key, which is
    /// public. Not of the root's: two clusters may have one root, and must not take each other for
    /// themselves.
    pub installation: HeaderValue,
}

/// The current issuer, shared with `leaf`.
pub type Current = Arc<ArcSwapOption<Issuer>>;

#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("the issuing CA holds no certificate under tls.crt")]
    NoCertificate,
    #[error("the issuing CA's key does not belong to its certificate")]
    KeyMismatch,
    #[error("the issuing CA's Secret has no key {0}")]
    NoKey(&'static str),
    #[error("the issuing CA cannot be read: {0}")]
    Unreadable(#[from] openssl::error::ErrorStack),
}

impl Issuer {
    /// `certificates`: PEM, the intermediate first. `key`: PEM, PKCS#8 or SEC1.
    pub fn parse(certificates: &[u8], key: &[u8]) -> Result<Issuer, CaError> {
        let all = X509::stack_from_pem(certificates)?;
        let cert = all.first().ok_or(CaError::NoCertificate)?.clone();
        let installation = installation(&cert)?;
        let key = PKey::private_key_from_pem(key)?;
        if !cert.public_key()?.public_eq(&key) {
            return Err(CaError::KeyMismatch);
        }
        let chain = all.into_iter().filter(|one| !self_signed(one)).collect();
        let not_after = system_time(cert.not_after())?;
        Ok(Issuer { cert, key, chain, not_after, installation })
    }
}

fn installation(intermediate: &X509) -> Result<HeaderValue, CaError> {
    let digest = sha256(&intermediate.public_key()?.public_key_to_der()?);
    let (text, _) = digest.split_at(8);
    let text: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(text).map_err(|_| CaError::NoCertificate)
}

fn self_signed(certificate: &X509) -> bool {
    let names = (certificate.issuer_name().to_der(), certificate.subject_name().to_der());
    matches!(names, (Ok(issuer), Ok(subject)) if issuer == subject)
}

fn system_time(time: &Asn1TimeRef) -> Result<SystemTime, CaError> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    let seconds = i64::from(since.days) * 86_400 + i64::from(since.secs);
    Ok(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Watches the one Secret by name; runs for ever. A Secret that cannot be read, or is deleted, leaves the
/// last issuer in place: it is good until its end.
pub async fn follow(client: Client, namespace: &str, current: Current, metrics: Arc<Metrics>) {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let by_name = watcher::Config::default().fields(&format!("metadata.name={ISSUING_CA_SECRET}"));
    let mut events = std::pin::pin!(watch(api, by_name).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(secret) | Event::InitApply(secret)) => replace(secret, &current, &metrics),
            Ok(Event::Delete(_)) => {
                tracing::error!(
                    secret = ISSUING_CA_SECRET,
                    "the issuing CA's Secret is gone, the last one stays"
                )
            }
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => {
                tracing::warn!(%error, secret = ISSUING_CA_SECRET, "the watch of the issuing CA broke and is made again")
            }
        }
    }
}

fn replace(secret: Secret, current: &Current, metrics: &Metrics) {
    match from_secret(secret) {
        Ok(issuer) => {
            let end = issuer.not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            metrics.home.issuer_not_after.set(i64::try_from(end).unwrap_or(i64::MAX));
            current.store(Some(Arc::new(issuer)));
            tracing::info!(not_after = end, "issuing CA loaded");
        }
        Err(error) => {
            tracing::error!(%error, secret = ISSUING_CA_SECRET, "issuing CA refused, the last one stays")
        }
    }
}

fn from_secret(secret: Secret) -> Result<Issuer, CaError> {
    let content = cluster::content(secret);
    let value = |key| content.data.get(key).ok_or(CaError::NoKey(key));
    Issuer::parse(value("tls.crt")?, value("tls.key")?)
}

#[cfg(test)]
mod tests {
    use connectors_testenv::pki::Identity;
    use openssl::asn1::Asn1Time;

    use super::*;

    #[test]
    fn the_chain_that_clients_get_leaves_the_root_out() {
        let root = Identity::root("root");
        let issuing = root.intermediate("issuing");
        let bundle = format!("{}{}", issuing.pem(), root.pem());
        let issuer = Issuer::parse(bundle.as_bytes(), issuing.key_pem().as_bytes()).unwrap();
        assert_eq!(issuer.chain.len(), 1);
        let begin = Asn1Time::from_unix(0).unwrap();
        let life = begin.diff(issuing.cert.not_after()).unwrap();
        let seconds = u64::try_from(life.days).unwrap() * 86_400 + u64::try_from(life.secs).unwrap();
        assert_eq!(issuer.not_after.duration_since(UNIX_EPOCH).unwrap().as_secs(), seconds);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (Identity::root("one"), Identity::root("other"));
        let parsed = |certificate: &str| Issuer::parse(certificate.as_bytes(), other.key_pem().as_bytes());
        assert!(matches!(parsed(&one.pem()), Err(CaError::KeyMismatch)));
        assert!(matches!(parsed(""), Err(CaError::NoCertificate)));
    }
}
