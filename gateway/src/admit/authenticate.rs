//! Token → principal: what is known of it, else a local JWT check (`authenticate/jwt`, issuer keys of
//! `authenticate/keys`), else a TokenReview for our audience, single flight per token. Comes after `head`,
//! before `route`.

pub mod jwt;
mod keys;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use openssl::sha::Sha256;
use secrecy::{ExposeSecret, SecretString};

use crate::home::cluster::Reviews;
use crate::home::principal::Principal;
use crate::home::remembered::{Answers, Away, Fresh};
use crate::metrics::caches::Lookups;
use crate::settings::{Authorization, Tokens};

/// What a token says of its bearer.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Reviewed by the API server and still valid.
    Valid(Arc<Principal>),
    /// Ours and correctly signed, but expired at most 24 h ago: a tunnel without authority of its own.
    Expired(Arc<Principal>),
}

/// Constant texts only: a token or a part of it never gets here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("{0}")]
    Invalid(&'static str),
    /// The API server did not answer and the token is unknown: 503 with Retry-After.
    #[error("the API server did not answer a token review")]
    Unavailable,
}

/// Longer is no token of Kubernetes (about 1.2 KiB) and not worth hashing.
const TOKEN_MAX: usize = 16 << 10;
/// How long a refusal by the API server is remembered. A token does not become valid later, but the server
/// may have been ill.
const NO_LIFE: Duration = Duration::from_secs(10);

const REFUSED: &str = "the token was refused by the cluster";
const EXPIRED: &str = "the token has expired";

/// SHA-256 over a random key of this process and the token: the cache holds no token, and no collision can be
/// prepared.
type TokenKey = [u8; 32];

pub struct Authenticator {
    reviews: Arc<dyn Reviews>,
    keys: keys::KeyStore,
    /// None: refused by the API server.
    answers: Answers<TokenKey, Option<Arc<Principal>>>,
    digest_key: [u8; 32],
    audience: Arc<str>,
    grace: Duration,
    fresh: Duration,
}

impl Authenticator {
    pub fn new(
        reviews: Arc<dyn Reviews>,
        tokens: &Tokens,
        authorization: &Authorization,
        lookups: Lookups,
    ) -> Result<Authenticator, openssl::error::ErrorStack> {
        let mut digest_key = [0; 32];
        openssl::rand::rand_bytes(&mut digest_key)?;
        Ok(Authenticator {
            keys: keys::KeyStore::new(reviews.clone()),
            reviews,
            answers: Answers::new(tokens.cache_entries, authorization.outage, lookups),
            digest_key,
            audience: tokens.audience.as_str().into(),
            grace: tokens.expired_grace,
            fresh: authorization.fresh,
        })
    }

    pub async fn authenticate(&self, token: &SecretString) -> Result<Identity, Rejection> {
        let text = token.expose_secret();
        if text.is_empty() || text.len() > TOKEN_MAX {
            return Err(Rejection::Invalid("the token is empty or too long"));
        }
        let key = self.key(text);
        if let Some(known) = self.answers.fresh(&key, || self.again(token, jwt::expiry(text))).await {
            return self.judge(known);
        }
        let expires = match self.keys.check(text, &self.audience, self.grace).await? {
            jwt::Checked::Expired(principal) => return Ok(Identity::Expired(Arc::new(principal))),
            jwt::Checked::Signed { expires } | jwt::Checked::Unjudged { expires } => Some(expires),
            jwt::Checked::Opaque => None,
        };
        let answer = self.answers.ask(&key, self.question(token, expires)).await;
        self.judge(answer.map_err(|Away| Rejection::Unavailable)?)
    }

    /// A remembered principal may have come to its token's end since.
    fn judge(&self, answer: Option<Arc<Principal>>) -> Result<Identity, Rejection> {
        let principal = answer.ok_or(Rejection::Invalid(REFUSED))?;
        match SystemTime::now().duration_since(principal.expires) {
            Err(_) => Ok(Identity::Valid(principal)),
            Ok(late) if late <= self.grace => Ok(Identity::Expired(principal)),
            Ok(_) => Err(Rejection::Invalid(EXPIRED)),
        }
    }

    fn key(&self, token: &str) -> TokenKey {
        let mut digest = Sha256::new();
        digest.update(&self.digest_key);
        digest.update(token.as_bytes());
        digest.finish()
    }

    /// The question about a token that was answered before. One that has ended since is asked about no more:
    /// its answer stays, and says so.
    fn again(
        &self,
        token: &SecretString,
        expires: Option<SystemTime>,
    ) -> impl Future<Output = Result<Fresh<Option<Arc<Principal>>>, Away>> + Send + 'static {
        let question = self.question(token, expires);
        async move {
            match expires {
                Some(end) if end <= SystemTime::now() => Err(Away),
                _ => question.await,
            }
        }
    }

    fn question(
        &self,
        token: &SecretString,
        expires: Option<SystemTime>,
    ) -> impl Future<Output = Result<Fresh<Option<Arc<Principal>>>, Away>> + Send + 'static {
        let (reviews, token, audience, fresh) =
            (self.reviews.clone(), token.clone(), self.audience.clone(), self.fresh);
        async move {
            let principal = reviews.token(&token, &audience, expires).await?.map(Arc::new);
            let life = if principal.is_some() { fresh } else { NO_LIFE };
            Ok((principal, life))
        }
    }
}
