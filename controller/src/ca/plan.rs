//! What is due, by certificates and time alone: which roots clients trust now, and whether the issuing CA
//! must be signed anew. Pure.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::x509::{X509, X509Ref};

use super::mint::{Authority, BACKDATED};
use crate::error::Error;

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// kubelet republishes volumes every 60–90 s; half an hour also covers a node that was away for a while.
const SPREAD: SignedDuration = SignedDuration::from_mins(30);
/// An intermediate of the old root lives for seven days at most, and no leaf outlives its issuer.
const OUTLIVED: SignedDuration = SignedDuration::from_hours(8 * 24);

/// What clients trust.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// PEM, the present root first.
    pub roots: Vec<Vec<u8>>,
    /// SHA-256 of the present root, lowercase hex.
    pub current: String,
    /// When the present root entered the bundle.
    pub since: Timestamp,
}

/// The bundle that should be published now, given the one that is.
pub fn bundle(root: &X509Ref, published: Option<&Bundle>, now: Timestamp) -> Result<Bundle, Error> {
    let current = fingerprint(root)?;
    let since = published
        .filter(|published| published.current == current)
        .map_or(now, |published| published.since.min(now));
    let mut roots = vec![root.to_pem()?];
    if now.duration_since(since) < OUTLIVED {
        for pem in published.iter().flat_map(|published| &published.roots) {
            let old = X509::from_pem(pem)?;
            if !roots.contains(pem) && unix(old.not_after())? > now.as_second() {
                roots.push(pem.clone());
            }
        }
    }
    Ok(Bundle { roots, current, since })
}

/// `bundle`: what clients trust now.
pub fn must_issue(
    root: &X509Ref,
    issuing: Option<&Authority>,
    bundle: &Bundle,
    now: Timestamp,
) -> Result<bool, Error> {
    let Some(issuing) = issuing else { return Ok(true) };
    let certificate = &issuing.certificate;
    let (begins, ends) = (unix(certificate.not_before())?, unix(certificate.not_after())?);
    // Made by a clock that was ahead: no client takes it yet.
    if begins > now.as_second() {
        return Ok(true);
    }
    let is_last_day = ends - now.as_second() <= DAY.as_secs();
    if is_signed_by(certificate, root)? {
        let is_old = now.as_second() - begins - BACKDATED >= DAY.as_secs();
        // One that ends with its root would be followed by one that ends no later, again and again.
        return Ok((is_last_day || is_old) && ends < unix(root.not_after())?);
    }
    let waits = now.duration_since(bundle.since) < SPREAD && is_trusted(certificate, bundle)?;
    Ok(is_last_day || !waits)
}

fn is_trusted(certificate: &X509Ref, bundle: &Bundle) -> Result<bool, Error> {
    for pem in &bundle.roots {
        if is_signed_by(certificate, &*X509::from_pem(pem)?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Of a key of another type OpenSSL says that it cannot verify.
fn is_signed_by(certificate: &X509Ref, root: &X509Ref) -> Result<bool, Error> {
    Ok(certificate.verify(&*root.public_key()?).unwrap_or(false))
}

pub fn fingerprint(certificate: &X509Ref) -> Result<String, Error> {
    let digest = certificate.digest(openssl::hash::MessageDigest::sha256())?;
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Seconds since 1970.
pub fn unix(time: &Asn1TimeRef) -> Result<i64, Error> {
    let passed = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(passed.days) * 24 * 60 * 60 + i64::from(passed.secs))
}

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;

    use super::super::mint;
    use super::*;

    fn authority() -> Authority {
        let (certificate, key) = mint::root().unwrap();
        Authority { certificate, key }
    }

    fn hours(hours: i64) -> SignedDuration {
        SignedDuration::from_hours(hours)
    }

    #[test]
    fn a_chain_of_both_levels_verifies_and_goes_no_deeper() {
        let root = authority();
        let issuing = mint::issuing(&root).unwrap();
        assert!(issuing.certificate.verify(&root.key).unwrap());
        assert_eq!(root.certificate.issued(&issuing.certificate), openssl::x509::X509VerifyResult::OK);
        assert_eq!(issuing.certificate.pathlen(), Some(0));
        let life =
            unix(issuing.certificate.not_after()).unwrap() - unix(issuing.certificate.not_before()).unwrap();
        assert_eq!(life, mint::ISSUING_LIFE + BACKDATED);
    }

    #[test]
    fn the_issuing_ca_is_renewed_daily_and_when_it_is_missing() {
        let root = authority();
        let issuing = mint::issuing(&root).unwrap();
        let now = Timestamp::now();
        let bundle = bundle(&root.certificate, None, now).unwrap();
        let due = |issuing, at| must_issue(&root.certificate, issuing, &bundle, at).unwrap();
        assert!(due(None, now));
        assert!(!due(Some(&issuing), now));
        assert!(!due(Some(&issuing), now + hours(23)));
        assert!(due(Some(&issuing), now + hours(24)));
        assert!(due(Some(&issuing), now + hours(24 * 30)));
        // Made when a clock was ahead by more than the hour of backdating.
        assert!(due(Some(&issuing), now - hours(2)));
        assert!(!due(Some(&issuing), now - SignedDuration::from_mins(30)));
    }

    #[test]
    fn an_issuing_ca_that_ends_with_its_root_is_not_renewed() {
        for life in [12, 3 * 24] {
            let (certificate, key) = mint::root_of(life * 60 * 60).unwrap();
            let root = Authority { certificate, key };
            let issuing = mint::issuing(&root).unwrap();
            let now = Timestamp::now();
            let bundle = bundle(&root.certificate, None, now).unwrap();
            for at in [0, life - 1] {
                let due = must_issue(&root.certificate, Some(&issuing), &bundle, now + hours(at)).unwrap();
                assert!(!due, "{at} of {life} hours");
            }
        }
    }

    /// As an operator may supply it.
    fn rsa_root() -> X509 {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut root = X509::builder().unwrap();
        root.set_version(2).unwrap();
        root.set_pubkey(&key).unwrap();
        root.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        root.set_not_after(&Asn1Time::days_from_now(3650).unwrap()).unwrap();
        root.sign(&key, MessageDigest::sha256()).unwrap();
        root.build()
    }

    #[test]
    fn a_root_with_a_key_of_another_type_signs_half_an_hour_after_it_came() {
        let (old, new) = (authority(), rsa_root());
        let issuing = mint::issuing(&old).unwrap();
        let now = Timestamp::now();
        let before = bundle(&old.certificate, None, now - hours(1000)).unwrap();
        let begun = bundle(&new, Some(&before), now).unwrap();
        let due = |at| must_issue(&new, Some(&issuing), &begun, at).unwrap();
        assert!(!due(now + SignedDuration::from_mins(29)));
        assert!(due(now + SignedDuration::from_mins(30)));
    }

    #[test]
    fn an_issuing_ca_that_no_client_trusts_is_replaced_at_once() {
        let (old, new) = (authority(), authority());
        let issuing = mint::issuing(&old).unwrap();
        let now = Timestamp::now();
        // The bundle was deleted in the first half hour of a rotation, and is made anew.
        let bundle = bundle(&new.certificate, None, now).unwrap();
        assert!(must_issue(&new.certificate, Some(&issuing), &bundle, now).unwrap());
    }

    #[test]
    fn a_new_root_is_trusted_first_signs_later_and_replaces_the_old_one_last() {
        let (old, new) = (authority(), authority());
        let issuing = mint::issuing(&old).unwrap();
        let now = Timestamp::now();
        let before = bundle(&old.certificate, None, now - hours(1000)).unwrap();
        let begun = bundle(&new.certificate, Some(&before), now).unwrap();
        assert_eq!(begun.roots, [new.certificate.to_pem().unwrap(), old.certificate.to_pem().unwrap()]);
        assert_eq!(begun.since, now);

        let due = |at| must_issue(&new.certificate, Some(&issuing), &begun, at).unwrap();
        assert!(!due(now + SignedDuration::from_mins(29)));
        assert!(due(now + SignedDuration::from_mins(30)));

        for (at, roots) in [(hours(1), 2), (hours(8 * 24 - 1), 2), (hours(8 * 24), 1)] {
            let later = bundle(&new.certificate, Some(&begun), now + at).unwrap();
            assert_eq!(later.roots.len(), roots, "{at:?}");
            assert_eq!(later.since, now);
        }
    }

    #[test]
    fn without_a_rotation_the_bundle_stays_the_same() {
        let root = authority();
        let now = Timestamp::now();
        let first = bundle(&root.certificate, None, now).unwrap();
        assert!(bundle(&root.certificate, Some(&first), now + hours(10)).unwrap() == first);
    }
}
