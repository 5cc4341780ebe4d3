//! Kubelet's calls for volumes, as many at the same time as it likes. Few ask the API server and make files: a node full
//! of Pods that start at once must not become a burst, and one namespace's keep no other's waiting. Some wait, for
//! each holds its request, and the others are to come again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

const ALL: usize = 8;
/// Of one namespace.
const EACH: usize = 3;
/// With those that wait; fewer than `socket` has connections. A namespace may have as many as it leaves others.
const CALLS: usize = 192;
/// It may have in any case.
const FLOOR: usize = 4;

pub struct Turns {
    all: Semaphore,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    all: usize,
    of: HashMap<String, Of>,
}

/// Of a namespace.
struct Of {
    calls: usize,
    turns: Arc<Semaphore>,
}

/// From its beginning to its end.
pub struct Call<'a> {
    turns: &'a Turns,
    namespace: &'a str,
    of: Arc<Semaphore>,
}

/// Ends when it is dropped.
pub struct Turn<'a> {
    _of: OwnedSemaphorePermit,
    _all: SemaphorePermit<'a>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { all: Semaphore::new(ALL), calls: Mutex::default() }
    }
}

impl Turns {
    /// None if its namespace has too many. One for a volume that is known is never refused: a running Pod waits for it, and
    /// it has its room already.
    pub fn call<'a>(&'a self, namespace: &'a str, is_known: bool) -> Option<Call<'a>> {
        let mut calls = self.calls();
        let of = calls.of.get(namespace).map_or(0, |of| of.calls);
        if !is_known && of >= FLOOR.max(CALLS.saturating_sub(calls.all)) {
            return None;
        }
        calls.all += 1;
        let of = calls
            .of
            .entry(namespace.to_owned())
            .or_insert_with(|| Of { calls: 0, turns: Arc::new(Semaphore::new(EACH)) });
        of.calls += 1;
        Some(Call { turns: self, namespace, of: of.turns.clone() })
    }

    /// First come, first served within a namespace. None when the driver stops.
    pub async fn next(&self, call: &Call<'_>) -> Option<Turn<'_>> {
        let of = call.of.clone().acquire_owned().await.ok()?;
        Some(Turn { _of: of, _all: self.all.acquire().await.ok()? })
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut calls = self.turns.calls();
        calls.all -= 1;
        if let Some(of) = calls.of.get_mut(self.namespace) {
            of.calls -= 1;
            if of.calls == 0 {
                calls.of.remove(self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn calls<'a>(turns: &'a Turns, namespace: &'a str) -> Vec<Call<'a>> {
        std::iter::from_fn(|| turns.call(namespace, false)).take(1000).collect()
    }

    #[test]
    fn a_namespace_has_a_few_turns_and_others_do_not_wait_for_it() {
        let turns = Turns::default();
        let one = calls(&turns, "one");
        let now = |call| turns.next(call).now_or_never().flatten();
        let mut has: Vec<_> = one.iter().map_while(now).collect();
        assert_eq!(has.len(), EACH);
        let others: Vec<_> =
            ["two", "three", "four"].iter().filter_map(|name| turns.call(name, false)).collect();
        assert_eq!(others.iter().filter_map(now).count(), 3);
        has.pop();
        assert!(now(&one[EACH]).is_some());
    }

    #[test]
    fn a_namespace_leaves_the_next_as_many_calls_as_it_has_and_running_pods_are_not_turned_away() {
        let turns = Turns::default();
        let all: Vec<_> = ["one", "two", "three"].map(|name| calls(&turns, name)).into();
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [96, 48, 24]);
        assert!(turns.call("one", true).is_some());
        assert!(turns.call("late", false).is_some());
        drop(all);
        let calls = turns.calls();
        assert_eq!((calls.all, calls.of.len()), (0, 0));
    }
}
