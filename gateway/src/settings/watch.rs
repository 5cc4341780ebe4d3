//! Follows the mounted settings: a changed file that validates is swapped in, a broken one changes nothing
//! but log, metric and readiness detail. kubelet swaps the directory's `..data` link, up to 90 s after an
//! edit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::{FILE, Settings, SettingsError, restart};
use crate::metrics::Metrics;

/// Between two looks at the file. It is small and cached by the kernel, and a look needs no watch that an
/// exchanged directory would lose.
const INTERVAL: Duration = Duration::from_secs(1);

/// The settings in force and, while a broken file is ignored, what is wrong with it.
#[derive(Clone)]
pub struct Live {
    pub current: Arc<ArcSwap<Settings>>,
    pub error: Arc<ArcSwapOption<String>>,
    /// What is read at start alone is still as it was there.
    started: Arc<Settings>,
    directory: PathBuf,
    required: bool,
    /// The file when it was looked at last. Read before it is parsed, so that an edit in between is noticed.
    seen: Option<Vec<u8>>,
}

impl Live {
    /// Fails on a broken file, and on a missing or blank one where it is `required`: there is no last good
    /// one yet.
    pub fn load(directory: &Path, required: bool) -> Result<Live, SettingsError> {
        let seen = std::fs::read(directory.join(FILE)).ok();
        let started = Arc::new(Settings::load(directory, required)?);
        let current = Arc::new(ArcSwap::new(started.clone()));
        Ok(Live { current, error: Arc::default(), started, directory: directory.to_owned(), required, seen })
    }

    /// Runs for ever.
    pub async fn follow(mut self, metrics: Arc<Metrics>) {
        metrics.settings_valid.set(1);
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = tokio::fs::read(self.directory.join(FILE)).await.ok();
            if now != self.seen {
                self.reload(&metrics);
                self.seen = now;
            }
        }
    }

    fn tell(&self, settings: &Settings) {
        let waiting = restart::waiting(&self.started, settings).join(", ");
        match waiting.is_empty() {
            true => tracing::info!(?settings, "settings changed"),
            false => tracing::info!(
                ?settings,
                wait_for_restart = waiting,
                "settings changed; some wait for a restart"
            ),
        }
    }

    fn reload(&self, metrics: &Metrics) {
        match Settings::load(&self.directory, self.required) {
            Ok(settings) => {
                self.tell(&settings);
                self.current.store(Arc::new(settings));
                self.error.store(None);
                metrics.settings_valid.set(1);
            }
            Err(error) => {
                tracing::error!(%error, "broken settings ignored, the last good ones stay");
                self.error.store(Some(Arc::new(error.to_string())));
                metrics.settings_valid.set(0);
            }
        }
    }
}
