//! The issuing CA: from the Secret `connectors-gateway-ca` (watched by name) or from files. `leaf` mints with what is here; before it is
//! loaded the gateway is not ready.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

/// The intermediate that signs leaves. Immutable; a renewal swaps the whole.
pub struct Issuer {
    pub cert: X509,
    pub key: PKey<Private>,
    /// What a server sends after the leaf: the intermediate and what is above it, without the self-signed root.
    pub chain: Vec<X509>,
    pub not_after: SystemTime,
}

/// The current issuer, shared with `leaf`.
pub type Current = Arc<ArcSwapOption<Issuer>>;

#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("the issuing CA holds no certificate under tls.crt")]
    NoCertificate,
    #[error("the issuing CA's key does not belong to its certificate")]
    KeyMismatch,
    #[error("the issuing CA cannot be read: {0}")]
    Unreadable(#[from] openssl::error::ErrorStack),
}

impl Issuer {
    /// `certificates`: PEM, the intermediate first. `key`: PEM, PKCS#8 or SEC1.
    pub fn parse(certificates: &[u8], key: &[u8]) -> Result<Issuer, CaError> {
        let all = X509::stack_from_pem(certificates)?;
        let cert = all.first().ok_or(CaError::NoCertificate)?.clone();
        let key = PKey::private_key_from_pem(key)?;
        if !cert.public_key()?.public_eq(&key) {
            return Err(CaError::KeyMismatch);
        }
        let chain = all.into_iter().filter(|one| !self_signed(one)).collect();
        let not_after = system_time(cert.not_after())?;
        Ok(Issuer { cert, key, chain, not_after })
    }
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
