//! A command beside the clusters that it asked for, and nothing left when it ends: the options, the choice between loopback
//! (no root) and private namespaces (nodes), the environment of the command.

mod inside;
mod loopback;
mod mounts;
mod namespaces;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cluster::Layout;
use crate::process::bound;
use crate::scratch::Scratch;
use crate::tools::tool;
pub use inside::{Stage, inside};

/// What a cluster consists of.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Kind {
    None,
    /// etcd and kube-apiserver
    ControlPlane,
    /// a whole cluster that runs Pods
    Node,
}

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

/// Everything that the processes inside need to know.
#[derive(Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) scratch: PathBuf,
    /// The scratch folder's name, unique on this machine.
    pub(crate) run: String,
    pub(crate) home: Kind,
    pub(crate) target: Kind,
    pub(crate) target_cluster_info: bool,
    pub(crate) images: Vec<PathBuf>,
    /// None: the user's shell.
    command: Option<Vec<String>>,
}

/// Starts the clusters, runs the task, ends the clusters. Returns the command's exit status (128 + signal if one ended it).
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
        [(Layout::HOME, self.home), (Layout::TARGET, self.target)].into_iter().filter(|(_, kind)| *kind != Kind::None)
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
        let path = std::env::join_paths(std::iter::once(self.link_tools()?).chain(std::env::split_paths(&path)))?;
        command.env("PATH", path).env("TESTENV_DIR", &self.scratch);
        // kubectl caches by address, and the next run's cluster has the same: another must not be found in the user's home.
        command.env("KUBECACHEDIR", self.scratch.join("kubectl"));
        for (layout, _) in self.clusters() {
            let dir = self.scratch.join(layout.name);
            if layout.is_target() {
                command.env("TARGET_KUBECONFIG", dir.join("admin.kubeconfig")).env("TARGET_CA", dir.join("ca.crt"));
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

/// Waits for the command's end; an error of `check`, asked all the while, ends the waiting.
async fn watch(child: &mut Child, mut check: impl FnMut() -> Result<()>) -> Result<u8> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(code(status));
        }
        check()?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// As shells have it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Requests to end. From here on they no longer end this process at once, so that it can clean up.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    /// The exit status that tells of the signal.
    async fn next(&mut self) -> u8 {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
            _ = hangup.recv() => 129,
        }
    }
}
