//! A command beside the clusters that it asked for, and nothing left when it ends: the options, the choice
//! between loopback (no root) and private namespaces (nodes), the environment of the command.

mod inside;
mod loopback;
mod mounts;
mod namespaces;
mod wait;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cluster::Layout;
pub use crate::plan::Kind;
use crate::plan::Plan;
use crate::process::bound;
use crate::scratch::Scratch;
use crate::tools::tool;
pub use inside::{Stage, inside};

/// Which clusters to start.
#[derive(Args)]
pub struct Options {
    /// The cluster that KUBECONFIG names.
    #[arg(long, value_enum, default_value = "node")]
    home: Kind,
    /// A second cluster that home's Pods can reach; TARGET_KUBECONFIG names it.
    #[arg(long, value_enum, default_value = "none")]
    target: Kind,
    /// A docker-archive tar for the nodes to have. Repeatable.
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Publish the target's authority in its kube-public/cluster-info, as kubeadm does.
    #[arg(long)]
    target_cluster_info: bool,
}

/// What to run.
pub enum Task {
    Command(Vec<String>),
    /// The user's shell, with a few lines on where they are. Its exit status is no failure.
    Shell,
}

/// Starts the clusters, runs the task, ends the clusters. Returns the command's exit status (128 + signal if
/// one ended it).
pub async fn run(options: Options, task: Task) -> Result<u8> {
    let command = match task {
        Task::Command(command) => Some(command),
        Task::Shell => None,
    };
    let images = options.images.iter().map(|image| present(image)).collect::<Result<_>>()?;
    let nodes = [options.home, options.target].contains(&Kind::Node);
    if nodes {
        crate::prerequisites::for_node()?;
    }
    tokio::task::spawn_blocking(move || prepare(nodes)).await??;
    let scratch = Scratch::new()?;
    let plan = Plan {
        scratch: scratch.path().to_owned(),
        run: scratch.name(),
        home: options.home,
        target: options.target,
        target_cluster_info: options.target_cluster_info,
        images,
        command,
    };
    if nodes { namespaces::run(plan, scratch).await } else { loopback::run(plan, scratch).await }
}

impl Plan {
    /// The clusters that are wanted, and what of each.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = (Layout, Kind)> {
        [(Layout::HOME, self.home), (Layout::TARGET, self.target)]
            .into_iter()
            .filter(|(_, kind)| *kind != Kind::None)
    }

    /// The user's command, or shell, with what it needs to find the clusters.
    fn command(&self) -> Result<Command> {
        let mut command = match &self.command {
            Some(words) => {
                let (program, args) = words.split_first().context("no command was given")?;
                let mut command = bound(program);
                command.args(args);
                command
            }
            None => bound(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(std::iter::once(self.link_tools()?).chain(std::env::split_paths(&path)))?;
        command.env("PATH", path).env("TESTENV_DIR", &self.scratch);
        // kubectl caches by address, and the next run's cluster has the same: another must not be found in
        // the user's home.
        command.env("KUBECACHEDIR", self.scratch.join("kubectl"));
        for (layout, _) in self.clusters() {
            let dir = self.scratch.join(layout.name);
            if layout.is_target() {
                command
                    .env("TARGET_KUBECONFIG", dir.join("admin.kubeconfig"))
                    .env("TARGET_CA", dir.join("ca.crt"));
                command.env("TARGET_URL", std::fs::read_to_string(dir.join("ready"))?);
            } else {
                command.env("KUBECONFIG", dir.join("admin.kubeconfig"));
            }
        }
        Ok(command)
    }

    /// A folder with the tools that people type.
    fn link_tools(&self) -> Result<PathBuf> {
        let folder = self.scratch.join("bin");
        std::fs::create_dir_all(&folder)?;
        let typed: &[&str] = if self.has_nodes() { &["kubectl", "ctr"] } else { &["kubectl"] };
        for name in typed {
            std::os::unix::fs::symlink(tool(name)?, folder.join(name))?;
        }
        Ok(folder)
    }

    fn has_nodes(&self) -> bool {
        self.clusters().any(|(_, kind)| kind == Kind::Node)
    }
}

/// Building needs the network and the user's caches: it is done before the namespaces exist.
fn prepare(nodes: bool) -> Result<()> {
    let mut names = vec!["kube-apiserver", "etcd", "kubectl"];
    if nodes {
        names.extend(["kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy", "containerd"]);
        names.extend(["containerd-shim-runc-v2", "ctr", "runc", "coredns", "ptp", "loopback", "host-local"]);
    }
    crate::tools::tools(&names)?;
    if nodes {
        crate::images::built_in()?;
    }
    Ok(())
}

fn present(image: &Path) -> Result<PathBuf> {
    ensure!(image.is_file(), "image {} does not exist: build it first (make images)", image.display());
    Ok(std::path::absolute(image)?)
}
