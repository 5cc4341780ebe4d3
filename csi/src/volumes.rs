//! What the driver remembers of its volumes: one lock per target path, when which token was written last, and
//! what the files were made of. `node` takes the lock before anything is done to a volume. After a restart nothing
//! is remembered; until the next good publish a connector in trouble then keeps all files but the token's.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::error::Error;
use crate::inputs::Inputs;
use crate::request::Token;
use crate::room::Portion;

/// Kubelet calls every 60–90 s for each volume: within this time and with the token unchanged there is
/// nothing to ask or write.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// Longer than the deadline of one publish, below kubelet's own two minutes.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Volume {
    written: Option<Written>,
    /// What its files were made of last.
    pub last: Option<Inputs>,
    /// What it takes of the driver's memory.
    pub portion: Option<Portion>,
}

struct Written {
    token: SecretString,
    at: Instant,
}

impl Volume {
    pub fn is_fresh(&self, token: &Token) -> bool {
        self.written.as_ref().is_some_and(|written| token.is(&written.token) && written.at.elapsed() < FRESH)
    }

    pub fn written(&mut self, token: &Token) {
        self.written = Some(Written { token: token.secret().clone(), at: Instant::now() });
    }

    pub fn forget(&mut self) {
        self.written = None;
    }

    pub fn is_known(&self) -> bool {
        let stays = self.portion.as_ref().is_some_and(Portion::stays);
        stays || self.written.is_some() || self.last.is_some()
    }
}

#[derive(Default)]
pub struct Volumes {
    by_target: Mutex<HashMap<PathBuf, Arc<AsyncMutex<Volume>>>>,
}

impl Volumes {
    /// Waits until no other call works on this volume.
    pub async fn lock(&self, target: &Path) -> Result<OwnedMutexGuard<Volume>, Error> {
        let volume = Arc::clone(self.entries().entry(target.to_owned()).or_default());
        tokio::time::timeout(PATIENCE, volume.lock_owned()).await.map_err(|_| Error::Busy)
    }

    /// Ends the entry with the guard, unless somebody waits for it: two locks for one volume would be none.
    pub fn release(&self, target: &Path, guard: OwnedMutexGuard<Volume>) {
        let mut entries = self.entries();
        drop(guard);
        if entries.get(target).is_some_and(|volume| Arc::strong_count(volume) == 1) {
            entries.remove(target);
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Arc<AsyncMutex<Volume>>>> {
        self.by_target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_released_volume_is_forgotten_unless_somebody_waits_for_it() {
        let (volumes, target) = (Arc::new(Volumes::default()), Path::new("/v"));
        let guard = volumes.lock(target).await.unwrap();
        let waiting = volumes.lock(target);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        volumes.release(target, guard);
        let second = waiting.await.unwrap();
        assert_eq!(volumes.entries().len(), 1);
        volumes.release(target, second);
        assert_eq!(volumes.entries().len(), 0);
    }
}
