//! Kubelet's calls for volumes, as many at the same time as it likes. Few ask the API server and make files: a node full
//! of Pods that start at once must not become a burst, and one namespace's keep no other's waiting. Some wait, for
//! each holds its request, and the others are to come again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

const ALL: usize = 10;
/// Of one namespace, for new volumes and for those that are there.
const EACH: [usize; 2] = [3, 2];
/// With those that wait: together fewer than `socket` has connections. A namespace may have as many as it leaves others.
/// Running Pods have their own, and a token has minutes left when it is renewed: kubelet calls again within two.
const CALLS: [usize; 2] = [192, 48];
/// It may have in any case, of each.
const FLOOR: usize = 2;

pub struct Turns {
    all: Semaphore,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    all: [usize; 2],
    of: HashMap<String, Of>,
}

/// Of a namespace.
struct Of {
    calls: [usize; 2],
    turns: [Arc<Semaphore>; 2],
}

/// From its beginning to its end.
pub struct Call<'a> {
    turns: &'a Turns,
    namespace: &'a str,
    kind: usize,
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
    /// None if its namespace has too many of them.
    pub fn call<'a>(&'a self, namespace: &'a str, is_known: bool) -> Option<Call<'a>> {
        let (mut calls, kind) = (self.calls(), usize::from(is_known));
        let of = calls.of.get(namespace).map_or(0, |of| of.calls[kind]);
        if of >= FLOOR.max(CALLS[kind].saturating_sub(calls.all[kind])) {
            return None;
        }
        calls.all[kind] += 1;
        let of = calls
            .of
            .entry(namespace.to_owned())
            .or_insert_with(|| Of { calls: [0; 2], turns: EACH.map(|each| Arc::new(Semaphore::new(each))) });
        of.calls[kind] += 1;
        Some(Call { turns: self, namespace, kind, of: of.turns[kind].clone() })
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
        calls.all[self.kind] -= 1;
        if let Some(of) = calls.of.get_mut(self.namespace) {
            of.calls[self.kind] -= 1;
            if of.calls == [0; 2] {
                calls.of.remove(self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn calls<'a>(turns: &'a Turns, namespace: &'a str, is_known: bool) -> Vec<Call<'a>> {
        std::iter::from_fn(|| turns.call(namespace, is_known)).take(1000).collect()
    }

    #[test]
    fn a_namespace_has_a_few_turns_and_others_do_not_wait_for_it() {
        let turns = Turns::default();
        let one = calls(&turns, "one", false);
        let now = |call| turns.next(call).now_or_never().flatten();
        let mut has: Vec<_> = one.iter().map_while(now).collect();
        assert_eq!(has.len(), EACH[0]);
        let others: Vec<_> =
            ["two", "three", "four"].iter().filter_map(|name| turns.call(name, false)).collect();
        assert_eq!(others.iter().filter_map(now).count(), 3);
        let renewal = turns.call("one", true);
        assert!(renewal.as_ref().and_then(now).is_some(), "a renewal waits for new volumes");
        has.pop();
        assert!(now(&one[EACH[0]]).is_some());
    }

    #[test]
    fn a_namespace_leaves_the_next_as_many_calls_as_it_has_and_new_volumes_take_none_of_running_pods() {
        let turns = Turns::default();
        for (is_known, expected) in [(false, [96, 48, 24]), (true, [24, 12, 6])] {
            let all: Vec<_> = ["one", "two", "three"].map(|name| calls(&turns, name, is_known)).into();
            assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), expected);
            assert!(turns.call("one", !is_known).is_some());
            assert!(turns.call("late", is_known).is_some());
        }
        let calls = turns.calls();
        assert_eq!((calls.all, calls.of.len()), ([0; 2], 0));
    }
}
