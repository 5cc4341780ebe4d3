//! A counter for each class of status codes.

use prometheus::IntCounter;

pub const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

pub struct ByCode([IntCounter; CODES.len()]);

impl ByCode {
    pub fn new(counter: impl Fn(&'static str) -> IntCounter) -> ByCode {
        ByCode(CODES.map(counter))
    }

    /// What is no status counts nowhere.
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(counter) = class.and_then(|index| self.0.get(index)) {
            counter.inc();
        }
    }
}
