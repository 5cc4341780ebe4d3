//! When credentials end, as far as they say it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntGauge, Registry};

use super::gauge;

/// From here on credentials of connectors that are gone are looked for: others' cost no more than they take.
const MANY: usize = 1024;

pub struct Credentials {
    not_after: IntGauge,
    /// By connector: when its credential ends, and until when we go by that.
    ends: Mutex<HashMap<String, (i64, Instant)>>,
}

impl Credentials {
    pub(super) fn new(to: &Registry) -> Result<Credentials, prometheus::Error> {
        let next = "End of the credential that ends next, Unix time; 0 while none says when it ends";
        Ok(Credentials {
            not_after: gauge(to, "credential_not_after_seconds", next)?,
            ends: Mutex::default(),
        })
    }

    pub(super) fn end(&self, connector: &str, end: Option<i64>, life: Duration) {
        let mut ends = self.ends();
        let now = Instant::now();
        // Whoever creates and deletes under ever new names must leave nothing behind, also where nobody scrapes.
        if ends.len() >= MANY && ends.len() == ends.capacity() {
            ends.retain(|_, (_, until)| *until > now);
        }
        match end {
            Some(end) => ends.insert(connector.to_owned(), (end, now + life)),
            None => ends.remove(connector),
        };
    }

    /// Sets the gauge.
    pub(super) fn look(&self) {
        let mut ends = self.ends();
        ends.retain(|_, (_, until)| *until > Instant::now());
        self.not_after.set(ends.values().map(|(end, _)| *end).min().unwrap_or(0));
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<String, (i64, Instant)>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_connectors_that_are_gone_are_forgotten_also_where_nobody_scrapes() {
        let credentials = Credentials::new(&Registry::new()).unwrap();
        for number in 0..20 * MANY {
            credentials.end(&number.to_string(), Some(1), Duration::ZERO);
        }
        let known = credentials.ends().len();
        assert!(known <= 4 * MANY, "{known}");
    }
}
