//! Is this the target? Judged after the handshake, with stores that are built once per route and target,
//! before `upstream` sends a byte. The handshake itself verifies nothing.

mod why;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use connectors_api::ca_certificates;
use connectors_api::connector::{Pin, PinKind};
use connectors_api::target::Target;
use openssl::error::ErrorStack;
use openssl::sha::sha256;
use openssl::ssl::{SslRef, SslVersion};
use openssl::stack::{Stack, StackRef};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509CheckFlags, X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId, X509Ref, X509StoreContext};

use self::why::Fault;
use crate::settings::Unverified;

/// What vouches for one target of one route.
pub struct Anchors {
    /// That its certificate must name.
    host: String,
    policy: Unverified,
    /// System roots, shared by all.
    system: Arc<X509Store>,
    /// Of the connector's Secrets.
    given: Vec<X509Store>,
    /// Pinned CAs; none if no CA is pinned for this origin.
    pinned: Vec<X509Store>,
    /// Pinned keys, lowercase hex SHA-256.
    keys: Vec<String>,
}

/// Certificates of one name beyond so many share the last store: each store costs a verification.
const MAX_STORES: usize = 8;

/// Bytes of a CA that is pinned, DER: it stands in the Connector's status, which must stay readable.
const MOST_PINNED: usize = 12 << 10;

/// OpenSSL's security level, as Debian has it for all: keys and signatures of 112 bits (RSA of 2048, SHA-256).
const STRENGTH: i32 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    Trusted,
    /// Pins exist and none fits.
    Changed {
        fingerprint: String,
    },
    /// Nothing vouches for it: why, for whoever set the connector up.
    Unknown {
        cause: String,
    },
}

/// Loads the system's roots once.
pub fn system_roots() -> Result<Arc<X509Store>, ErrorStack> {
    let mut store = builder()?;
    store.set_default_paths()?;
    Ok(Arc::new(store.build()))
}

impl Anchors {
    /// `given`: CA certificates of the connector's Secrets. Pins for other origins are ignored, and all of them where
    /// something is given: what was seen at first contact says nothing to who knows better.
    pub fn new(
        target: &Target,
        server_name: &str,
        policy: Unverified,
        system: Arc<X509Store>,
        given: &[X509],
        pins: &[Pin],
    ) -> Result<Anchors, ErrorStack> {
        let origin = target.origin();
        let counts = |pin: &&Pin| pin.origin == origin && policy == Unverified::Pin && given.is_empty();
        let pins: Vec<&Pin> = pins.iter().filter(counts).collect();
        let of_kind = |kind| pins.iter().filter(move |pin| pin.kind == kind);
        let mut keys: Vec<String> =
            of_kind(PinKind::PublicKey).map(|pin| pin.sha256.to_ascii_lowercase()).collect();
        let mut cas = Vec::new();
        for pin in of_kind(PinKind::Ca) {
            let pem = pin.certificate.as_deref().unwrap_or_default().as_bytes();
            match ca_certificates::of_value("certificate", pem, |der| X509::from_der(der).ok()) {
                Ok(certificates) => cas.extend(certificates),
                // It still is a pin, which nothing fits: no key has the fingerprint of a certificate.
                Err(_) => keys.push(pin.sha256.clone()),
            }
        }
        Ok(Anchors {
            host: server_name.to_owned(),
            policy,
            system,
            given: stores_of(given)?,
            pinned: stores_of(&cas)?,
            keys,
        })
    }

    pub fn judge(&self, ssl: &SslRef) -> Judgement {
        let Some(leaf) = ssl.peer_certificate() else { return unknown("it presents no certificate") };
        if !matches!(ssl.version2(), Some(SslVersion::TLS1_2 | SslVersion::TLS1_3)) {
            return unknown("it speaks no TLS 1.2 or later");
        }
        match ssl.peer_cert_chain() {
            Some(chain) => self.judge_chain(&leaf, chain),
            None => unknown("it presents no certificate"),
        }
    }

    /// The connector's own CAs first. Where pins count, only they do: a pinned target that suddenly shows a
    /// certificate of some public CA has changed.
    fn judge_chain(&self, leaf: &X509Ref, chain: &StackRef<X509>) -> Judgement {
        if self.policy == Unverified::Skip || self.vouch(&self.given, leaf, chain) {
            return Judgement::Trusted;
        }
        let fingerprint = key_fingerprint(leaf);
        if !self.pinned.is_empty() || !self.keys.is_empty() {
            let held = self.keys.contains(&fingerprint) || self.vouch(&self.pinned, leaf, chain);
            return if held { Judgement::Trusted } else { Judgement::Changed { fingerprint } };
        }
        if self.vouch(std::slice::from_ref(&*self.system), leaf, chain) {
            return Judgement::Trusted;
        }
        Judgement::Unknown { cause: self.why_not(leaf, chain) }
    }

    fn vouch(&self, stores: &[X509Store], leaf: &X509Ref, chain: &StackRef<X509>) -> bool {
        stores.iter().any(|store| fault(store, leaf, chain).is_none()) && names(leaf, &self.host)
    }

    /// By the store that knows most of it.
    fn why_not(&self, leaf: &X509Ref, chain: &StackRef<X509>) -> String {
        let mut faults = Vec::new();
        for store in self.given.iter().chain([&*self.system]) {
            match fault(store, leaf, chain) {
                None => return why::other_names(leaf, &self.host),
                Some(fault) => faults.push(fault),
            }
        }
        let known = faults.iter().find(|fault| !fault.is_of_a_stranger()).or(faults.first());
        known.map_or_else(String::new, |fault| fault.sentence(leaf, chain))
    }
}

fn unknown(cause: &str) -> Judgement {
    Judgement::Unknown { cause: cause.to_owned() }
}

fn builder() -> Result<X509StoreBuilder, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    store.set_purpose(X509PurposeId::SSL_SERVER)?;
    let mut strength = X509VerifyParam::new()?;
    strength.set_auth_level(STRENGTH);
    store.set_param(&strength)?;
    Ok(store)
}

/// OpenSSL takes the first certificate of a name for the issuer, even if another of that name has signed. So
/// each store has a name once: with a CA of an old and a new key there are two.
fn stores_of(certificates: &[X509]) -> Result<Vec<X509Store>, ErrorStack> {
    let mut sets: Vec<Vec<&X509>> = Vec::new();
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    for certificate in certificates {
        let before = seen.entry(certificate.subject_name().to_der()?).or_default();
        let place = (*before).min(MAX_STORES - 1);
        *before += 1;
        if place == sets.len() {
            sets.push(Vec::new());
        }
        sets.get_mut(place).into_iter().for_each(|set| set.push(certificate));
    }
    sets.iter().map(|set| store_of(set)).collect()
}

fn store_of(certificates: &[&X509]) -> Result<X509Store, ErrorStack> {
    let mut store = builder()?;
    // What is given may be an intermediate: it is trusted without the root above it.
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    for certificate in certificates {
        store.add_cert(X509::clone(certificate))?;
    }
    Ok(store.build())
}

/// Why the chain does not verify; none if it does.
fn fault(store: &X509Store, leaf: &X509Ref, chain: &StackRef<X509>) -> Option<Fault> {
    let verified = X509StoreContext::new().and_then(|mut context| {
        context.init(store, leaf, chain, |context| {
            Ok(if context.verify_cert()? { None } else { Some(Fault::of(context)) })
        })
    });
    verified.unwrap_or_else(|_| Some(Fault::default()))
}

/// Whether the certificate names this host (DNS or IP). A store that trusts the leaf itself leaves only the
/// name to be checked.
fn names(leaf: &X509Ref, host: &str) -> bool {
    let checked = || -> Result<bool, ErrorStack> {
        let mut param = X509VerifyParam::new()?;
        match host.parse::<IpAddr>() {
            Ok(ip) => param.set_ip(ip)?,
            Err(_) => param.set_host(host)?,
        }
        param.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
        param.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        let mut store = X509StoreBuilder::new()?;
        store.set_param(&param)?;
        store.add_cert(leaf.to_owned())?;
        X509StoreContext::new()?.init(&store.build(), leaf, &*Stack::new()?, |context| context.verify_cert())
    };
    checked().unwrap_or(false)
}

/// Lowercase hex SHA-256 of the public key (SubjectPublicKeyInfo).
fn key_fingerprint(certificate: &X509Ref) -> String {
    let key = certificate.public_key().and_then(|key| key.public_key_to_der()).unwrap_or_default();
    hex(&sha256(&key))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The pin to take of a target that nothing vouches for: the topmost CA that it serves, or one of `offered`
/// (its cluster-info) under which the chain verifies, or its key. Names must fit for a CA; a key stands for
/// itself.
pub fn pin(target: &Target, server_name: &str, served: &[X509], offered: &[X509]) -> Option<Pin> {
    let (leaf, above) = served.split_first()?;
    let chain = stack(served).ok()?;
    let vouches = |ca: &&X509| {
        store_of(&[ca]).is_ok_and(|store| fault(&store, leaf, &chain).is_none()) && names(leaf, server_name)
    };
    let fits = |ca: &&X509| ca.to_der().is_ok_and(|der| der.len() <= MOST_PINNED);
    let ca = above.last().into_iter().chain(offered).filter(fits).find(vouches);
    Some(match ca {
        Some(ca) => Pin {
            origin: target.origin(),
            kind: PinKind::Ca,
            sha256: hex(&sha256(&ca.to_der().ok()?)),
            certificate: Some(String::from_utf8(ca.to_pem().ok()?).ok()?),
        },
        None => Pin {
            origin: target.origin(),
            kind: PinKind::PublicKey,
            sha256: key_fingerprint(leaf),
            certificate: None,
        },
    })
}

fn stack(certificates: &[X509]) -> Result<Stack<X509>, ErrorStack> {
    let mut stack = Stack::new()?;
    for certificate in certificates {
        stack.push(certificate.clone())?;
    }
    Ok(stack)
}
