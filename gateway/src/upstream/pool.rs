//! Open connections to each address of each target: idle ones of HTTP/1.1, one after the other, and those of
//! HTTP/2, shared. None is ever shared between routes, nor between workers. A sweep, which runs only while
//! there is something to sweep, closes what has been idle for too long.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::FutureExt;
use pingora_core::protocols::Stream;
use tokio::io::AsyncReadExt;

use super::coming::Coming;
use super::multiplex::{Lent, Multiplex};
use crate::http::http2::Portion;
use crate::settings::Settings;
use crate::workers;

/// How late a connection may be noticed that was idle for too long, or closed by its target.
const SWEEP: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(20);

/// The route's key, the target's origin, and one of its addresses.
type Place = (u64, String, SocketAddr);

pub struct Pools {
    workers: usize,
    pools: Mutex<HashMap<Place, Arc<Pool>>>,
    settings: Arc<ArcSwap<Settings>>,
    sweeping: AtomicBool,
}

/// Of one address.
pub struct Pool {
    /// The first is for all threads that are no worker's: those of probes.
    shares: Box<[Share]>,
}

/// What one worker has opened.
#[derive(Default)]
struct Share {
    /// Used last: at the end.
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Shared>>,
    coming: Arc<Coming>,
    /// What was offered HTTP/2 last took HTTP/1.1.
    speaks_h1: AtomicBool,
}

struct Idle {
    stream: Stream,
    held: Portion,
    since: Instant,
}

struct Shared {
    connection: Arc<Multiplex>,
    /// As far as the sweeps have seen.
    rests_since: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has to make room, closed when no lock is held.
fn pushed<T>(list: &Mutex<Vec<T>>, new: T, most: usize) -> Option<T> {
    let mut list = lock(list);
    list.push(new);
    (list.len() > most).then(|| list.remove(0))
}

/// How long a connection may be idle. Where workers are many, so are the connections: each rests for less, but
/// for one of each worker, or whoever is alone with many workers would find none open.
#[derive(Clone, Copy)]
struct Rest {
    next: Duration,
    others: Duration,
}

impl Rest {
    fn new(idle: Duration, workers: usize) -> Rest {
        Rest { next: idle, others: idle / u32::try_from(workers).unwrap_or(1) }
    }

    /// `next`: of the one that the next request would take.
    fn of(self, next: bool) -> Duration {
        if next { self.next } else { self.others }
    }
}

impl Pools {
    pub fn new(settings: Arc<ArcSwap<Settings>>) -> Arc<Pools> {
        let workers = settings.load().worker_threads();
        Arc::new(Pools { workers, pools: Mutex::default(), settings, sweeping: AtomicBool::new(false) })
    }

    pub fn of(&self, key: u64, origin: &str, address: SocketAddr) -> Arc<Pool> {
        let new = || Arc::new(Pool { shares: (0..=self.workers).map(|_| Share::default()).collect() });
        lock(&self.pools).entry((key, origin.to_owned(), address)).or_insert_with(new).clone()
    }

    /// Keeps a connection whose last answer was read to its end. The oldest makes room. The setting is for all
    /// workers together.
    pub fn keep(self: &Arc<Pools>, pool: &Pool, stream: Stream, held: Portion) {
        drop(pushed(&pool.share().idle, Idle { stream, held, since: Instant::now() }, self.most()));
        self.sweeps();
    }

    /// The oldest makes room here, too: it closes once its streams have ended.
    pub fn share(self: &Arc<Pools>, pool: &Pool, connection: Arc<Multiplex>) {
        drop(pushed(&pool.share().shared, Shared { connection, rests_since: None }, self.most().max(1)));
        self.sweeps();
    }

    fn most(&self) -> usize {
        self.settings.load().upstream.pool_size.div_ceil(self.workers)
    }

    fn sweeps(self: &Arc<Pools>) {
        if self.sweeping.load(Ordering::Relaxed) || self.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let pools = self.clone();
        tokio::spawn(async move {
            loop {
                let rest = Rest::new(pools.settings.load().upstream.idle, pools.workers);
                tokio::time::sleep((rest.others / 4).clamp(SOON, SWEEP)).await;
                pools.sweep(rest);
                if pools.are_empty() {
                    pools.sweeping.store(false, Ordering::Relaxed);
                    // Unless one came in between that saw the sweep going on.
                    if pools.are_empty() || pools.sweeping.swap(true, Ordering::Relaxed) {
                        return;
                    }
                }
            }
        });
    }

    fn are_empty(&self) -> bool {
        lock(&self.pools).values().all(|pool| pool.is_empty())
    }

    fn sweep(&self, rest: Rest) {
        // What is closed is closed when no lock is held.
        let mut closed = Vec::new();
        lock(&self.pools).retain(|_, pool| {
            closed.push(pool.sweep(rest));
            Arc::strong_count(pool) > 1 || !pool.is_empty()
        });
    }
}

/// Closes what it holds when it is dropped.
type Closed = (Vec<Idle>, Vec<Shared>);

impl Pool {
    /// The connection that was used last, for the others may then be let go. None if the target has closed
    /// all.
    pub fn idle(&self) -> Option<(Stream, Portion)> {
        loop {
            let mut idle = lock(&self.share().idle).pop()?;
            if is_quiet(&mut idle.stream) {
                return Some((idle.stream, idle.held));
            }
        }
    }

    /// Room for a stream on an open connection.
    pub fn lend(&self) -> Option<Lent> {
        lock(&self.share().shared).iter().find_map(|shared| shared.connection.lend())
    }

    /// Those that are being made.
    pub fn coming(&self) -> &Arc<Coming> {
        &self.share().coming
    }

    /// What a connection has spoken that was offered HTTP/2.
    pub fn spoke(&self, h2: bool) {
        self.share().speaks_h1.store(!h2, Ordering::Relaxed);
    }

    /// Requests that one connection carries at once, as far as it is known.
    pub fn each(&self) -> Option<usize> {
        let share = self.share();
        if share.speaks_h1.load(Ordering::Relaxed) {
            return Some(1);
        }
        lock(&share.shared).iter().rev().find_map(|shared| shared.connection.told())
    }

    /// Nothing may be sent there any more: idle connections close, shared ones once their streams have ended.
    pub fn clear(&self) {
        let cleared: Vec<Closed> = self.shares.iter().map(Share::clear).collect();
        drop(cleared);
    }

    /// The one of this thread's worker.
    fn share(&self) -> &Share {
        let index = workers::current().map_or(0, |worker| 1 + worker % (self.shares.len() - 1));
        &self.shares[index]
    }

    fn sweep(&self, rest: Rest) -> Vec<Closed> {
        self.shares.iter().map(|share| share.sweep(rest)).collect()
    }

    fn is_empty(&self) -> bool {
        self.shares.iter().all(Share::is_empty)
    }
}

impl Share {
    fn sweep(&self, rest: Rest) -> Closed {
        let (mut idle, mut shared) = (lock(&self.idle), lock(&self.shared));
        // The next request takes the last of these, and the first of those.
        let mut after = idle.len();
        let old = idle.extract_if(.., |idle| {
            after -= 1;
            idle.since.elapsed() >= rest.of(after == 0) || !is_quiet(&mut idle.stream)
        });
        let old = old.collect();
        let mut first = true;
        let over = shared.extract_if(.., |shared| shared.is_over(rest.of(std::mem::take(&mut first))));
        (old, over.collect())
    }

    fn clear(&self) -> Closed {
        (std::mem::take(&mut *lock(&self.idle)), std::mem::take(&mut *lock(&self.shared)))
    }

    fn is_empty(&self) -> bool {
        lock(&self.idle).is_empty() && lock(&self.shared).is_empty()
    }
}

impl Shared {
    fn is_over(&mut self, longest: Duration) -> bool {
        if !self.connection.rests() {
            self.rests_since = None;
        }
        let since = *self.rests_since.get_or_insert_with(Instant::now);
        self.connection.is_over() || since.elapsed() >= longest
    }
}

/// Neither closed nor with anything to say: bytes that nobody asked for would be taken for the next answer.
/// Costs a system call only when something has come.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0; 1];
    tokio::task::unconstrained(stream.read(&mut byte)).now_or_never().is_none()
}

#[cfg(test)]
mod tests {
    use prometheus::IntGauge;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::http::http2::Budget;

    fn pools(most: usize, idle: Duration) -> Arc<Pools> {
        pools_of(1, most, idle)
    }

    fn pools_of(workers: usize, most: usize, idle: Duration) -> Arc<Pools> {
        let mut settings = Settings { threads: Some(workers), ..Settings::default() };
        (settings.upstream.pool_size, settings.upstream.idle) = (most, idle);
        Pools::new(Arc::new(ArcSwap::from_pointee(settings)))
    }

    fn place(pools: &Pools) -> Arc<Pool> {
        pools.of(1, "https://target:443", SocketAddr::from(([127, 0, 0, 1], 443)))
    }

    /// Our end is kept; this is the target's.
    fn kept(pools: &Arc<Pools>, pool: &Pool) -> DuplexStream {
        let (near, far) = duplex(64);
        let gauge = |name| IntGauge::new(name, "bytes").unwrap();
        let share = Budget::new(gauge("bodies"), gauge("requests")).nobodys();
        pools.keep(pool, Box::new(near), share.takes(1).unwrap());
        far
    }

    async fn same(idle: Option<(Stream, Portion)>, far: &mut DuplexStream) -> bool {
        idle.expect("none is idle").0.write_u8(7).await.unwrap();
        far.read_u8().await.unwrap() == 7
    }

    #[tokio::test]
    async fn the_connection_that_was_used_last_is_taken_first_and_none_that_was_closed_or_has_something_to_say()
     {
        let pools = pools(9, Duration::from_secs(90));
        let pool = place(&pools);
        let (mut first, mut second) = (kept(&pools, &pool), kept(&pools, &pool));
        let mut talks = kept(&pools, &pool);
        talks.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        drop(kept(&pools, &pool));
        assert!(same(pool.idle(), &mut second).await);
        assert!(same(pool.idle(), &mut first).await);
        assert!(pool.idle().is_none());
    }

    #[tokio::test]
    async fn the_oldest_makes_room_at_its_own_address_only() {
        let pools = pools(1, Duration::from_secs(90));
        let (pool, other) =
            (place(&pools), pools.of(2, "https://target:443", SocketAddr::from(([127, 0, 0, 1], 443))));
        let (mut others, mut old, mut new) = (kept(&pools, &other), kept(&pools, &pool), kept(&pools, &pool));
        assert_eq!(old.read(&mut [0]).await.unwrap(), 0, "the oldest is open still");
        assert!(same(pool.idle(), &mut new).await);
        assert!(same(other.idle(), &mut others).await);
    }

    #[tokio::test]
    async fn what_is_idle_for_too_long_is_closed_and_the_sweep_ends_with_it() {
        let pools = pools(9, Duration::from_millis(40));
        let mut far = kept(&pools, &place(&pools));
        assert!(pools.sweeping.load(Ordering::Relaxed));
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
        while pools.sweeping.load(Ordering::Relaxed) {
            tokio::time::sleep(SOON).await;
        }
        assert!(lock(&pools.pools).is_empty(), "a place that nobody uses is remembered");
        // And begins anew.
        let _far = kept(&pools, &place(&pools));
        assert!(pools.sweeping.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn with_many_workers_all_connections_but_the_next_one_rest_for_a_part_of_the_time() {
        let pools = pools_of(50, 100, Duration::from_secs(5));
        let pool = place(&pools);
        let (mut first, mut second) = (kept(&pools, &pool), kept(&pools, &pool));
        let closed = tokio::time::timeout(Duration::from_secs(2), first.read(&mut [0])).await;
        assert_eq!(closed.expect("it rests as if it were alone").unwrap(), 0);
        assert!(same(pool.idle(), &mut second).await, "whoever comes next finds none open");
    }
}
