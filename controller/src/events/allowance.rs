//! How many Events a namespace may cause: each is an object in etcd for an hour, and a tenant decides how often a
//! Connector is made, breaks and is made anew. Pure.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many at once: as kubelet and scheduler allow each object they tell of.
const AT_ONCE: u32 = 25;
/// And then one each.
const EACH: Duration = Duration::from_secs(1);
/// From here on namespaces that have told nothing lately are looked for: others' cost no more than they take.
const MANY: usize = 1024;

/// By namespace: when it has its whole allowance again. Until then at most `AT_ONCE` times `EACH` is left.
#[derive(Default)]
pub struct Allowance(Mutex<HashMap<String, Instant>>);

impl Allowance {
    pub fn take(&self, namespace: &str, now: Instant) -> bool {
        let mut whole_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if whole_at.len() >= MANY && whole_at.len() == whole_at.capacity() {
            whole_at.retain(|_, whole| *whole > now);
        }
        let next = whole_at.get(namespace).map_or(now, |whole| now.max(*whole)) + EACH;
        if next > now + EACH * AT_ONCE {
            return false;
        }
        whole_at.insert(namespace.to_owned(), next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(allowance: &Allowance, namespace: &str, now: Instant) -> usize {
        (0..1000).filter(|_| allowance.take(namespace, now)).count()
    }

    #[test]
    fn a_namespace_has_its_allowance_at_once_then_one_a_second_and_takes_none_of_anothers() {
        let (allowance, now) = (Allowance::default(), Instant::now());
        for (namespace, second, expected) in
            [("a", 0, 25), ("b", 0, 25), ("a", 1, 1), ("a", 4, 3), ("b", 100, 25), ("a", 100, 25)]
        {
            let found = taken(&allowance, namespace, now + Duration::from_secs(second));
            assert_eq!(found, expected, "{namespace} after {second} s");
        }
    }

    #[test]
    fn namespaces_that_have_told_nothing_lately_are_forgotten() {
        let (allowance, begun) = (Allowance::default(), Instant::now());
        for number in 0..20 * MANY {
            allowance.take(&number.to_string(), begun + EACH * number as u32);
        }
        let known = allowance.0.lock().unwrap().len();
        assert!(known <= 4 * MANY, "{known}");
    }
}
