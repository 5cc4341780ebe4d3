//! The threads of the data plane. Each has an event loop of its own, and what begins on one stays there: a
//! client's connection with its timers, and the connections to targets that its requests open. So no request
//! waits for another thread to be woken, and no socket is waited for by one thread and read by another.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use prometheus::IntGauge;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::metrics::Metrics;

/// How often a worker says that it is not stuck.
const BEAT: Duration = Duration::from_secs(1);

thread_local! {
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The worker on whose thread this is called; none on other threads.
pub fn current() -> Option<usize> {
    CURRENT.get()
}

/// Begins on the worker that has it, so that it can join that worker's event loop.
pub type Job = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// The threads end with this, and so does what they do.
pub struct Workers {
    workers: Vec<Worker>,
}

struct Worker {
    /// Jobs that it was given and that have not ended.
    jobs: IntGauge,
    queue: UnboundedSender<(Job, Place)>,
}

/// One of a worker's jobs, however it ends.
struct Place(IntGauge);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Workers {
    pub fn start(count: usize, metrics: &Metrics) -> std::io::Result<Workers> {
        let workers = (0..count.max(1)).map(|index| {
            let (queue, jobs) = unbounded_channel();
            let last_turn = metrics.worker_last_turn(index);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                CURRENT.set(Some(index));
                runtime.block_on(work(jobs, last_turn));
            })?;
            Ok(Worker { jobs: metrics.worker_connections(index), queue })
        });
        Ok(Workers { workers: workers.collect::<std::io::Result<_>>()? })
    }

    /// Gives a job to the worker that has the fewest. Called by one thread at a time, or two may choose the same.
    pub fn give(&self, job: Job) {
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.jobs.get()) else { return };
        worker.jobs.inc();
        // A worker ends with the process only.
        let _ = worker.queue.send((job, Place(worker.jobs.clone())));
    }
}

async fn work(mut jobs: UnboundedReceiver<(Job, Place)>, last_turn: IntGauge) {
    tokio::spawn(async move {
        loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            last_turn.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
            tokio::time::sleep(BEAT).await;
        }
    });
    while let Some((job, place)) = jobs.recv().await {
        tokio::spawn(async move {
            job().await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn jobs_are_spread_evenly_and_each_stays_on_its_worker() {
        let metrics = Metrics::new().unwrap();
        let workers = Workers::start(4, &metrics).unwrap();
        let (tell, told) = channel();
        for _ in 0..1000 {
            let tell = tell.clone();
            workers.give(Box::new(|| {
                Box::pin(async move {
                    let begun = current();
                    tokio::task::yield_now().await;
                    tell.send((begun, current())).unwrap();
                    std::future::pending::<()>().await;
                })
            }));
        }
        let mut seen = [0; 4];
        for _ in 0..1000 {
            let (begun, later) = told.recv_timeout(PATIENCE).unwrap();
            assert_eq!(begun, later);
            seen[begun.unwrap()] += 1;
        }
        assert_eq!(seen, [250; 4]);
        assert_eq!(current(), None);
    }

    #[test]
    fn a_worker_that_has_lost_its_jobs_gets_the_next_ones() {
        let metrics = Metrics::new().unwrap();
        let workers = Workers::start(2, &metrics).unwrap();
        let (tell, told) = channel();
        let next = |lasts: bool| {
            let tell = tell.clone();
            workers.give(Box::new(move || {
                Box::pin(async move {
                    tell.send(current().unwrap()).unwrap();
                    if lasts {
                        std::future::pending::<()>().await;
                    }
                })
            }));
            told.recv_timeout(PATIENCE).unwrap()
        };
        let busy = next(true);
        for _ in 0..3 {
            let other = next(false);
            assert_ne!(other, busy);
            while metrics.worker_connections(other).get() > 0 {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_worker_that_turns_says_when() {
        let metrics = Metrics::new().unwrap();
        let _workers = Workers::start(1, &metrics).unwrap();
        let began = std::time::Instant::now();
        while metrics.worker_last_turn(0).get() == 0 {
            assert!(began.elapsed() < PATIENCE, "it does not turn");
            std::thread::yield_now();
        }
    }
}
