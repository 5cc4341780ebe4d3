//! Control groups of a run: one folder per hierarchy for all its Pods, so that the kubelets of two runs never
//! clean up each other's. The kernel keeps empty ones: whoever ends or cleans up a run removes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// The group below which a cluster's kubelet makes its own, as the kubelet names it.
pub(crate) fn path(run: &str, cluster: &str) -> String {
    format!("/{}/{cluster}", name(run))
}

/// Makes the group in every hierarchy; the kubelet wants to find it.
pub(crate) fn create(run: &str, cluster: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let folder = hierarchy.join(name(run)).join(cluster);
        fs::create_dir_all(&folder)
            .with_context(|| format!("make the control group {}", folder.display()))?;
    }
    Ok(())
}

/// Removes a run's groups. Its processes may still be about to vanish: they get a few seconds.
pub(crate) fn remove(run: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name(run));
        while group.exists() && !remove_tree(&group) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn name(run: &str) -> String {
    format!("connectors-testenv-{run}")
}

/// Version 2 is one hierarchy, version 1 has one folder per controller (and links for their combinations).
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").exists()).collect()
}

/// Inner groups first; the files in them are the kernel's.
fn remove_tree(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok()
}
