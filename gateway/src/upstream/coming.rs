//! Connections to an address that are being made. Whoever needs a stream waits for those that will have one for it: a
//! burst opens as many as its streams need, not one for each request. Before `connect`, after a look into the `pool`.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

#[derive(Default)]
pub struct Coming {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    made: usize,
    waiting: usize,
    /// In all, of those that are being made or were.
    begun: usize,
    /// Grows whenever all that wait look again: they are none of `waiting` any more.
    round: usize,
    failures: usize,
}

/// Leave to make one. Those who wait for it look again when it is dropped: all of them if it came or failed, else
/// one, in its place.
pub struct Making {
    coming: Arc<Coming>,
    outcome: OnceLock<Outcome>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Came,
    Failed,
}

/// Counts for as long as it is had.
struct Waiting<'a> {
    coming: &'a Coming,
    round: usize,
    begun: usize,
    failures: usize,
}

/// One that takes longer may be one that never comes: whoever has waited so long makes another, if nobody has since.
const PATIENCE: Duration = Duration::from_millis(1500);

impl Coming {
    /// What `look` finds, now or when a connection has come; or leave to make one. `each`: the streams that one will have,
    /// one of them for who makes it. Whoever has waited for one that failed, or in vain, makes one without waiting again.
    pub async fn found_or_made<T>(
        self: &Arc<Coming>,
        look: impl Fn() -> Option<T>,
        each: impl Fn() -> usize,
    ) -> Result<T, Making> {
        let mut in_vain = false;
        loop {
            let mut ended = pin!(self.ended.notified());
            // From here on nothing that ends is missed.
            ended.as_mut().enable();
            if let Some(found) = look() {
                self.call_next();
                return Ok(found);
            }
            let waiting = match self.waits(each(), in_vain) {
                Some(waiting) => waiting,
                None => return Err(Making { coming: self.clone(), outcome: OnceLock::new() }),
            };
            let late = timeout(PATIENCE, ended).await.is_err();
            in_vain = waiting.was_in_vain(late);
        }
    }

    /// Whoever was called to make one and has found another leaves that to the next.
    fn call_next(&self) {
        let state = self.lock();
        if state.made == 0 && state.waiting > 0 {
            drop(state);
            self.ended.notify_one();
        }
    }

    /// None: this one makes a connection.
    fn waits(&self, each: usize, in_vain: bool) -> Option<Waiting<'_>> {
        let mut state = self.lock();
        if in_vain || state.waiting >= state.made * each.saturating_sub(1) {
            (state.made, state.begun) = (state.made + 1, state.begun + 1);
            return None;
        }
        state.waiting += 1;
        Some(Waiting { coming: self, round: state.round, begun: state.begun, failures: state.failures })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    fn was_in_vain(&self, late: bool) -> bool {
        let state = self.coming.lock();
        state.failures != self.failures || late && state.begun == self.begun
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.coming.lock();
        if state.round == self.round {
            state.waiting -= 1;
        }
    }
}

impl Making {
    /// It is known what may be sent over it.
    pub fn came(&self) {
        let _ = self.outcome.set(Outcome::Came);
    }

    pub fn failed(&self) {
        let _ = self.outcome.set(Outcome::Failed);
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let outcome = self.outcome.get();
        let mut state = self.coming.lock();
        state.made -= 1;
        if outcome == Some(&Outcome::Failed) {
            state.failures += 1;
        }
        if outcome.is_some() {
            (state.waiting, state.round) = (0, state.round + 1);
        }
        drop(state);
        match outcome {
            Some(_) => self.coming.ended.notify_waiters(),
            None => self.coming.ended.notify_one(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;

    type Found = BoxFuture<'static, Result<usize, Making>>;

    /// An address at which one connection carries four streams.
    #[derive(Default)]
    struct Place {
        coming: Arc<Coming>,
        streams: Arc<AtomicUsize>,
    }

    impl Place {
        fn asks(&self) -> Found {
            let (coming, streams) = (self.coming.clone(), self.streams.clone());
            let look = move || {
                streams.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).ok()
            };
            async move { coming.found_or_made(look, || 4).await }.boxed()
        }

        fn makes(&self) -> Making {
            self.asks().now_or_never().expect("it waits").expect_err("there is one")
        }

        fn waits(&self) -> Found {
            let mut found = self.asks();
            assert!((&mut found).now_or_never().is_none(), "it does not wait");
            found
        }

        fn comes(&self, making: Making, streams: usize) {
            self.streams.store(streams, Ordering::SeqCst);
            making.came();
        }
    }

    fn makes_now(found: &mut Found) -> Making {
        found.now_or_never().expect("it waits").expect_err("there is one")
    }

    fn finds_now(found: &mut Found) -> bool {
        found.now_or_never().is_some_and(|found| found.is_ok())
    }

    #[tokio::test]
    async fn a_burst_makes_as_many_connections_as_its_streams_need() {
        let place = Place::default();
        let first = place.makes();
        let mut waiting: Vec<_> = (0..3).map(|_| place.waits()).collect();
        let second = place.makes();
        waiting.extend((0..3).map(|_| place.waits()));
        let _third = place.makes();
        place.comes(first, 3);
        assert_eq!(waiting.iter_mut().map(finds_now).filter(|found| *found).count(), 3);
        place.comes(second, 3);
        assert!(waiting[3..].iter_mut().all(finds_now));
    }

    #[tokio::test]
    async fn with_fewer_streams_than_were_thought_the_others_make_the_next_at_once() {
        let place = Place::default();
        let first = place.makes();
        let (mut one, mut next, mut last) = (place.waits(), place.waits(), place.waits());
        place.comes(first, 1);
        assert!(finds_now(&mut one));
        let _second = makes_now(&mut next);
        assert!((&mut last).now_or_never().is_none(), "the second has a stream for it");
    }

    #[tokio::test]
    async fn whoever_waited_for_one_that_failed_makes_one_without_waiting_again() {
        let place = Place::default();
        let first = place.makes();
        let (mut one, mut other) = (place.waits(), place.waits());
        first.failed();
        drop(first);
        let _theirs = (makes_now(&mut one), makes_now(&mut other));
        let _waits = place.waits();
    }

    #[tokio::test]
    async fn whoever_leaves_lets_one_that_waits_make_it() {
        let place = Place::default();
        let first = place.makes();
        let (gone, mut next, mut last) = (place.waits(), place.waits(), place.waits());
        drop(gone);
        drop(first);
        let second = makes_now(&mut next);
        assert!((&mut last).now_or_never().is_none());
        place.comes(second, 1);
        assert!(finds_now(&mut last));
    }

    #[tokio::test]
    async fn whoever_is_called_and_leaves_calls_the_next() {
        let place = Place::default();
        let first = place.makes();
        let (called, mut next) = (place.waits(), place.waits());
        drop(first);
        drop(called);
        let _second = makes_now(&mut next);
    }

    #[tokio::test]
    async fn whoever_is_called_and_finds_a_stream_elsewhere_calls_the_next() {
        let place = Place::default();
        let first = place.makes();
        let (mut called, mut next) = (place.waits(), place.waits());
        drop(first);
        // Of a connection that was there before.
        place.streams.store(1, Ordering::SeqCst);
        assert!(finds_now(&mut called));
        let _second = makes_now(&mut next);
    }

    #[tokio::test(start_paused = true)]
    async fn while_one_hangs_another_is_made_and_then_waited_for() {
        let place = Place::default();
        let hangs = place.makes();
        let (mut one, mut other) = (place.waits(), place.waits());
        tokio::time::advance(PATIENCE - Duration::from_millis(1)).await;
        assert!((&mut one).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        tokio::time::advance(Duration::from_millis(2)).await;
        let second = makes_now(&mut one);
        assert!((&mut other).now_or_never().is_none(), "each makes its own");
        place.comes(second, 1);
        assert!(finds_now(&mut other));
        drop(hangs);
    }

    #[tokio::test]
    async fn of_those_who_wait_nobody_is_forgotten_or_counted_twice() {
        let place = Place::default();
        let first = place.makes();
        let mut waiting: Vec<_> = (0..3).map(|_| place.waits()).collect();
        place.comes(first, 0);
        // Who has not looked again yet does not count as one that waits for the second.
        let _second = makes_now(&mut waiting[0]);
        assert!(waiting[1..].iter_mut().all(|one| one.now_or_never().is_none()));
        let _last = place.waits();
        let _third = place.makes();
    }
}
