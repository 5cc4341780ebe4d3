//! Kubelet's calls for volumes, as many at the same time as it likes. Few ask the API server and make files: a node full
//! of Pods that start at once must not become a burst, and one namespace's keep no other's waiting. Some wait, for
//! each holds its request, and the others are to come again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

const ALL: usize = 16;
/// Of one namespace.
const EACH: usize = 4;
/// Of one namespace, with those that wait.
const CALLS: usize = 96;

pub struct Turns {
    all: Semaphore,
    of: Mutex<HashMap<String, Weak<Of>>>,
}

/// Of a namespace.
struct Of {
    calls: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// From its beginning to its end.
pub struct Call {
    of: Arc<Of>,
    _one: OwnedSemaphorePermit,
}

/// Ends when it is dropped.
pub struct Turn<'a> {
    _of: OwnedSemaphorePermit,
    _all: SemaphorePermit<'a>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { all: Semaphore::new(ALL), of: Mutex::default() }
    }
}

impl Turns {
    /// None if its namespace has too many.
    pub fn call(&self, namespace: &str) -> Option<Call> {
        let of = self.of(namespace);
        let one = of.calls.clone().try_acquire_owned().ok()?;
        Some(Call { of, _one: one })
    }

    /// First come, first served within a namespace. None when the driver stops.
    pub async fn next(&self, call: &Call) -> Option<Turn<'_>> {
        let of = call.of.turns.clone().acquire_owned().await.ok()?;
        Some(Turn { _of: of, _all: self.all.acquire().await.ok()? })
    }

    fn of(&self, namespace: &str) -> Arc<Of> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = of.get(namespace).and_then(Weak::upgrade) {
            return known;
        }
        of.retain(|_, known| known.strong_count() > 0);
        let semaphore = |count| Arc::new(Semaphore::new(count));
        let new = Arc::new(Of { calls: semaphore(CALLS), turns: semaphore(EACH) });
        of.insert(namespace.to_owned(), Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_namespace_has_a_few_turns_and_others_do_not_wait_for_it() {
        let turns = Turns::default();
        let mut calls: Vec<_> = std::iter::from_fn(|| turns.call("one")).take(1000).collect();
        assert_eq!(calls.len(), CALLS);
        let now = |call| turns.next(call).now_or_never().flatten();
        let mut one: Vec<_> = calls.iter().map_while(now).collect();
        assert_eq!(one.len(), EACH);
        let others: Vec<_> = ["two", "three", "four"].iter().filter_map(|name| turns.call(name)).collect();
        assert_eq!(others.iter().filter_map(now).count(), 3);
        one.pop();
        assert!(now(&calls[EACH]).is_some());
        drop(one);
        calls.pop();
        assert!(turns.call("one").is_some());
        drop((calls, others));
        drop(turns.call("five"));
        assert_eq!(turns.of.lock().unwrap().len(), 1, "who has no call is remembered");
    }
}
