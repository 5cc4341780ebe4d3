//! Certificates of one cluster: its own authority, an identity per component and the key that signs ServiceAccount tokens.

use std::net::IpAddr;

use anyhow::Result;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef};

/// Longer than any run, short enough that a leaked key is soon worthless.
const DAYS: u32 = 10;

/// A certificate authority that lives as long as its cluster.
pub(crate) struct Authority {
    certificate: X509,
    key: PKey<Private>,
    pem: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Authority> {
        let key = new_key()?;
        let subject = subject(name, &[])?;
        let mut builder = builder(&subject, &subject, &key)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        let certificate = builder.build();
        let pem = String::from_utf8(certificate.to_pem()?)?;
        Ok(Authority { certificate, key, pem })
    }

    /// The certificate, PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// An identity for both sides of TLS. `hosts` are DNS names and addresses.
    pub(crate) fn issue(&self, name: &str, groups: &[&str], hosts: &[&str]) -> Result<Identity> {
        let key = new_key()?;
        let mut builder = builder(&subject(name, groups)?, self.certificate.subject_name(), &key)?;
        builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
        if !hosts.is_empty() {
            let names = alternative_names(hosts);
            let names = names.build(&builder.x509v3_context(Some(&self.certificate), None))?;
            builder.append_extension(names)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Identity {
            certificate: String::from_utf8(builder.build().to_pem()?)?,
            key: String::from_utf8(key.private_key_to_pem_pkcs8()?)?,
        })
    }
}

/// The key of ServiceAccount tokens, PEM. RSA, because that is what most clusters sign with.
pub(crate) fn token_key() -> Result<String> {
    Ok(String::from_utf8(Rsa::generate(2048)?.private_key_to_pem()?)?)
}

fn new_key() -> Result<PKey<Private>> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    Ok(PKey::from_ec_key(EcKey::generate(&group)?)?)
}

/// In Kubernetes the organizations of a client certificate are the user's groups.
fn subject(name: &str, groups: &[&str]) -> Result<X509Name> {
    let mut subject = X509Name::builder()?;
    for group in groups {
        subject.append_entry_by_nid(Nid::ORGANIZATIONNAME, group)?;
    }
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    Ok(subject.build())
}

fn builder(subject: &X509Name, issuer: &X509NameRef, key: &PKey<Private>) -> Result<X509Builder> {
    let mut serial = BigNum::new()?;
    serial.rand(120, MsbOption::ONE, false)?;
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(DAYS)?)?;
    Ok(builder)
}

fn alternative_names(hosts: &[&str]) -> SubjectAlternativeName {
    let mut names = SubjectAlternativeName::new();
    for host in hosts {
        match host.parse::<IpAddr>() {
            Ok(_) => names.ip(host),
            Err(_) => names.dns(host),
        };
    }
    names
}
