//! The issuer's public keys, fetched when a token names a key that is not known, at most every 10 s.
//! `authenticate` checks with them; without them (API server away since the start) no unknown token passes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::Rejection;
use super::jwt::{self, Checked, Keys, Unfit};
use crate::home::cluster::Reviews;
use crate::home::remembered::Away;

/// Between two fetches, so that invented key ids cannot make the gateway hammer the API server.
const FETCH_INTERVAL: Duration = Duration::from_secs(10);
/// Between two tries while the API server does not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

pub struct KeyStore {
    reviews: Arc<dyn Reviews>,
    /// None until the first fetch.
    current: ArcSwapOption<Issued>,
    /// When a fetch may be made again; held while one is in flight, so that all who wait share it.
    next_fetch: Mutex<Option<Instant>>,
}

enum Issued {
    Opaque,
    Signed(Keys),
}

impl KeyStore {
    pub fn new(reviews: Arc<dyn Reviews>) -> KeyStore {
        KeyStore { reviews, current: ArcSwapOption::empty(), next_fetch: Mutex::new(None) }
    }

    /// Checks form, issuer, audience, times and signature; asks for newer keys once if the token's key is
    /// unknown.
    pub async fn check(&self, token: &str, audience: &str, grace: Duration) -> Result<Checked, Rejection> {
        let judge = |known: Option<&Issued>| match known {
            Some(Issued::Opaque) => Ok(Checked::Opaque),
            Some(Issued::Signed(keys)) => jwt::check(token, Some(keys), audience, SystemTime::now(), grace),
            None => jwt::check(token, None, audience, SystemTime::now(), grace),
        };
        let mut known = self.current.load_full();
        if known.is_none() {
            known = self.fetch(None).await?;
        }
        let mut judged = judge(known.as_deref());
        if judged == Err(Unfit::UnknownKey) {
            known = self.fetch(known).await?;
            judged = judge(known.as_deref());
        }
        judged.map_err(|refusal| match (refusal, known) {
            (Unfit::UnknownKey, None) => Rejection::Unavailable,
            (refusal, _) => Rejection::Invalid(refusal.words()),
        })
    }

    /// What is known after a fetch, or without one if it is too early or another one has just been made; none
    /// only while the API server has never answered.
    async fn fetch(&self, seen: Option<Arc<Issued>>) -> Result<Option<Arc<Issued>>, Rejection> {
        let mut next = self.next_fetch.lock().await;
        let now = self.current.load_full();
        let replaced = now.as_ref().map(Arc::as_ptr) != seen.as_ref().map(Arc::as_ptr);
        if replaced || next.is_some_and(|next| Instant::now() < next) {
            return Ok(now);
        }
        let issued = match self.reviews.signing_keys().await {
            Ok(Some(keys)) => Issued::Signed(Keys::parse(&keys)),
            Ok(None) => Issued::Opaque,
            Err(Away) => {
                *next = Some(Instant::now() + RETRY_INTERVAL);
                // A key that cannot be looked up now may be a good one.
                return if now.is_some() { Err(Rejection::Unavailable) } else { Ok(None) };
            }
        };
        *next = Some(Instant::now() + FETCH_INTERVAL);
        let issued = Arc::new(issued);
        self.current.store(Some(issued.clone()));
        Ok(Some(issued))
    }
}
