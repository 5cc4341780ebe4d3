//! What waits in the gateway: bodies and large heads for readers that have stopped, and requests for their answers,
//! with the connections to targets that are open for them; and what the connectors of each namespace may of it. Who
//! holds much gets smaller windows, then loses the streams that read on all the same, while the others have theirs. A
//! share is full when it is as large as the room that is left (dynamic thresholds, as switches share their buffers:
//! Choudhury and Hahne, 1998): one namespace alone may have half of all, and what it has leaves room for the next.
//! Bodies and requests have pots of their own: thousands of watches that wait shrink no window and end no stream.

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::NoRoom;
use prometheus::IntGauge;
use tokio::sync::watch;

/// What one stream may have on its way to a reader that has stopped, while there is room for it.
pub const STREAM_WINDOW: u32 = 256 << 10;
/// Of bodies in all, but for `LEAST` of each stream. Streams take more than is counted: fifteen thousand of them about
/// as much again.
const MOST: usize = 256 << 20;
/// Of requests in all.
const MOST_REQUESTS: usize = 192 << 20;
/// What a stream may hold where there is no room any more: others who use the connector get on, slowly.
const LEAST: u32 = 4 << 10;
/// A request that waits and is no larger has twice the room: where large heads have taken all, others who use the
/// connector get on. Eight kilobytes of head.
const SMALL: usize = 24 << 10;
/// What a share may be however little room others have left.
const FLOOR: usize = 2 << 20;

/// A peer that has been told of one window must acknowledge it before it is told of the next.
const AGAIN: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);

/// Of a gateway.
pub struct Budget {
    bodies: IntGauge,
    requests: IntGauge,
    shares: Mutex<Shares>,
    /// Of requests that are not admitted yet.
    nobodys: Arc<Share>,
}

#[derive(Default)]
struct Shares {
    of: HashMap<String, Weak<Share>>,
    /// Those that nobody has any more are looked for when there are so many.
    full: usize,
}

/// Of one namespace.
pub struct Share {
    bodies: Pot,
    requests: Pot,
    window: watch::Sender<u32>,
    /// Of bodies that may be sent again.
    pub kept: AtomicUsize,
}

/// What one namespace has of what all may have.
struct Pot {
    all: IntGauge,
    most: usize,
    held: AtomicUsize,
}

/// What one connection has told its peer of windows.
pub struct Windows {
    wanted: watch::Receiver<u32>,
    /// Since when the peer has not acknowledged what it was told before, and when to try again.
    owes: Option<(Instant, Instant)>,
}

impl Windows {
    /// Resolves when streams shall have another window. It is asked whenever the connection is looked at and wakes
    /// nobody: one on which nothing comes holds no more than it does.
    pub async fn another(&mut self) -> u32 {
        poll_fn(|_| if self.due() { Poll::Ready(()) } else { Poll::Pending }).await;
        *self.wanted.borrow_and_update()
    }

    fn due(&self) -> bool {
        match self.owes {
            Some((_, again)) => Instant::now() >= again,
            None => self.wanted.has_changed().unwrap_or(false),
        }
    }

    /// Whether the connection may go on. A peer that does not acknowledge may send as much as it was told
    /// before: for a while.
    pub fn told(&mut self, outcome: Result<(), h2::Error>) -> bool {
        let now = Instant::now();
        self.owes = match (outcome, self.owes) {
            (Ok(()), _) => None,
            (Err(_), Some((since, _))) => Some((since, now + AGAIN)),
            (Err(_), None) => Some((now, now + AGAIN)),
        };
        self.owes.is_none_or(|(since, _)| now - since < PATIENCE)
    }
}

impl Budget {
    /// The gauges count.
    pub fn new(bodies: IntGauge, requests: IntGauge) -> Budget {
        let nobodys = Arc::new(Share::new(&bodies, &requests));
        Budget { nobodys, bodies, requests, shares: Mutex::default() }
    }

    /// Of what those of this namespace have sent and nobody has let in yet. Not the one of its connectors, which
    /// those of other namespaces may fill.
    pub fn of_senders(&self, namespace: &str) -> Arc<Share> {
        self.of(&format!("{namespace}/"))
    }

    /// Of what goes through connectors of this namespace.
    pub fn of(&self, namespace: &str) -> Arc<Share> {
        let Shares { of, full } = &mut *self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = of.get(namespace).and_then(Weak::upgrade) {
            return known;
        }
        if of.len() >= *full {
            of.retain(|_, share| share.strong_count() > 0);
            *full = 2 * of.len() + 64;
        }
        let share = Arc::new(Share::new(&self.bodies, &self.requests));
        of.insert(namespace.to_owned(), Arc::downgrade(&share));
        share
    }

    pub fn nobodys(&self) -> Arc<Share> {
        self.nobodys.clone()
    }
}

impl Share {
    fn new(bodies: &IntGauge, requests: &IntGauge) -> Share {
        Share {
            bodies: Pot::new(bodies, MOST),
            requests: Pot::new(requests, MOST_REQUESTS),
            window: watch::Sender::new(STREAM_WINDOW),
            kept: AtomicUsize::new(0),
        }
    }

    /// For a connection, and the window to begin with.
    pub fn windows(&self) -> (Windows, u32) {
        let mut wanted = self.window.subscribe();
        let first = *wanted.borrow_and_update();
        (Windows { wanted, owes: None }, first)
    }

    /// Counts so much from the first time on that it is polled, and for as long as it is: whoever has not to wait is not
    /// counted. Resolves if there is no room.
    pub async fn bears(self: Arc<Share>, bytes: usize) -> NoRoom {
        let (held, room) = self.requests.change(0, bytes);
        // Given back when this is dropped.
        let _portion = Portion { share: self, bytes };
        let room = if bytes <= SMALL { 2 * room } else { room };
        if held <= room { pending().await } else { NoRoom }
    }

    /// For as long as it is had, of what requests may hold. What is opened for those that were let in has twice the room, as
    /// they have. None if there is no room.
    pub fn takes(self: &Arc<Share>, bytes: usize) -> Option<Portion> {
        let (held, room) = self.requests.change(0, bytes);
        let portion = Portion { share: self.clone(), bytes };
        (held <= 2 * room).then_some(portion)
    }

    /// How much of a body of HTTP/1.1 to read at once: its peer knows no windows.
    pub fn piece(&self, most: usize) -> usize {
        // Asked first, for it shares no lock.
        match self.bodies.held.load(Ordering::Relaxed) > FLOOR / 2 {
            true => most.min(*self.window.borrow() as usize),
            false => most,
        }
    }

    /// What bodies hold then, and what room there is.
    fn change(&self, from: usize, to: usize) -> (usize, usize) {
        let (held, room) = self.bodies.change(from, to);
        let now = *self.window.borrow();
        let next = next(held, room, now);
        if next != now {
            self.window.send_if_modified(|window| std::mem::replace(window, next) != next);
        }
        (held, room)
    }
}

impl Pot {
    fn new(all: &IntGauge, most: usize) -> Pot {
        Pot { all: all.clone(), most, held: AtomicUsize::new(0) }
    }

    /// What it holds then, and what room there is.
    fn change(&self, from: usize, to: usize) -> (usize, usize) {
        let (added, removed) = (to.saturating_sub(from), from.saturating_sub(to));
        self.held.fetch_add(added, Ordering::Relaxed);
        let held = self.held.fetch_sub(removed, Ordering::Relaxed) - removed;
        self.all.add(i64::try_from(added).unwrap_or(i64::MAX) - i64::try_from(removed).unwrap_or(i64::MAX));
        let room = self.most.saturating_sub(usize::try_from(self.all.get()).unwrap_or_default()).max(FLOOR);
        (held, room)
    }
}

/// Bytes of a request that waits, or of a connection for some, given back when it is dropped.
pub struct Portion {
    share: Arc<Share>,
    bytes: usize,
}

impl Portion {
    /// It takes less than was thought.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.share.requests.change(self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        self.share.requests.change(self.bytes, 0);
    }
}

/// Bytes held for one stream, given back when it is dropped.
pub struct Held {
    share: Arc<Share>,
    bytes: usize,
}

impl Held {
    pub fn new(share: Arc<Share>) -> Held {
        Held { share, bytes: 0 }
    }

    /// How much of what knows no windows to read at once.
    pub fn piece(&self, most: usize) -> usize {
        self.share.piece(most)
    }

    /// False if there is no room for more.
    pub fn set(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if before == bytes {
            return true;
        }
        let (held, room) = self.share.change(before, bytes);
        bytes < before || held <= room || bytes <= LEAST as usize
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Smaller at once; larger again when half of what made it smaller is gone. One namespace alone comes to the three
/// bounds with 51, 102 and 128 MiB.
fn next(held: usize, room: usize, now: u32) -> u32 {
    let at = |held: usize| match held {
        _ if held > room => LEAST,
        _ if held > room / 3 * 2 => 16 << 10,
        _ if held > room / 4 => 64 << 10,
        _ => STREAM_WINDOW,
    };
    at(held).min(now).max(at(held.saturating_mul(2)))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const MIB: usize = 1 << 20;
    const KIB: u32 = 1 << 10;

    fn budget() -> Budget {
        let gauge = |name| IntGauge::new(name, "bytes").unwrap();
        Budget::new(gauge("bodies"), gauge("requests"))
    }

    fn window(share: &Share) -> u32 {
        share.windows().1
    }

    #[test]
    fn windows_get_smaller_as_memory_fills_and_larger_when_half_of_it_is_free_again() {
        let budget = budget();
        let share = budget.of("one");
        let mut held = Held::new(share.clone());
        for (bytes, expected) in [
            (51 * MIB, 256 * KIB),
            (52 * MIB, 64 * KIB),
            (32 * MIB, 64 * KIB),
            (103 * MIB, 16 * KIB),
            (70 * MIB, 16 * KIB),
            (129 * MIB, 4 * KIB),
            (100 * MIB, 4 * KIB),
            (30 * MIB, 64 * KIB),
            (20 * MIB, 256 * KIB),
            (500 * MIB, 4 * KIB),
            (0, 256 * KIB),
        ] {
            held.set(bytes);
            assert_eq!(window(&share), expected, "{} MiB", bytes / MIB);
            assert_eq!(share.piece(16 << 10), (expected as usize).min(16 << 10));
        }
    }

    /// Each in turn takes as much as it is given.
    #[test]
    fn whoever_comes_first_leaves_room_for_whoever_comes_next() {
        let budget = budget();
        let mut all = Vec::new();
        for (name, most) in [("one", 128), ("two", 64), ("three", 32), ("four", 16)] {
            let share = budget.of(name);
            assert_eq!(window(&share), 256 * KIB, "{name} is told of others' trouble");
            let mut held = Held::new(share);
            let had = (1..=MOST / MIB).take_while(|mib| held.set(mib * MIB)).count();
            assert_eq!(had, most, "{name}");
            held.set(had * MIB);
            all.push(held);
        }
        assert!(!all[0].set(129 * MIB), "the first may take what the others have left");
        // Twenty more, and there would be nothing left for the next.
        for number in 0..20 {
            let mut held = Held::new(budget.of(&format!("more{number}")));
            let had = (1..=MOST / MIB).take_while(|mib| held.set(mib * MIB)).count();
            held.set(had * MIB);
            all.push(held);
        }
        let share = budget.of("late");
        assert!(Held::new(share.clone()).set(FLOOR), "whoever comes late has nothing");
        assert_eq!(window(&share), 256 * KIB);
        let mut another = Held::new(budget.of("one"));
        assert!(another.set(LEAST as usize), "nobody else gets on who uses the first");
        assert!(!another.set(LEAST as usize + 1));
        drop((all, another));
        assert_eq!(budget.bodies.get(), 0);
    }

    #[tokio::test]
    async fn small_requests_get_on_where_large_ones_have_taken_all_and_are_bounded_themselves() {
        let budget = budget();
        let share = budget.of("one");
        let waits = |bytes| {
            let mut waits = Box::pin(share.clone().bears(bytes));
            waits.as_mut().now_or_never().is_none().then_some(waits)
        };
        let large: Vec<_> = std::iter::from_fn(|| waits(64 << 10)).take(100_000).collect();
        assert_eq!(large.len() * 64 / 1024, 96, "MiB");
        let small: Vec<_> = std::iter::from_fn(|| waits(8 << 10)).take(100_000).collect();
        assert_eq!(small.len() * 8 / 1024, 32, "MiB");
        assert!(waits(64 << 10).is_none(), "large ones get on too");
        drop((large, small));
        assert_eq!(budget.requests.get(), 0);
    }

    #[tokio::test]
    async fn requests_that_wait_shrink_no_window_and_bodies_keep_no_request_from_waiting() {
        let budget = budget();
        let share = budget.of("one");
        let waits = |bytes| {
            let mut waits = Box::pin(share.clone().bears(bytes));
            waits.as_mut().now_or_never().is_none().then_some(waits)
        };
        let waiting: Vec<_> = std::iter::from_fn(|| waits(8 << 10)).take(100_000).collect();
        assert_eq!(window(&share), 256 * KIB);
        let mut bodies = Held::new(share.clone());
        assert!(bodies.set(50 * MIB));
        drop(waiting);
        bodies.set(130 * MIB);
        assert!(waits(20 << 10).is_some());
    }

    #[test]
    fn what_is_opened_gets_on_where_bodies_have_taken_all_and_is_bounded_itself() {
        let budget = budget();
        let share = budget.of("one");
        let mut bodies = Held::new(share.clone());
        bodies.set(128 * MIB);
        let mut opened: Vec<Portion> = std::iter::from_fn(|| share.takes(48 << 10)).take(100_000).collect();
        assert_eq!(opened.len() * 48 / 1024, 127, "MiB");
        assert!(budget.of("two").takes(48 << 10).is_some());
        opened.iter_mut().for_each(|one| one.shrink(24 << 10));
        assert!(share.takes(48 << 10).is_some());
        drop((opened, bodies));
        assert_eq!((budget.bodies.get(), budget.requests.get()), (0, 0));
    }

    #[test]
    fn a_share_is_a_namespaces_as_long_as_somebody_has_it_and_is_forgotten_then() {
        let budget = budget();
        let one = budget.of("one");
        assert!(Arc::ptr_eq(&one, &budget.of("one")));
        for number in 0..1000 {
            drop(budget.of(&format!("c{number}")));
        }
        assert!(budget.shares.lock().unwrap().of.len() < 100);
        assert!(Arc::ptr_eq(&one, &budget.of("one")));
    }
}
