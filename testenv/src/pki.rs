//! Throw-away certificates: of a cluster's components, of tests and of load tests.

#![allow(clippy::expect_used, reason = "OpenSSL makes a certificate of a fixed form, or has no memory left")]

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef};

/// Longer than any run, short enough that a leaked key is soon worthless.
const DAYS: u32 = 10;

/// A certificate and its key.
#[derive(Clone)]
pub struct Identity {
    pub cert: X509,
    pub key: PKey<Private>,
}

impl Identity {
    /// An authority that signs itself.
    pub fn root(name: &str) -> Identity {
        issue(None, name, &[], authority).expect("a root")
    }

    /// The same, and it ends so many hours from now.
    pub fn ending_root(name: &str, hours: i64) -> Identity {
        let made = issue(None, name, &[], |builder| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            builder.set_not_after(&*Asn1Time::from_unix(now.cast_signed() + hours * 3600)?)?;
            authority(builder)
        });
        made.expect("a root")
    }

    /// The same without key identifiers, as some tools make them.
    pub fn bare_root(name: &str) -> Identity {
        let mut bare = Identity::root(name);
        let again = |bare: &Identity| -> Result<X509, ErrorStack> {
            let mut builder = begun(bare.cert.subject_name(), bare.cert.subject_name(), &bare.key)?;
            authority(&mut builder)?;
            builder.sign(&bare.key, MessageDigest::sha256())?;
            Ok(builder.build())
        };
        bare.cert = again(&bare).expect("a root");
        bare
    }

    /// An authority below this one.
    pub fn intermediate(&self, name: &str) -> Identity {
        issue(Some(self), name, &[], authority).expect("an intermediate")
    }

    /// For both sides of TLS. `hosts` are DNS names and addresses; the first is the name, too.
    pub fn leaf(&self, hosts: &[&str]) -> Identity {
        self.member(hosts.first().copied().unwrap_or_default(), &[], hosts)
    }

    /// The same for a member of Kubernetes' `groups`, which are the organizations of its certificate.
    pub fn member(&self, name: &str, groups: &[&str], hosts: &[&str]) -> Identity {
        issue(Some(self), name, groups, |builder| end_entity(builder, hosts)).expect("a leaf")
    }

    /// Valid from and to so many days from now.
    pub fn dated_leaf(&self, hosts: &[&str], from: i64, to: i64) -> Identity {
        let day = |days: i64| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            Asn1Time::from_unix(now.cast_signed() + days * 86_400)
        };
        let dated = issue(Some(self), hosts.first().copied().unwrap_or_default(), &[], |builder| {
            builder.set_not_before(&*day(from)?)?;
            builder.set_not_after(&*day(to)?)?;
            end_entity(builder, hosts)
        });
        dated.expect("a dated leaf")
    }

    /// With a key that is too short to be trusted.
    pub fn weak_leaf(&self, hosts: &[&str]) -> Identity {
        let made = Rsa::generate(1024).and_then(PKey::from_rsa).and_then(|key| {
            let name = hosts.first().copied().unwrap_or_default();
            issue_for(key, Some(self), name, &[], |builder| end_entity(builder, hosts))
        });
        made.expect("a weak leaf")
    }

    /// For clients alone.
    pub fn client_leaf(&self, hosts: &[&str]) -> Identity {
        let made = issue(Some(self), hosts.first().copied().unwrap_or_default(), &[], |builder| {
            builder.append_extension(ExtendedKeyUsage::new().client_auth().build()?)?;
            named(builder, hosts)
        });
        made.expect("a client's leaf")
    }

    /// For `host`, and nobody vouches for it.
    pub fn self_signed(host: &str) -> Identity {
        issue(None, host, &[], |builder| end_entity(builder, &[host])).expect("a self-signed leaf")
    }

    /// The certificate.
    pub fn pem(&self) -> String {
        text(self.cert.to_pem())
    }

    /// The key, PKCS#8.
    pub fn key_pem(&self) -> String {
        text(self.key.private_key_to_pem_pkcs8())
    }
}

/// The key of ServiceAccount tokens, PEM. RSA, because that is what most clusters sign with.
pub(crate) fn token_key() -> String {
    text(Rsa::generate(2048).and_then(|key| key.private_key_to_pem()))
}

fn text(pem: Result<Vec<u8>, ErrorStack>) -> String {
    String::from_utf8(pem.expect("PEM")).expect("PEM is ASCII")
}

fn issue(
    issuer: Option<&Identity>,
    name: &str,
    groups: &[&str],
    extend: impl FnOnce(&mut X509Builder) -> Result<(), ErrorStack>,
) -> Result<Identity, ErrorStack> {
    let key = PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?)?;
    issue_for(key, issuer, name, groups, extend)
}

fn issue_for(
    key: PKey<Private>,
    issuer: Option<&Identity>,
    name: &str,
    groups: &[&str],
    extend: impl FnOnce(&mut X509Builder) -> Result<(), ErrorStack>,
) -> Result<Identity, ErrorStack> {
    let mut subject = X509Name::builder()?;
    for group in groups {
        subject.append_entry_by_nid(Nid::ORGANIZATIONNAME, group)?;
    }
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    let subject = subject.build();
    let mut builder = begun(&subject, issuer.map_or(&*subject, |issuer| issuer.cert.subject_name()), &key)?;
    extend(&mut builder)?;
    let above = issuer.map(|issuer| &*issuer.cert);
    if above.is_none_or(|issuer| issuer.subject_key_id().is_some()) {
        let own = SubjectKeyIdentifier::new().build(&builder.x509v3_context(above, None))?;
        builder.append_extension(own)?;
    }
    if above.is_some_and(|issuer| issuer.subject_key_id().is_some()) {
        let issuers =
            AuthorityKeyIdentifier::new().keyid(true).build(&builder.x509v3_context(above, None))?;
        builder.append_extension(issuers)?;
    }
    builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256())?;
    Ok(Identity { cert: builder.build(), key })
}

fn begun(
    subject: &X509NameRef,
    issuer: &X509NameRef,
    key: &PKey<Private>,
) -> Result<X509Builder, ErrorStack> {
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

fn authority(builder: &mut X509Builder) -> Result<(), ErrorStack> {
    builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)
}

fn end_entity(builder: &mut X509Builder, hosts: &[&str]) -> Result<(), ErrorStack> {
    builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
    named(builder, hosts)
}

fn named(builder: &mut X509Builder, hosts: &[&str]) -> Result<(), ErrorStack> {
    if hosts.is_empty() {
        return Ok(());
    }
    let mut names = SubjectAlternativeName::new();
    for host in hosts {
        match host.parse::<IpAddr>() {
            Ok(_) => names.ip(host),
            Err(_) => names.dns(host),
        };
    }
    let names = names.build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)
}
