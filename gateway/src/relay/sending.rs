//! How far the body of a request is, for whoever carries its answer at the same time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pingora_core::protocols::UniqueIDType;
use tokio::sync::Notify;

/// A target that has answered completely and takes nothing more of the request for so long will not. The
/// client may have left: one of HTTP/1.1 whose body nobody takes cannot be seen to.
const STALLED: Duration = Duration::from_secs(5);

/// How much of a request the target has been given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Partly,
    Whole,
}

#[derive(Default)]
pub struct Sending {
    whole: AtomicBool,
    /// Of both ends where they speak HTTP/1.1 and the request has a body.
    pub client: Option<UniqueIDType>,
    pub target: Option<UniqueIDType>,
    /// The answer is due: its deadline begins.
    pub due: Notify,
    /// Nothing more is sent, for who has the whole answer already.
    pub over: Notify,
}

impl Sending {
    pub fn between(client: Option<UniqueIDType>, target: Option<UniqueIDType>) -> Sending {
        Sending { client, target, ..Sending::default() }
    }

    /// Nothing more is sent: that was the whole body, or the target takes no more.
    pub fn end(&self, sent: Sent) {
        self.whole.store(sent == Sent::Whole, Ordering::Relaxed);
        self.over.notify_one();
    }

    pub fn sent(&self) -> Sent {
        if self.whole.load(Ordering::Relaxed) { Sent::Whole } else { Sent::Partly }
    }
}

/// Resolves when no more has been taken for a while.
pub async fn stalls(taken: &AtomicU64) {
    let mut before = None;
    loop {
        let now = Some(taken.load(Ordering::Relaxed));
        if now == before {
            return;
        }
        before = now;
        tokio::time::sleep(STALLED).await;
    }
}
