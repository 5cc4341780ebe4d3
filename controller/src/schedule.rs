//! When an object is looked at again if nothing changes. Pure but for the count of failures per object.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// Someone else wrote at the same time: their version arrives within milliseconds.
const AFTER_CONFLICT: Duration = Duration::from_millis(200);
/// The API server refused or is away.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// The gateway did not answer: it is most likely starting.
const AFTER_SILENCE: Duration = Duration::from_secs(1);
/// The target is down or refuses: a little patience, then the usual period.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How an object was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing to do until something changes; looked at once per period.
    Settled,
    /// Something outside of the cluster's objects is wrong; no watch will tell when it is right.
    Failing,
    /// The gateway did not answer.
    Unanswered,
}

pub struct Schedule {
    period: Duration,
    failures: Mutex<HashMap<String, Failures>>,
}

struct Failures {
    /// Of what is outside of the cluster's objects, and of walks that the API server refused: a target that is
    /// away for long makes no walk wait that only stumbled.
    outside: u32,
    errors: u32,
    conflicts: u32,
    last: Instant,
}

impl Failures {
    /// The walk came to its end: the API server refused nothing.
    fn of_outside(&mut self) -> &mut u32 {
        (self.errors, self.conflicts) = (0, 0);
        &mut self.outside
    }
}

type Count = fn(&mut Failures) -> &mut u32;

/// An object that fails is looked at each period: after so many of them without a look it is gone.
const GONE: u32 = 10;
/// From here on those that are gone are looked for: others' cost no more than they take.
const MANY: usize = 1024;

impl Schedule {
    pub fn new(period: Duration) -> Schedule {
        Schedule { period, failures: Mutex::default() }
    }

    pub fn next(&self, key: &str, left: Left) -> Duration {
        match left {
            Left::Settled => {
                self.forget(key);
                jittered(self.period)
            }
            Left::Failing => self.again(key, AFTER_FAILURE, Failures::of_outside),
            Left::Unanswered => self.again(key, AFTER_SILENCE, Failures::of_outside),
        }
    }

    /// A conflict is no failure, but a watch that is behind for long makes one of each walk.
    pub fn after(&self, key: &str, error: &Error) -> Duration {
        match error.is_conflict() {
            true => self.again(key, AFTER_CONFLICT, |failures| &mut failures.conflicts),
            false => self.again(key, AFTER_ERROR, |failures| &mut failures.errors),
        }
    }

    /// The object is gone, or it or what it names has changed: earlier failures say nothing of it.
    pub fn forget(&self, key: &str) {
        self.failures().remove(key);
    }

    fn again(&self, key: &str, first: Duration, count: Count) -> Duration {
        let mut failures = self.failures();
        let now = Instant::now();
        if failures.len() >= MANY && failures.len() == failures.capacity() {
            failures.retain(|_, failed| now.duration_since(failed.last) < self.period * GONE);
        }
        let new = || Failures { outside: 0, errors: 0, conflicts: 0, last: now };
        let failed = failures.entry(key.to_owned()).or_insert_with(new);
        failed.last = now;
        let count = count(failed);
        let delay = first.saturating_mul(1 << (*count).min(16)).min(self.period);
        *count = count.saturating_add(1);
        jittered(delay)
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<String, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// ± 10 %, so that Connectors created together are not checked together for ever.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.9 + rand::random::<f64>() * 0.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(after: Duration, low: f64, high: f64) -> bool {
        (low..=high).contains(&after.as_secs_f64())
    }

    #[test]
    fn failures_are_tried_again_ever_later_but_never_later_than_the_period() {
        let schedule = Schedule::new(Duration::from_secs(60));
        for expected in [5.0, 10.0, 20.0, 40.0, 60.0, 60.0] {
            let after = schedule.next("a", Left::Failing);
            assert!(between(after, expected * 0.9, expected * 1.1), "{after:?} for {expected}");
        }
        assert!(between(schedule.next("b", Left::Unanswered), 0.9, 1.1), "objects are counted apart");
    }

    fn refused(reason: &str) -> Error {
        let status = kube::core::Status::failure("refused", reason);
        Error::Api { action: String::new(), source: kube::Error::Api(status.boxed()) }
    }

    /// Its Secret is rotated because the target fails for so long: one conflict must not cost a minute.
    #[test]
    fn a_conflict_waits_for_no_earlier_failure_and_an_error_for_those_of_its_kind_alone() {
        let schedule = Schedule::new(Duration::from_secs(60));
        for _ in 0..9 {
            schedule.next("a", Left::Failing);
        }
        for expected in [0.2, 0.4, 0.8] {
            let after = schedule.after("a", &refused("Conflict"));
            assert!(between(after, expected * 0.9, expected * 1.1), "{after:?} for {expected}");
        }
        assert!(between(schedule.after("a", &refused("Forbidden")), 0.9, 1.1));
        assert!(between(schedule.after("a", &refused("Forbidden")), 1.8, 2.2));
        assert!(between(schedule.next("a", Left::Failing), 54.0, 66.0), "still counted");
        assert!(between(schedule.after("a", &refused("Conflict")), 0.18, 0.22), "a walk came to its end");
        schedule.forget("a");
        assert!(between(schedule.next("a", Left::Failing), 4.5, 5.5));
    }

    /// Whoever creates and deletes under ever new names leaves nothing behind.
    #[test]
    fn objects_that_are_gone_are_forgotten() {
        let schedule = Schedule::new(Duration::ZERO);
        for number in 0..20 * MANY {
            schedule.next(&number.to_string(), Left::Failing);
        }
        assert!(schedule.failures().len() <= 4 * MANY, "{}", schedule.failures().len());
    }

    #[test]
    fn success_forgets_earlier_failures() {
        let schedule = Schedule::new(Duration::from_secs(60));
        for _ in 0..5 {
            schedule.next("a", Left::Failing);
        }
        assert!(between(schedule.next("a", Left::Settled), 54.0, 66.0));
        assert!(between(schedule.next("a", Left::Failing), 4.5, 5.5));
    }
}
