//! Follows the mounted settings: a changed file that validates is swapped in, a broken one changes nothing but log, metric and readiness
//! detail. kubelet swaps the directory's `..data` link, up to 90 s after an edit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::{FILE, Settings};
use crate::metrics::Metrics;

/// Between two looks at the file. It is small and cached by the kernel, and a look needs no watch that an exchanged directory would lose.
const INTERVAL: Duration = Duration::from_secs(1);

/// The settings in force and, while a broken file is ignored, what is wrong with it.
#[derive(Clone)]
pub struct Live {
    pub current: Arc<ArcSwap<Settings>>,
    pub error: Arc<ArcSwapOption<String>>,
}

impl Live {
    pub fn new(settings: Settings) -> Live {
        Live { current: Arc::new(ArcSwap::from_pointee(settings)), error: Arc::default() }
    }

    /// Runs for ever.
    pub async fn follow(self, directory: PathBuf, metrics: Arc<Metrics>) {
        metrics.settings_valid.set(1);
        let mut seen = tokio::fs::read(directory.join(FILE)).await.ok();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = tokio::fs::read(directory.join(FILE)).await.ok();
            if now != seen {
                self.reload(&directory, &metrics);
                seen = now;
            }
        }
    }

    fn reload(&self, directory: &std::path::Path, metrics: &Metrics) {
        match Settings::load(Some(directory)) {
            Ok(settings) => {
                tracing::info!(?settings, "settings changed; those marked restart wait for one");
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
