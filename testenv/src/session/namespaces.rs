//! The outer process of a run with nodes: makes the namespaces, waits for what is inside, removes what the
//! kernel keeps. When the first process inside ends, however it ends, the kernel ends all others; interfaces
//! and mounts go with the namespaces.

use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::inside::{self, Stage};
use super::wait::{Signals, watch};
use crate::control_plane::write;
use crate::plan::Plan;
use crate::process::{bound, spawn};
use crate::say::say;
use crate::scratch::Scratch;

/// Runs the plan's command and clusters in namespaces of their own.
pub(super) async fn run(plan: Plan, mut scratch: Scratch) -> Result<u8> {
    let mut signals = Signals::new()?;
    let _groups = Groups::new(&plan)?;
    let file = plan.scratch.join("plan.json");
    write(&file, &serde_json::to_string(&plan)?)?;
    let mut command = bound("unshare");
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--ipc",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation",
        "private",
    ]);
    command.args(inside::call(Stage::Init, &file)?);
    let mut tree = Tree(spawn(command).context("start unshare (Debian package util-linux)")?);
    let ended = tokio::select! {
        ended = watch(&mut tree.0, || Ok(())) => ended,
        status = signals.next() => return Ok(status),
    };
    // A shell's status is that of its last command: no failure of ours, once it has started.
    let started = inside::has_started(&plan);
    if !started || (plan.command.is_some() && !matches!(ended, Ok(0))) {
        say(format_args!("logs of every component: {}", scratch.keep_logs().display()));
    }
    ended
}

/// unshare and everything below.
struct Tree(Child);

impl Tree {
    /// To the first process inside rather than to unshare: so unshare waits for it, and when it is gone all
    /// of them are.
    fn signal(&mut self, signal: Signal, patience: Duration) {
        let pid = self.0.id();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in
            children.split_whitespace().filter_map(|child| child.parse().ok()).filter_map(Pid::from_raw)
        {
            let _ = kill_process(child, signal);
        }
        let deadline = Instant::now() + patience;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Tree {
    /// A first process that does not listen yet is killed.
    fn drop(&mut self) {
        self.signal(Signal::TERM, Duration::from_secs(3));
        self.signal(Signal::KILL, Duration::from_secs(10));
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The control groups of the run; declared before the processes, so removed after them.
struct Groups(String);

impl Groups {
    fn new(plan: &Plan) -> Result<Groups> {
        let groups = Groups(plan.run.clone());
        for (layout, _) in plan.clusters() {
            crate::cgroup::create(&plan.run, layout.name)?;
        }
        Ok(groups)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        crate::cgroup::remove(&self.0);
    }
}
