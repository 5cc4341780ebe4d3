//! What was so within the last minute, and is not asked again meanwhile.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const REMEMBERED: Duration = Duration::from_secs(60);

pub struct Lately<K>(Mutex<HashMap<K, Instant>>);

impl<K> Default for Lately<K> {
    fn default() -> Lately<K> {
        Lately(Mutex::default())
    }
}

impl<K: Hash + Eq> Lately<K> {
    pub fn add(&self, key: K) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, since| since.elapsed() < REMEMBERED);
        known.insert(key, Instant::now());
    }

    pub fn is_one<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).is_some_and(|since| since.elapsed() < REMEMBERED)
    }
}
