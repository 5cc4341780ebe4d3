//! Scratch folders of runs: `<temp>/connectors-testenv-<uid>/<pid>-<n>` with a lock file beside it that the
//! run holds. Who starts next removes what killed runs left: folders whose lock is free.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A folder that is removed on drop, unless [`Scratch::keep_logs`] was called.
pub(crate) struct Scratch {
    path: PathBuf,
    lock: PathBuf,
    _held: File,
    keep: bool,
}

impl Scratch {
    /// Removes what killed runs left, then makes a folder for this one.
    pub(crate) fn new() -> Result<Scratch> {
        let base = base()?;
        for name in stale(&base) {
            remove(&base, &name);
        }
        let pid = std::process::id();
        for n in 0..10_000 {
            if let Some(scratch) = Scratch::claim(&base, &format!("{pid}-{n}"))? {
                return Ok(scratch);
            }
        }
        anyhow::bail!("no free folder name in {}: remove what is in it", base.display())
    }

    /// None if the name is taken: by a run of another pid namespace, by kept logs, or by one that is being
    /// cleaned up.
    fn claim(base: &Path, name: &str) -> Result<Option<Scratch>> {
        let lock = lock_path(base, name);
        let held = match File::create_new(&lock) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            other => other.with_context(|| format!("write {}", lock.display()))?,
        };
        held.lock()?;
        let path = base.join(name);
        // A cleaner may have taken the lock first and removed the file: then this name has no protection.
        if !lock.exists() || path.exists() {
            let _ = fs::remove_file(&lock);
            return Ok(None);
        }
        DirBuilder::new().mode(0o700).create(&path)?;
        DirBuilder::new().mode(0o700).create(path.join("log"))?;
        Ok(Some(Scratch { path, lock, _held: held, keep: false }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Unique on this machine while the folder is there.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Where the components log, one file each.
    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Leaves the logs (and only them) behind; returns their folder.
    pub(crate) fn keep_logs(&mut self) -> PathBuf {
        self.keep = true;
        self.logs()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            remove_all_but_logs(&self.path);
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
        let _ = fs::remove_file(&self.lock);
    }
}

/// Ours alone: other users of the machine must neither read keys nor plant links.
fn base() -> Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let base = std::env::temp_dir().join(format!("connectors-testenv-{uid}"));
    match DirBuilder::new().mode(0o700).create(&base) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        other => other.with_context(|| format!("make {}", base.display()))?,
    }
    let found = fs::symlink_metadata(&base)?;
    ensure!(
        found.is_dir() && found.uid() == uid,
        "{} is not a folder of this user: remove it",
        base.display()
    );
    Ok(base)
}

fn lock_path(base: &Path, name: &str) -> PathBuf {
    base.join(format!("{name}.lock"))
}

/// Names whose lock nobody holds.
fn stale(base: &Path) -> Vec<String> {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let names =
        entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".lock")?.to_owned()));
    names.filter(|name| File::open(lock_path(base, name)).is_ok_and(|lock| lock.try_lock().is_ok())).collect()
}

fn remove(base: &Path, name: &str) {
    let Ok(lock) = File::open(lock_path(base, name)) else { return };
    if lock.try_lock().is_ok() {
        crate::cgroup::remove(name);
        let _ = fs::remove_dir_all(base.join(name));
        let _ = fs::remove_file(lock_path(base, name));
    }
}

fn remove_all_but_logs(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_name() != "log" {
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
}
