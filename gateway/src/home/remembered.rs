//! Answers of the home API server, remembered: fresh ones are used at once, older ones asked for again, and
//! all are kept through an outage for a bounded time. One question per key is in flight, whoever asks. Used
//! by `authenticate`, `authorize`, `credential`.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

use crate::metrics::caches::Lookups;

/// The API server did not answer in time, or not with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server did not answer")]
pub struct Away;

/// A definite answer and how long it may be used without asking again; zero: not at all.
pub type Fresh<V> = (V, Duration);

/// During an outage the question is repeated this often, in the background where the key is in use.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Answer<V> {
    value: V,
    /// When the API server gave it.
    given: Instant,
    /// When it was put into `fresh`, and for how long.
    stored: Instant,
    life: Duration,
    refreshing: Arc<AtomicBool>,
}

/// Cheap to clone; clones share their content.
#[derive(Clone)]
pub struct Answers<K, V> {
    fresh: Cache<K, Answer<V>>,
    kept: Cache<K, Answer<V>>,
    outage: Duration,
    lookups: Lookups,
}

struct Life;

impl<K, V> Expiry<K, Answer<V>> for Life {
    fn expire_after_create(&self, _key: &K, answer: &Answer<V>, _now: Instant) -> Option<Duration> {
        Some(answer.life)
    }

    fn expire_after_update(
        &self,
        _key: &K,
        answer: &Answer<V>,
        _now: Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some(answer.life)
    }
}

impl<K, V> Answers<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// `outage`: how long after it was given an answer still counts while the API server is away.
    pub fn new(entries: u64, outage: Duration, lookups: Lookups) -> Self {
        Answers::weighed(entries, outage, lookups, |_| 1)
    }

    /// Where one answer may be a thousand times another's size: `weigh` says what counts against `capacity`.
    pub fn weighed(capacity: u64, outage: Duration, lookups: Lookups, weigh: fn(&V) -> u32) -> Self {
        let builder = || {
            Cache::builder()
                .max_capacity(capacity)
                .weigher(move |_: &K, answer: &Answer<V>| weigh(&answer.value))
        };
        Answers {
            fresh: builder().expire_after(Life).build(),
            kept: builder().time_to_live(outage).build(),
            outage,
            lookups,
        }
    }

    /// The answer if it is fresh. In the last fifth of its life it is asked for again in the background, so
    /// that a key in constant use never waits.
    pub async fn fresh<F, Q>(&self, key: &K, question: F) -> Option<V>
    where
        F: FnOnce() -> Q,
        Q: Future<Output = Result<Fresh<V>, Away>> + Send + 'static,
    {
        let answer = self.fresh.get(key).await;
        self.lookups.count(answer.is_some());
        let answer = answer?;
        let due = answer.stored.elapsed() * 5 >= answer.life * 4;
        if due && !answer.refreshing.swap(true, Ordering::Relaxed) {
            let (this, key, question) = (self.clone(), key.clone(), question());
            tokio::spawn(async move { this.refresh(key, question).await });
        }
        Some(answer.value)
    }

    /// Asks, together with everyone who asks the same now. Falls back to what was answered before if the API
    /// server is away.
    pub async fn ask<Q>(&self, key: &K, question: Q) -> Result<V, Away>
    where
        Q: Future<Output = Result<Fresh<V>, Away>>,
    {
        let asked = self.fresh.try_get_with_by_ref(key, async {
            match question.await {
                Ok(given) => Ok(self.keep(key, given).await),
                Err(Away) => self.prolonged(key).await.ok_or(Away),
            }
        });
        // Boxed: most that hold a place for this find a fresh answer instead.
        Box::pin(asked).await.map(|answer| answer.value).map_err(|away: Arc<Away>| *away)
    }

    /// Replaces what is known.
    pub async fn put(&self, key: &K, given: Fresh<V>) {
        let answer = self.keep(key, given).await;
        self.fresh.insert(key.clone(), answer).await;
    }

    async fn refresh(&self, key: K, question: impl Future<Output = Result<Fresh<V>, Away>>) {
        match question.await {
            Ok(given) => self.put(&key, given).await,
            Err(Away) => {
                if let Some(answer) = self.prolonged(&key).await {
                    self.fresh.insert(key, answer).await;
                }
            }
        }
    }

    async fn keep(&self, key: &K, (value, life): Fresh<V>) -> Answer<V> {
        let now = Instant::now();
        let answer = Answer { value, given: now, stored: now, life, refreshing: Arc::default() };
        self.kept.insert(key.clone(), answer.clone()).await;
        answer
    }

    /// An earlier answer, made fresh for a moment so that an outage delays one request per key and moment,
    /// not each.
    async fn prolonged(&self, key: &K) -> Option<Answer<V>> {
        let kept = self.kept.get(key).await?;
        let left = self.outage.checked_sub(kept.given.elapsed())?;
        Some(Answer { stored: Instant::now(), life: left.min(RETRY), refreshing: Arc::default(), ..kept })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::metrics::Metrics;

    const LONG: Duration = Duration::from_secs(600);

    fn lookups() -> Lookups {
        Metrics::new().unwrap().caches.tokens
    }

    #[tokio::test]
    async fn many_who_ask_at_once_ask_once() {
        let answers: Answers<u8, u8> = Answers::new(10, LONG, lookups());
        let count = AtomicU32::new(0);
        let ask = || {
            answers.ask(&1, async {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok((7, LONG))
            })
        };
        let all = futures::future::join_all((0..50).map(|_| ask())).await;
        assert!(all.iter().all(|answer| *answer == Ok(7)));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_outage_uses_the_last_answer_and_never_invents_one() {
        let answers: Answers<u8, bool> = Answers::new(10, LONG, lookups());
        for (key, definite) in [(1, true), (2, false)] {
            answers.ask(&key, async { Ok((definite, Duration::ZERO)) }).await.unwrap();
            assert_eq!(answers.fresh(&key, || async { Err(Away) }).await, None, "zero life is never fresh");
            assert_eq!(answers.ask(&key, async { Err(Away) }).await, Ok(definite));
        }
        assert_eq!(answers.ask(&3, async { Err(Away) }).await, Err(Away));
    }

    #[tokio::test]
    async fn an_answer_older_than_the_outage_limit_counts_no_more() {
        let answers: Answers<u8, bool> = Answers::new(10, Duration::from_millis(50), lookups());
        answers.ask(&1, async { Ok((true, Duration::ZERO)) }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(answers.ask(&1, async { Err(Away) }).await, Err(Away));
    }

    #[tokio::test]
    async fn a_key_in_use_is_refreshed_in_the_background_and_a_definite_no_replaces_the_yes() {
        let answers: Answers<u8, bool> = Answers::new(10, LONG, lookups());
        answers.ask(&1, async { Ok((true, Duration::from_millis(400))) }).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while answers.fresh(&1, || async { Ok((false, LONG)) }).await != Some(false) {
            assert!(Instant::now() < deadline, "the background refresh never came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(answers.ask(&1, async { Err(Away) }).await, Ok(false));
    }
}
