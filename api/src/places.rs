//! Places for what may wait long: many for all, a few for each namespace. Targets that never answer delay those of
//! their own namespace only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of one namespace, at a time, where targets are waited for.
pub const OF_ONE_NAMESPACE: usize = 8;

pub struct Places {
    all: Arc<Semaphore>,
    of_one: usize,
    namespaces: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Given back when it is dropped.
pub struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Places {
    /// `all` of them, `of_one` for each namespace: at least one.
    pub fn new(all: usize, of_one: usize) -> Places {
        Places {
            all: Arc::new(Semaphore::new(all.max(1))),
            of_one: of_one.max(1),
            namespaces: Mutex::default(),
        }
    }

    /// Of the namespace first: who waits there takes nothing from others. Never none, as nobody closes them.
    pub async fn take(&self, namespace: &str) -> Option<Place> {
        let own = self.of(namespace).acquire_owned().await.ok()?;
        Some(Place { _own: own, _of_all: self.all.clone().acquire_owned().await.ok()? })
    }

    fn of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody has a place there or waits for one.
        namespaces.retain(|_, own| Arc::strong_count(own) > 1);
        let new = || Arc::new(Semaphore::new(self.of_one));
        namespaces.entry(namespace.to_owned()).or_insert_with(new).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn who_takes_all_places_of_a_namespace_delays_only_that_namespace() {
        let places = Places::new(64, OF_ONE_NAMESPACE);
        let mut taken = Vec::new();
        for _ in 0..OF_ONE_NAMESPACE {
            taken.push(places.take("tarpits").await.unwrap());
        }
        let soon = Duration::from_millis(50);
        assert!(timeout(soon, places.take("tarpits")).await.is_err());
        assert!(timeout(soon, places.take("other")).await.unwrap().is_some());
        taken.pop();
        assert!(timeout(soon, places.take("tarpits")).await.unwrap().is_some());
        drop(taken);
        drop(places.take("other").await);
        assert_eq!(places.namespaces.lock().unwrap().len(), 1, "what nobody uses is forgotten");
    }
}
