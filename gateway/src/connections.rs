//! The open client connections, so that the end of a drain can end those that are left: each of their streams
//! then writes its record. `accept` enters them; the binary's `drain` ends them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{AbortHandle, Abortable};
use pingora_core::server::ShutdownWatch;

/// When a drain begins, a request may be on its way over any connection, and its client would not know
/// whether it was seen. Each has so long for one more, which is told to be the last. Shorter than what the
/// process waits for a last stream.
const LAST_REQUEST: Duration = Duration::from_millis(300);

/// Resolves when a connection that waits for a request need not wait longer.
pub async fn let_go(mut shutdown: ShutdownWatch) {
    let _ = shutdown.wait_for(|ending| *ending).await;
    tokio::time::sleep(LAST_REQUEST).await;
}

#[derive(Default)]
pub struct Connections {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    handles: HashMap<u64, AbortHandle>,
}

impl Connections {
    /// Serves one connection to its end, or until [`Connections::end`]. The lock is taken once at either end
    /// of a connection's life.
    pub async fn serve(&self, work: impl Future<Output = ()>) {
        let (handle, registration) = AbortHandle::new_pair();
        let _entry = self.enter(handle);
        let _ = Abortable::new(work, registration).await;
    }

    /// Ends all that are open: what they are doing is dropped where it stands.
    pub fn end(&self) {
        self.lock().handles.values().for_each(AbortHandle::abort);
    }

    fn enter(&self, handle: AbortHandle) -> Slot<'_> {
        let mut open = self.lock();
        let key = open.next;
        open.next += 1;
        open.handles.insert(key, handle);
        Slot { connections: self, key }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the open ones, given up however it ends.
struct Slot<'a> {
    connections: &'a Connections,
    key: u64,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.connections.lock().handles.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn open_connections_end_together_and_later_ones_are_not_touched() {
        let connections = Connections::default();
        let (first, second) = (connections.serve(pending()), connections.serve(pending()));
        let end = async { connections.end() };
        tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(first, second, end) })
            .await
            .unwrap();
        assert!(connections.lock().handles.is_empty());
        assert!(tokio::time::timeout(Duration::from_millis(20), connections.serve(pending())).await.is_err());
        assert!(connections.lock().handles.is_empty(), "a cancelled one is forgotten too");
    }
}
