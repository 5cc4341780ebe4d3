//! containerd with its network plugin and images: what a kubelet needs before it can run a Pod.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{STEP, Site};
use crate::control_plane::write;
use crate::images::{PAUSE, built_in};
use crate::process::{Process, bound};
use crate::tools::tool;

/// Of this mount namespace: `/run` is private.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Starts containerd; its network plugin and runc are our own.
pub(super) fn start(site: &Site) -> Result<Process> {
    let binary = tool("containerd")?;
    let tools = binary.parent().context("tools have a folder")?.to_owned();
    let networks = site.dir.join("networks");
    fs::create_dir_all(&networks)?;
    write(&networks.join("10-pods.conflist"), &network(site))?;
    let settings = site.dir.join("containerd.toml");
    write(&settings, &config(&site.dir, &tools, &networks)?)?;
    let mut command = bound(binary);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path)))?;
    command.env("PATH", path).arg("--config").arg(settings);
    Process::start("containerd", command, &site.logs)
}

/// Imports the built-in images and the user's, when containerd listens. Blocks.
pub(super) fn import(images: &[PathBuf], dir: &Path, logs: &Path) -> Result<()> {
    wait_for_socket(logs)?;
    for image in built_in()?.iter().chain(images) {
        let mut command = Command::new(tool("ctr")?);
        command.env("CONTAINERD_SNAPSHOTTER", snapshotter(dir)?);
        command.args(["--namespace", "k8s.io", "images", "import", "--local", "--all-platforms"]).arg(image);
        let output = command.stdin(Stdio::null()).output().context("run ctr")?;
        // Warnings about this machine come first.
        let error = String::from_utf8_lossy(&output.stderr);
        let error = error.trim().lines().last().unwrap_or_default();
        ensure!(output.status.success(), "import the image {}: {error}", image.display());
    }
    Ok(())
}

fn wait_for_socket(logs: &Path) -> Result<()> {
    let deadline = Instant::now() + STEP;
    while !Path::new(SOCKET).exists() {
        if Instant::now() > deadline {
            bail!(
                "containerd does not listen; its last lines:\n{}",
                crate::process::tail(&logs.join("containerd.log"), 15)
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A cable per Pod, routed by the node: Services work without a bridge filter in the kernel.
fn network(site: &Site) -> String {
    let data = site.dir.join("addresses");
    let addresses = json!({
        "type": "host-local", "ranges": [[{"subnet": site.layout.pods()}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": data,
    });
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": false, "ipam": addresses}]}).to_string()
}

/// `restrict_oom_score_adj`: lowering it needs a capability that even root may lack in a container.
fn config(dir: &Path, tools: &Path, networks: &Path) -> Result<String> {
    let snapshotter = snapshotter(dir)?;
    let (dir, tools, networks) = (dir.display(), tools.display(), networks.display());
    Ok(format!(
        "version = 3
root = '{dir}/containerd'
state = '/run/containerd'
[grpc]
  address = '{SOCKET}'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = '{snapshotter}'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{PAUSE}'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['{tools}']
  conf_dir = '{networks}'
[plugins.'io.containerd.internal.v1.opt']
  path = '{dir}/opt'
"
    ))
}

/// An overlay cannot lie on an overlay, which is what a container's own files are: there images are copied.
fn snapshotter(dir: &Path) -> Result<&'static str> {
    const OVERLAY: i64 = 0x794c_7630;
    Ok(if rustix::fs::statfs(dir)?.f_type == OVERLAY { "native" } else { "overlayfs" })
}
