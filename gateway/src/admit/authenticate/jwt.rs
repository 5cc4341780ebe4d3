//! The local check of a ServiceAccount token: form, issuer, audience, times, signature (RS256, ES256, ES384,
//! ES512). It refuses garbage before the API server sees it; it never replaces the TokenReview, which alone
//! knows of deleted Pods and ServiceAccounts.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Public};
use openssl::rsa::Rsa;
use openssl::sign::Verifier;
use serde::Deserialize;

use crate::home::cluster::SigningKeys;
use crate::home::principal::{PodRef, Principal};

/// Clocks of gateway and API server may differ by this much where a token is not valid *yet*.
const SKEW: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Tokens are not JWTs here: only the review decides.
    Opaque,
    Signed {
        expires: SystemTime,
    },
    /// Its issuer or its key is one that only the API server can judge: the review decides.
    Unjudged {
        expires: SystemTime,
    },
    /// Correctly signed, for us, and past its end by no more than the grace.
    Expired(Principal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    Malformed,
    Audience,
    Expired,
    NotYet,
    UnknownKey,
    Signature,
}

impl Unfit {
    pub fn words(self) -> &'static str {
        match self {
            Unfit::Malformed => "the token is no ServiceAccount token",
            Unfit::Audience => "the token is for another audience",
            Unfit::Expired => "the token has expired",
            Unfit::NotYet => "the token is not valid yet",
            Unfit::UnknownKey => "the token is signed with an unknown key",
            Unfit::Signature => "the token's signature is wrong",
        }
    }
}

/// Public keys of the issuer by key id.
pub struct Keys {
    issuer: String,
    by_id: HashMap<String, Key>,
}

enum Key {
    Rsa(PKey<Public>),
    Ec(&'static Curve, EcKey<Public>),
    /// Of a kind that is not judged here.
    Other,
}

struct Curve {
    name: &'static str,
    algorithm: &'static str,
    nid: Nid,
    digest: fn() -> MessageDigest,
    /// Of each half of a signature.
    bytes: usize,
}

/// RFC 7518, 3.4.
const CURVES: [Curve; 3] = [
    Curve {
        name: "P-256",
        algorithm: "ES256",
        nid: Nid::X9_62_PRIME256V1,
        digest: MessageDigest::sha256,
        bytes: 32,
    },
    Curve {
        name: "P-384",
        algorithm: "ES384",
        nid: Nid::SECP384R1,
        digest: MessageDigest::sha384,
        bytes: 48,
    },
    Curve {
        name: "P-521",
        algorithm: "ES512",
        nid: Nid::SECP521R1,
        digest: MessageDigest::sha512,
        bytes: 66,
    },
];

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    aud: Audience,
    exp: u64,
    nbf: Option<u64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
    pod: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

impl Default for Audience {
    fn default() -> Self {
        Audience::Many(Vec::new())
    }
}

impl Audience {
    fn names(&self, audience: &str) -> bool {
        match self {
            Audience::One(one) => one == audience,
            Audience::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

impl Keys {
    pub fn parse(keys: &SigningKeys) -> Keys {
        let listed = keys.jwks.get("keys").and_then(|keys| keys.as_array()).into_iter().flatten();
        let jwks = listed.filter_map(|key| Jwk::deserialize(key).ok());
        let by_id = jwks.map(|jwk| (jwk.kid.clone(), key(&jwk).unwrap_or(Key::Other))).collect();
        Keys { issuer: keys.issuer.clone(), by_id }
    }
}

fn key(jwk: &Jwk) -> Option<Key> {
    let number = |text: &Option<String>| BigNum::from_slice(&decode(text.as_ref()?)?).ok();
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let key = Rsa::from_public_components(number(&jwk.n)?, number(&jwk.e)?).ok()?;
            Some(Key::Rsa(PKey::from_rsa(key).ok()?))
        }
        ("EC", Some(name)) => {
            let curve = CURVES.iter().find(|curve| curve.name == name)?;
            let group = EcGroup::from_curve_name(curve.nid).ok()?;
            let (x, y) = (number(&jwk.x)?, number(&jwk.y)?);
            Some(Key::Ec(curve, EcKey::from_public_key_affine_coordinates(&group, &x, &y).ok()?))
        }
        _ => None,
    }
}

impl Key {
    /// None: cannot be judged here. The algorithm is the key's, never the token's choice.
    fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> Result<Option<bool>, ErrorStack> {
        let verified = match self {
            Key::Other => return Ok(None),
            Key::Rsa(key) if algorithm == "RS256" => {
                Verifier::new(MessageDigest::sha256(), key)?.verify_oneshot(signature, signed)?
            }
            Key::Ec(curve, key) if algorithm == curve.algorithm && signature.len() == 2 * curve.bytes => {
                let (r, s) = signature.split_at(curve.bytes);
                let signature =
                    EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
                signature.verify(&openssl::hash::hash((curve.digest)(), signed)?, key)?
            }
            Key::Rsa(_) | Key::Ec(..) => false,
        };
        Ok(Some(verified))
    }
}

/// Without keys everything but the signature is checked, and the answer is `UnknownKey`. An API server may
/// accept tokens of further issuers than the one that it names, if they are signed with a key of its own.
pub fn check(
    token: &str,
    keys: Option<&Keys>,
    audience: &str,
    now: SystemTime,
    grace: Duration,
) -> Result<Checked, Unfit> {
    let (signed, signature) = token.rsplit_once('.').ok_or(Unfit::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(Unfit::Malformed)?;
    let header: Header = part(header)?;
    let claims: Claims = part(claims)?;
    let signature = decode(signature).ok_or(Unfit::Malformed)?;
    let (expires, late) = times(&claims, now, grace)?;
    if !claims.aud.names(audience) {
        return Err(Unfit::Audience);
    }
    let keys = keys.ok_or(Unfit::UnknownKey)?;
    let key = keys.by_id.get(&header.kid).ok_or(Unfit::UnknownKey)?;
    match key.verifies(&header.alg, signed.as_bytes(), &signature) {
        Ok(None) => Ok(Checked::Unjudged { expires }),
        Ok(Some(true)) if claims.iss != keys.issuer => Ok(Checked::Unjudged { expires }),
        Ok(Some(true)) if late => principal(claims, expires).map(Checked::Expired),
        Ok(Some(true)) => Ok(Checked::Signed { expires }),
        Ok(Some(false)) | Err(_) => Err(Unfit::Signature),
    }
}

/// Whom a token says it is of, unverified.
pub struct Claimed {
    pub user: String,
    pub pod_uid: Option<String>,
}

/// None for what is no ServiceAccount token.
pub fn claimed(token: &str) -> Option<Claimed> {
    let claims: Claims = part(token.split('.').nth(1)?).ok()?;
    let pod_uid = claims.kubernetes.and_then(|kubernetes| kubernetes.pod).map(|pod| pod.uid);
    Some(Claimed { user: claims.sub, pod_uid })
}

/// End of a token that was checked before; none if it has none.
pub fn expiry(token: &str) -> Option<SystemTime> {
    let claims = token.split('.').nth(1)?;
    part::<Claims>(claims).ok().map(|claims| at(claims.exp))
}

fn times(claims: &Claims, now: SystemTime, grace: Duration) -> Result<(SystemTime, bool), Unfit> {
    let expires = at(claims.exp);
    if claims.nbf.is_some_and(|nbf| at(nbf) > now + SKEW) {
        return Err(Unfit::NotYet);
    }
    match now.duration_since(expires) {
        Err(_) => Ok((expires, false)),
        Ok(late) if late <= grace => Ok((expires, true)),
        Ok(_) => Err(Unfit::Expired),
    }
}

fn principal(claims: Claims, expires: SystemTime) -> Result<Principal, Unfit> {
    let kubernetes = claims.kubernetes.ok_or(Unfit::Malformed)?;
    let namespace = kubernetes.namespace;
    let user = connectors_api::names::service_account_user(&namespace, &kubernetes.serviceaccount.name);
    if user != claims.sub {
        return Err(Unfit::Malformed);
    }
    let groups = connectors_api::names::service_account_groups(&namespace);
    let pod = kubernetes.pod.map(|pod| PodRef {
        namespace: namespace.as_str().into(),
        name: pod.name.into(),
        uid: pod.uid.into(),
    });
    Ok(Principal {
        user: user.into(),
        uid: kubernetes.serviceaccount.uid.into(),
        groups: groups.into(),
        pod,
        expires,
    })
}

/// A number beyond any calendar saturates instead of overflowing.
fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.min(u64::from(u32::MAX) * 16))
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Unfit> {
    let json = decode(text).ok_or(Unfit::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Unfit::Malformed)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use openssl::pkey::Private;
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const GRACE: Duration = Duration::from_secs(86_400);

    fn encode(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    struct Signer {
        key: PKey<Private>,
        jwk: Value,
        algorithm: &'static str,
    }

    fn rsa() -> Signer {
        let key = Rsa::generate(2048).unwrap();
        let jwk =
            json!({"kty": "RSA", "kid": "k", "n": encode(&key.n().to_vec()), "e": encode(&key.e().to_vec())});
        Signer { key: PKey::from_rsa(key).unwrap(), jwk, algorithm: "RS256" }
    }

    fn p256() -> Signer {
        ec(&CURVES[0])
    }

    fn ec(curve: &Curve) -> Signer {
        let group = EcGroup::from_curve_name(curve.nid).unwrap();
        let key = EcKey::generate(&group).unwrap();
        let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        let mut context = openssl::bn::BigNumContext::new().unwrap();
        key.public_key().affine_coordinates(&group, &mut x, &mut y, &mut context).unwrap();
        let padded =
            |number: &BigNum| encode(&number.to_vec_padded(i32::try_from(curve.bytes).unwrap()).unwrap());
        let jwk = json!({"kty": "EC", "crv": curve.name, "kid": "k", "x": padded(&x), "y": padded(&y)});
        Signer { key: PKey::from_ec_key(key).unwrap(), jwk, algorithm: curve.algorithm }
    }

    impl Signer {
        fn keys(&self) -> Keys {
            Keys::parse(&SigningKeys {
                issuer: "https://home".into(),
                jwks: json!({"keys": [self.jwk, {"kty": "OKP", "kid": "other-kind"}]}),
            })
        }

        fn token(&self, header: Value, claims: &Value) -> String {
            let signed = format!(
                "{}.{}",
                encode(header.to_string().as_bytes()),
                encode(claims.to_string().as_bytes())
            );
            let curve = CURVES.iter().find(|curve| curve.algorithm == self.algorithm);
            let digest = curve.map_or(MessageDigest::sha256(), |curve| (curve.digest)());
            let mut signer = openssl::sign::Signer::new(digest, &self.key).unwrap();
            let mut signature = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
            if let Some(curve) = curve {
                let parsed = EcdsaSig::from_der(&signature).unwrap();
                let bytes = i32::try_from(curve.bytes).unwrap();
                signature =
                    [parsed.r().to_vec_padded(bytes).unwrap(), parsed.s().to_vec_padded(bytes).unwrap()]
                        .concat();
            }
            format!("{signed}.{}", encode(&signature))
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://home", "aud": ["connectors.alauda.io"], "exp": NOW + 600, "nbf": NOW,
            "sub": "system:serviceaccount:demo:default",
            "kubernetes.io": {"namespace": "demo", "serviceaccount": {"name": "default", "uid": "u1"}, "pod": {"name": "p", "uid": "u2"}}
        })
    }

    fn with(change: impl Fn(&mut Value)) -> Value {
        let mut claims = claims();
        change(&mut claims);
        claims
    }

    fn checked(token: &str, keys: &Keys) -> Result<Checked, Unfit> {
        check(token, Some(keys), "connectors.alauda.io", at(NOW), GRACE)
    }

    #[test]
    fn a_token_of_the_issuer_passes_with_each_algorithm() {
        for signer in [rsa(), ec(&CURVES[0]), ec(&CURVES[1]), ec(&CURVES[2])] {
            let token = signer.token(json!({"alg": signer.algorithm, "kid": "k"}), &claims());
            assert_eq!(checked(&token, &signer.keys()), Ok(Checked::Signed { expires: at(NOW + 600) }));
        }
    }

    #[test]
    fn whatever_is_not_ours_is_refused_with_the_reason() {
        let signer = p256();
        let header = || json!({"alg": "ES256", "kid": "k"});
        for (header, claims, refusal) in [
            (header(), with(|c| c["aud"] = json!("https://home")), Unfit::Audience),
            (header(), with(|c| c["aud"] = json!([])), Unfit::Audience),
            (header(), with(|c| c["exp"] = json!(NOW - 86_401)), Unfit::Expired),
            (header(), with(|c| c["nbf"] = json!(NOW + 61)), Unfit::NotYet),
            (header(), with(|c| c["exp"] = json!("soon")), Unfit::Malformed),
            (json!({"alg": "ES256", "kid": "other"}), claims(), Unfit::UnknownKey),
            (json!({"alg": "RS256", "kid": "k"}), claims(), Unfit::Signature),
            (json!({"alg": "none", "kid": "k"}), claims(), Unfit::Signature),
        ] {
            assert_eq!(checked(&signer.token(header, &claims), &signer.keys()), Err(refusal), "{claims}");
        }
    }

    #[test]
    fn what_only_the_api_server_can_judge_is_left_to_it() {
        let signer = p256();
        let older = with(|c| c["iss"] = json!("https://before-the-move"));
        for (kid, claims) in [("k", older), ("other-kind", claims())] {
            let token = signer.token(json!({"alg": "ES256", "kid": kid}), &claims);
            assert_eq!(
                checked(&token, &signer.keys()),
                Ok(Checked::Unjudged { expires: at(NOW + 600) }),
                "{kid}"
            );
        }
        let forged =
            p256().token(json!({"alg": "ES256", "kid": "k"}), &with(|c| c["iss"] = json!("https://evil")));
        assert_eq!(checked(&forged, &signer.keys()), Err(Unfit::Signature));
        let garbage = signer
            .token(json!({"alg": "EdDSA", "kid": "other-kind"}), &with(|c| c["aud"] = json!("https://home")));
        assert_eq!(checked(&garbage, &signer.keys()), Err(Unfit::Audience));
    }

    #[test]
    fn a_changed_claim_breaks_the_signature() {
        let signer = p256();
        let token = signer.token(json!({"alg": "ES256", "kid": "k"}), &claims());
        let forged = with(|c| c["sub"] = json!("system:serviceaccount:kube-system:admin"));
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        parts[1] = encode(forged.to_string().as_bytes());
        assert_eq!(checked(&parts.join("."), &signer.keys()), Err(Unfit::Signature));
    }

    #[test]
    fn garbage_is_malformed() {
        let keys = p256().keys();
        for token in ["", "x", "a.b", "a.b.c", "....", "e30.e30.e30", "e30.e30.\u{1F600}"] {
            assert_eq!(checked(token, &keys), Err(Unfit::Malformed), "{token}");
        }
    }

    #[test]
    fn a_token_just_expired_names_its_bearer() {
        let signer = p256();
        let late = with(|c| c["exp"] = json!(NOW - 10));
        let token = signer.token(json!({"alg": "ES256", "kid": "k"}), &late);
        let Ok(Checked::Expired(principal)) = checked(&token, &signer.keys()) else { panic!("not expired") };
        assert_eq!(&*principal.user, "system:serviceaccount:demo:default");
        assert_eq!(&*principal.pod.unwrap().uid, "u2");
    }

    #[test]
    fn an_expired_token_that_is_not_signed_by_us_is_nobody() {
        let signer = p256();
        let token = signer.token(json!({"alg": "ES256", "kid": "k"}), &with(|c| c["exp"] = json!(NOW - 10)));
        assert_eq!(checked(&token, &p256().keys()), Err(Unfit::Signature));
    }
}
