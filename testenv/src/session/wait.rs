//! Waiting for the command of a run, and for whoever wants it to end.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for the command's end; an error of `check`, asked all the while, ends the waiting.
pub(super) async fn watch(child: &mut Child, mut check: impl FnMut() -> Result<()>) -> Result<u8> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(code(status));
        }
        check()?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// As shells have it.
pub(super) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Requests to end. From here on they no longer end this process at once, so that it can clean up.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    pub(super) fn new() -> Result<Signals> {
        Ok(Signals([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// The exit status that tells of the signal.
    pub(super) async fn next(&mut self) -> u8 {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
            _ = hangup.recv() => 129,
        }
    }
}
