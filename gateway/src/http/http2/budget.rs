//! What all HTTP/2 streams of a gateway hold for readers that have stopped, and how much each may have on its way
//! because of it: windows get smaller before memory runs out. Connections of both legs follow `Windows`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use tokio::sync::watch;

/// What one stream may have on its way to a reader that has stopped, while there is room for it.
pub const STREAM_WINDOW: u32 = 256 << 10;
/// Above so many bytes held, a stream may have so many: the first two levels are passed by what is on its way
/// already; in the last, sixteen thousand streams hold as much again as it takes to get there.
const LEVELS: [(usize, u32); 2] = [(128 << 20, 16 << 10), (64 << 20, 64 << 10)];
/// Whoever reads ahead beyond this ends its stream. Streams hold more than is counted: with fifteen thousand of them on
/// 64 connections the process had 613 MiB (`bench run --only hoard`), 60 % of the shipped limit.
const MOST: usize = 320 << 20;

/// A peer that has been told of one window must acknowledge it before it is told of the next.
const AGAIN: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);

/// Of a gateway.
pub struct Budget {
    held: IntGauge,
    window: watch::Sender<u32>,
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
    /// `held` counts.
    pub fn new(held: IntGauge) -> Arc<Budget> {
        Arc::new(Budget { held, window: watch::Sender::new(STREAM_WINDOW) })
    }

    /// For a connection, and the window to begin with.
    pub fn windows(&self) -> (Windows, u32) {
        let mut wanted = self.window.subscribe();
        let first = *wanted.borrow_and_update();
        (Windows { wanted, owes: None }, first)
    }

    fn held(&self) -> usize {
        usize::try_from(self.held.get()).unwrap_or_default()
    }

    fn adapt(&self) {
        let now = *self.window.borrow();
        let next = next(self.held(), now);
        if next != now {
            self.window.send_if_modified(|window| std::mem::replace(window, next) != next);
        }
    }
}

/// Bytes held for one stream, given back when it is dropped.
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    pub fn new(budget: Arc<Budget>) -> Held {
        Held { budget, bytes: 0 }
    }

    /// False if there is no room for more.
    pub fn set(&mut self, bytes: usize) -> bool {
        if bytes == self.bytes {
            return true;
        }
        let more = bytes > self.bytes;
        let change = i64::try_from(bytes.abs_diff(self.bytes)).unwrap_or(i64::MAX);
        if more {
            self.budget.held.add(change)
        } else {
            self.budget.held.sub(change)
        }
        self.bytes = bytes;
        self.budget.adapt();
        !more || self.budget.held() <= MOST
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.set(0);
        }
    }
}

/// Smaller at once; larger again when half of what made it smaller is gone.
fn next(all: usize, now: u32) -> u32 {
    let at = |all: usize| {
        LEVELS.iter().find(|(above, _)| all > *above).map_or(STREAM_WINDOW, |(_, window)| *window)
    };
    at(all).min(now).max(at(all.saturating_mul(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_get_smaller_as_memory_fills_and_larger_when_half_of_it_is_free_again() {
        const MIB: usize = 1 << 20;
        const KIB: u32 = 1 << 10;
        let mut now = STREAM_WINDOW;
        for (held, expected) in [
            (64 * MIB, 256 * KIB),
            (64 * MIB + 1, 64 * KIB),
            (40 * MIB, 64 * KIB),
            (128 * MIB + 1, 16 * KIB),
            (65 * MIB, 16 * KIB),
            (64 * MIB, 64 * KIB),
            (33 * MIB, 64 * KIB),
            (32 * MIB, 256 * KIB),
            (500 * MIB, 16 * KIB),
            (0, 256 * KIB),
        ] {
            now = next(held, now);
            assert_eq!(now, expected, "{held}");
        }
    }
}
