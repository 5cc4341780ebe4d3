//! One throw-away root; below it an intermediate for the gateway and for HAProxy, and the leaf that targets and HAProxy serve. So each
//! handshake with a peer carries a leaf and an intermediate, as in production.

use std::path::{Path, PathBuf};

use anyhow::Result;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

pub struct Authorities {
    pub root_pem: String,
    /// The intermediate, then the root.
    pub issuer: PathBuf,
    pub issuer_key: PathBuf,
    pub root: PathBuf,
    /// Leaf, intermediate and key in one file, as HAProxy wants it; `server` reads it too.
    pub leaf: PathBuf,
}

struct Identity {
    cert: X509,
    key: PKey<Private>,
}

impl Authorities {
    pub fn new(folder: &Path) -> Result<Authorities> {
        let root = issue("bench root", 1, None, true)?;
        let issuer = issue("bench issuer", 2, Some(&root), true)?;
        let leaf = issue("localhost", 3, Some(&issuer), false)?;
        let pem = |identity: &Identity| -> Result<String> { Ok(String::from_utf8(identity.cert.to_pem()?)?) };
        let key = |identity: &Identity| -> Result<String> { Ok(String::from_utf8(identity.key.private_key_to_pem_pkcs8()?)?) };
        let write = |name: &str, content: String| -> Result<PathBuf> {
            let path = folder.join(name);
            std::fs::write(&path, content)?;
            Ok(path)
        };
        Ok(Authorities {
            root_pem: pem(&root)?,
            issuer: write("issuer.crt", pem(&issuer)? + &pem(&root)?)?,
            issuer_key: write("issuer.key", key(&issuer)?)?,
            root: write("root.crt", pem(&root)?)?,
            leaf: write("leaf.pem", pem(&leaf)? + &pem(&issuer)? + &key(&leaf)?)?,
        })
    }
}

fn issue(name: &str, serial: u32, issuer: Option<&Identity>, ca: bool) -> Result<Identity> {
    let key = PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?)?;
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    let subject = subject.build();
    let mut cert = X509::builder()?;
    cert.set_version(2)?;
    let serial = BigNum::from_u32(serial)?.to_asn1_integer()?;
    cert.set_serial_number(&serial)?;
    cert.set_subject_name(&subject)?;
    cert.set_issuer_name(issuer.map_or(&*subject, |issuer| issuer.cert.subject_name()))?;
    let (from, to) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(2)?);
    cert.set_not_before(&from)?;
    cert.set_not_after(&to)?;
    cert.set_pubkey(&key)?;
    if ca {
        cert.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    } else {
        let names = SubjectAlternativeName::new().dns("localhost").ip("127.0.0.1").build(&cert.x509v3_context(None, None))?;
        cert.append_extension(names)?;
    }
    cert.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256())?;
    Ok(Identity { cert: cert.build(), key })
}
