//! Mounts of a node, in a mount namespace of its own: what kubelet and containerd write at fixed paths lands
//! in the scratch folder or in memory, never on the machine.

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use crate::control_plane::write;

/// Where clients, the driver and the kubelet agree that a kubelet's folder is.
const KUBELET: &str = "/var/lib/kubelet";

/// `dir` is the cluster's scratch folder; `resolver` the address of a DNS server, for commands of the user.
pub(super) fn set_up(dir: &Path, resolver: &str) -> Result<()> {
    // Mounts of Pods must reach the kubelet and back, as on any node.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .context("share mounts with Pods")?;
    let resolv_conf =
        fs::canonicalize("/etc/resolv.conf").unwrap_or_else(|_| PathBuf::from("/etc/resolv.conf"));
    in_memory("/run")?;
    in_memory("/var/log")?;
    kubelet(&dir.join("kubelet"))?;
    name_server(dir, &resolv_conf, resolver)
}

fn in_memory(path: &str) -> Result<()> {
    let options: Option<&CStr> = Some(c"mode=755");
    mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)
        .with_context(|| format!("mount {path}"))
}

/// The folder stays on the machine, empty: it may be under another run's mount.
fn kubelet(folder: &Path) -> Result<()> {
    for path in [folder, Path::new(KUBELET)] {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    }
    mount_bind(folder, KUBELET).with_context(|| format!("mount {KUBELET}"))?;
    // Not a peer of the folder it shows, or every volume would be mounted twice.
    mount_change(KUBELET, MountPropagationFlags::PRIVATE)?;
    Ok(mount_change(KUBELET, MountPropagationFlags::SHARED)?)
}

/// A file that links into `/run` is gone with it and is written anew.
fn name_server(dir: &Path, resolv_conf: &Path, resolver: &str) -> Result<()> {
    let text =
        format!("nameserver {resolver}\nsearch default.svc.cluster.local svc.cluster.local cluster.local\n");
    if resolv_conf.starts_with("/run") {
        fs::create_dir_all(resolv_conf.parent().context("a file has a folder")?)?;
        return write(resolv_conf, &text);
    }
    let ours = dir.join("resolv.conf.session");
    write(&ours, &text)?;
    mount_bind(&ours, resolv_conf).with_context(|| format!("mount {}", resolv_conf.display()))
}
