//! ServiceAccounts, Pods and tokens of the walks: what the API server issues, and which of it it still accepts.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_api::names::{AUDIENCE, service_account_groups, service_account_user};
use connectors_gateway::home::cluster::{SigningKeys, far_future};
use connectors_gateway::home::principal::{PodRef, Principal};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::Private;
use serde_json::{Value, json};

pub const USERS: usize = 2;
const ISSUER: &str = "https://home";
const ANOTHER_AUDIENCE: &str = "https://kubernetes.default.svc";

/// What a new token is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Usual,
    /// It ends within a second: tokens say their end in whole ones.
    Short,
    Ended,
    ForAnotherAudience,
}

pub struct Issued {
    pub text: String,
    pub ends: SystemTime,
}

/// A ServiceAccount and its Pod as they are now, or were when a token was issued.
#[derive(Clone, Copy, Default)]
struct Account {
    uid: usize,
    pod: Option<usize>,
}

#[derive(Clone, Copy)]
struct Bearer {
    user: usize,
    account: Account,
    audience: &'static str,
    ends: SystemTime,
}

pub struct Tokens {
    key: EcKey<Private>,
    pub keys: SigningKeys,
    issued: Mutex<HashMap<String, Bearer>>,
    accounts: Mutex<[Account; USERS]>,
    count: AtomicUsize,
}

impl Default for Tokens {
    fn default() -> Tokens {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = EcKey::generate(&group).unwrap();
        let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        let mut context = BigNumContext::new().unwrap();
        key.public_key().affine_coordinates(&group, &mut x, &mut y, &mut context).unwrap();
        let [x, y] = [x, y].map(|half| URL_SAFE_NO_PAD.encode(half.to_vec_padded(32).unwrap()));
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "walks", "x": x, "y": y});
        let keys = SigningKeys { issuer: ISSUER.to_owned(), jwks: json!({"keys": [jwk]}) };
        Tokens { key, keys, issued: Mutex::default(), accounts: Mutex::default(), count: AtomicUsize::new(0) }
    }
}

pub fn user(number: usize) -> String {
    service_account_user("demo", &name(number))
}

/// Of a ServiceAccount and of its Pod.
pub fn name(number: usize) -> String {
    format!("user-{number}")
}

impl Tokens {
    /// Forgets what earlier walks have made.
    pub fn begin(&self) {
        self.issued.lock().unwrap().clear();
        *self.accounts.lock().unwrap() = Default::default();
    }

    fn next(&self) -> usize {
        self.count.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn create_pod(&self, user: usize) {
        let uid = self.next();
        self.accounts.lock().unwrap()[user].pod.get_or_insert(uid);
    }

    pub fn delete_pod(&self, user: usize) {
        self.accounts.lock().unwrap()[user].pod = None;
    }

    /// The ServiceAccount is deleted, and another has its name.
    pub fn recreate(&self, user: usize) {
        self.accounts.lock().unwrap()[user].uid = self.next();
    }

    /// Bound to the Pod, if there is one.
    pub fn issue(&self, user: usize, kind: Kind) -> Issued {
        let account = self.accounts.lock().unwrap()[user];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let end = match kind {
            Kind::Usual | Kind::ForAnotherAudience => now + 3600,
            Kind::Short => now + 1,
            Kind::Ended => now - 10,
        };
        let audience = if kind == Kind::ForAnotherAudience { ANOTHER_AUDIENCE } else { AUDIENCE };
        let pod = account.pod.map(|uid| json!({"name": name(user), "uid": uid.to_string()}));
        let text = self.signed(&json!({
            "iss": ISSUER, "aud": [audience], "exp": end, "sub": self::user(user), "jti": self.next().to_string(),
            "kubernetes.io": {
                "namespace": "demo", "pod": pod,
                "serviceaccount": {"name": name(user), "uid": account.uid.to_string()}}}));
        let ends = UNIX_EPOCH + Duration::from_secs(end);
        self.issued.lock().unwrap().insert(text.clone(), Bearer { user, account, audience, ends });
        Issued { text, ends }
    }

    fn signed(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": "walks"});
        let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let text = format!("{header}.{claims}");
        let digest = hash(MessageDigest::sha256(), text.as_bytes()).unwrap();
        let signature = EcdsaSig::sign(&digest, &self.key).unwrap();
        let halves = [signature.r(), signature.s()].map(|half| half.to_vec_padded(32).unwrap());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(halves.concat()))
    }

    /// As a TokenReview answers.
    pub fn review(&self, text: &str, audience: &str, expires: Option<SystemTime>) -> Option<Principal> {
        let bearer = self.issued.lock().unwrap().get(text).copied()?;
        let (then, now) = (bearer.account, self.accounts.lock().unwrap()[bearer.user]);
        let stands = then.uid == now.uid && (then.pod.is_none() || then.pod == now.pod);
        let pod = |uid: usize| PodRef {
            namespace: "demo".into(),
            name: name(bearer.user).into(),
            uid: uid.to_string().into(),
        };
        (stands && bearer.audience == audience && SystemTime::now() < bearer.ends).then(|| Principal {
            user: user(bearer.user).into(),
            uid: then.uid.to_string().into(),
            groups: service_account_groups("demo").into(),
            pod: then.pod.map(pod),
            expires: expires.unwrap_or_else(far_future),
        })
    }
}
