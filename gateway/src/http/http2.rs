//! What the HTTP/2 connections of both legs share: writes that are gathered, windows, and PINGs that find a
//! peer that is gone without a word; `budget` is what streams may hold, `outflow` what is on its way to the
//! socket. `serve/h2` serves clients with it, `upstream/multiplex` asks targets.

mod blocks;
mod budget;
mod gather;
mod inflow;
mod outflow;
mod sieve;

use std::future::pending;
use std::time::Duration;

use h2::PingPong;
use tokio::time::timeout;

pub use blocks::{Blocks, PREFACE};
pub use budget::{Budget, Held, Portion, STREAM_WINDOW, Share, Windows};
pub use gather::{Flusher, Gathering, gather};
pub use inflow::{Inflow, NoRoom, Part};
pub use outflow::{Outflow, Place, told_of_reset, weight};
pub use sieve::Sieve;

/// Bytes of one stream that may wait for a peer that takes no more from its socket: two TLS records.
pub const SEND_BUFFER: usize = 32 << 10;

/// Streams that were given up here and whose last frames may be on their way still: so many are remembered,
/// for so long, that those frames are no mistakes of the peer's.
pub const GIVEN_UP: usize = 2000;
pub const GIVEN_UP_TIME: Duration = Duration::from_secs(10);
/// Mistakes on streams of one connection, in its whole life, before it ends. The library's own number is 1024,
/// which connections that live for weeks reach.
pub const MISTAKES: usize = 20_000;

/// Room for all streams of a connection at once: those whose readers have stopped leave the others theirs.
/// Greater ones than 2 GiB do not exist (RFC 9113, 6.9.1).
pub fn connection_window(streams: u32) -> u32 {
    streams.saturating_mul(STREAM_WINDOW).clamp(STREAM_WINDOW, i32::MAX as u32)
}

/// Resolves when the peer answers no PING any more: asked after each `quiet`, it has `patience`.
pub async fn silence(ping: Option<PingPong>, quiet: Duration, patience: Duration) {
    let Some(mut ping) = ping else { return pending().await };
    loop {
        tokio::time::sleep(quiet).await;
        if !matches!(timeout(patience, ping.ping(h2::Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}
