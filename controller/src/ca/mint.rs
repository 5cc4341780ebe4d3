//! Makes keys and certificates of the connector CA: P-256, SHA-256, backdated by an hour for clocks that lag.

use k8s_openapi::jiff::Timestamp;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPrivate, Id, PKey, PKeyRef, Private};
use openssl::stack::Stack;
use openssl::x509::extension::{AuthorityKeyIdentifier, BasicConstraints, KeyUsage, SubjectKeyIdentifier};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Builder, X509Name, X509Ref, X509StoreContext};

use crate::error::Error;

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;
pub const BACKDATED: i64 = HOUR;
const ROOT_LIFE: i64 = 3652 * DAY;
pub const ISSUING_LIFE: i64 = 7 * DAY;
/// RFC 5280 allows 20 octets; 159 bits keep the number positive.
const SERIAL_BITS: i32 = 159;

/// A certificate and its key.
pub struct Authority {
    pub certificate: X509,
    pub key: PKey<Private>,
}

/// A self-signed root, ten years.
pub fn root() -> Result<(X509, PKey<Private>), Error> {
    root_of(ROOT_LIFE)
}

/// `life`: seconds.
pub(super) fn root_of(life: i64) -> Result<(X509, PKey<Private>), Error> {
    let key = new_key()?;
    let serial = serial()?;
    // Two roots must not share a name, or verifiers pick one by chance while both are trusted.
    let name = name(&format!("Connectors root CA {}", tag(&serial)?))?;
    let mut builder = certificate(&name, &serial, &key, life)?;
    builder.set_issuer_name(&name)?;
    builder.append_extension(BasicConstraints::new().critical().ca().pathlen(1).build()?)?;
    extend(&mut builder, None)?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok((builder.build(), key))
}

/// The gateway's intermediate: seven days, may sign leaves only, never outlives the root.
pub fn issuing(root: &Authority) -> Result<Authority, Error> {
    let key = new_key()?;
    let serial = serial()?;
    let name = name(&format!("Connectors gateway CA {}", tag(&serial)?))?;
    let mut builder = certificate(&name, &serial, &key, ISSUING_LIFE)?;
    if root.certificate.not_after() < &*Asn1Time::from_unix(Timestamp::now().as_second() + ISSUING_LIFE)? {
        builder.set_not_after(root.certificate.not_after())?;
    }
    builder.set_issuer_name(root.certificate.subject_name())?;
    builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
    extend(&mut builder, Some(&root.certificate))?;
    builder.sign(&root.key, digest(&root.key))?;
    let certificate = builder.build();
    if vouches(&root.certificate, &certificate)? {
        Ok(Authority { certificate, key })
    } else {
        Err(Error::Ca(
            "the connector CA's root may not sign certificates: supply one with basicConstraints CA:TRUE"
                .into(),
        ))
    }
}

/// Would a client that trusts the root accept what it signed? Asked of OpenSSL, since a supplied root can be
/// wrong in many ways.
fn vouches(root: &X509, signed: &X509) -> Result<bool, Error> {
    let mut trusted = X509StoreBuilder::new()?;
    trusted.add_cert(root.clone())?;
    trusted.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    let (trusted, chain) = (trusted.build(), Stack::new()?);
    Ok(X509StoreContext::new()?.init(&trusted, signed, &chain, |context| context.verify_cert())?)
}

fn new_key() -> Result<PKey<Private>, Error> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    Ok(PKey::from_ec_key(EcKey::generate(&group)?)?)
}

fn certificate(
    name: &X509Name,
    serial: &Asn1Integer,
    key: &PKey<Private>,
    life: i64,
) -> Result<X509Builder, Error> {
    let now = Timestamp::now().as_second();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(serial)?;
    builder.set_subject_name(name)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*Asn1Time::from_unix(now - BACKDATED)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(now + life)?)?;
    Ok(builder)
}

fn extend(builder: &mut X509Builder, issuer: Option<&X509Ref>) -> Result<(), Error> {
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    let subject_key = SubjectKeyIdentifier::new().build(&builder.x509v3_context(issuer, None))?;
    builder.append_extension(subject_key)?;
    // A root that somebody supplied may have no key identifier to point to.
    if issuer.is_some_and(|issuer| issuer.subject_key_id().is_some()) {
        let authority_key =
            AuthorityKeyIdentifier::new().keyid(true).build(&builder.x509v3_context(issuer, None))?;
        builder.append_extension(authority_key)?;
    }
    Ok(())
}

fn name(common_name: &str) -> Result<X509Name, Error> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, "connectors.alauda.io")?;
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)?;
    Ok(name.build())
}

fn serial() -> Result<Asn1Integer, Error> {
    let mut number = BigNum::new()?;
    number.rand(SERIAL_BITS, MsbOption::MAYBE_ZERO, false)?;
    Ok(number.to_asn1_integer()?)
}

/// Eight hex digits of the serial number.
fn tag(serial: &Asn1Integer) -> Result<String, Error> {
    Ok(serial.to_bn()?.to_hex_str()?.chars().take(8).collect::<String>().to_ascii_lowercase())
}

/// Edwards curves hash by themselves and refuse a digest.
fn digest<T: HasPrivate>(key: &PKeyRef<T>) -> MessageDigest {
    match key.id() {
        Id::ED25519 | Id::ED448 => MessageDigest::null(),
        _ => MessageDigest::sha256(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python from 3.13 on and others verify (RFC 5280).
    #[test]
    fn root_and_issuer_stand_the_strictest_look() {
        let (certificate, key) = root().unwrap();
        let root = Authority { certificate, key };
        let issuing = issuing(&root).unwrap();
        let mut trusted = X509StoreBuilder::new().unwrap();
        trusted.add_cert(root.certificate.clone()).unwrap();
        trusted.set_flags(X509VerifyFlags::X509_STRICT | X509VerifyFlags::CHECK_SS_SIGNATURE).unwrap();
        let (trusted, chain) = (trusted.build(), Stack::new().unwrap());
        for certificate in [&root.certificate, &issuing.certificate] {
            let verified = X509StoreContext::new().unwrap().init(&trusted, certificate, &chain, |context| {
                Ok(context.verify_cert()?.then_some(()).ok_or_else(|| context.error().to_string()))
            });
            assert_eq!(verified.unwrap(), Ok(()), "{:?}", certificate.subject_name());
        }
    }
}
