//! The issuer's public keys, fetched when a token names a key that is not known, at most every 10 s. `authenticate` checks with them;
//! without them (API server away since the start) no unknown token passes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::Rejection;
use super::jwt::{self, Checked, Keys};
use crate::answers::Away;
use crate::cluster::Reviews;

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

    /// Checks form, issuer, audience, times and signature; asks for newer keys once if the token's key is unknown.
    pub async fn check(&self, token: &str, audience: &str, grace: Duration) -> Result<Checked, Rejection> {
        let mut known = self.current.load_full();
        for _ in 0..2 {
            let keys = match known.as_deref() {
                Some(Issued::Opaque) => return Ok(Checked::Opaque),
                Some(Issued::Signed(keys)) => Some(keys),
                None => None,
            };
            match jwt::check(token, keys, audience, SystemTime::now(), grace) {
                Ok(checked) => return Ok(checked),
                Err(jwt::Refusal::UnknownKey) => known = self.fetch(known).await?,
                Err(refusal) => return Err(Rejection::Invalid(refusal.words())),
            }
        }
        Err(Rejection::Invalid(jwt::Refusal::UnknownKey.words()))
    }

    async fn fetch(&self, seen: Option<Arc<Issued>>) -> Result<Option<Arc<Issued>>, Rejection> {
        let mut next = self.next_fetch.lock().await;
        let now = self.current.load_full();
        let replaced = now.as_ref().map(Arc::as_ptr) != seen.as_ref().map(Arc::as_ptr);
        if replaced {
            return Ok(now);
        }
        if next.is_some_and(|next| Instant::now() < next) {
            return if now.is_some() { Ok(now) } else { Err(Rejection::Unavailable) };
        }
        let (answer, wait) = match self.reviews.signing_keys().await {
            Ok(keys) => (Ok(keys), FETCH_INTERVAL),
            Err(Away) => (Err(Rejection::Unavailable), RETRY_INTERVAL),
        };
        *next = Some(Instant::now() + wait);
        let issued = match answer? {
            Some(keys) => Issued::Signed(Keys::parse(&keys)),
            None => Issued::Opaque,
        };
        let issued = Arc::new(issued);
        self.current.store(Some(issued.clone()));
        Ok(Some(issued))
    }
}
