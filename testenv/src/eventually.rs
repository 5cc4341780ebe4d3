//! Waiting in tests: asks again until it is so, and ends with what it waited for.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};

/// Long enough for a busy machine: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// One look at what is waited for.
pub trait Look {
    type Found;

    /// What was found, or what was seen instead.
    fn found(self) -> Result<Self::Found, String>;
}

impl Look for bool {
    type Found = ();

    fn found(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "it is not so".to_owned())
    }
}

impl<T> Look for Option<T> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Debug> Look for Result<T, E> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:?}"))
    }
}

/// Looks until it finds something.
///
/// # Panics
/// After half a minute, with `what` and what was seen last.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub async fn eventually<L: Look, F: Future<Output = L>>(what: &str, mut look: impl FnMut() -> F) -> L::Found {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await.found() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => {
                panic!("not within {} s: {what}; seen last: {seen}", PATIENCE.as_secs())
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Looks until there is a value; an error of the look itself ends it at once.
pub async fn within<T, F>(limit: Duration, what: &str, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look().await? {
            return Ok(value);
        }
        ensure!(Instant::now() < deadline, "not within {} s: {what}", limit.as_secs());
        sleep(PAUSE).await;
    }
}
