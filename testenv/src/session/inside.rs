//! What runs inside the namespaces, each a call of our own binary: an init that buries orphans, the holder
//! that starts the clusters and then the user's command, one process per cluster.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rustix::io::retry_on_intr;
use rustix::process::{WaitOptions, wait};

use super::mounts;
use super::wait::{Signals, watch};
use crate::cluster::{self, Layout, Site};
use crate::control_plane::write;
use crate::plan::{Kind, Plan};
use crate::process::{bound, spawn};
use crate::say::say;

/// The roles inside.
#[derive(Clone, Copy, ValueEnum)]
pub enum Stage {
    Init,
    Hold,
    Home,
    Target,
}

/// Plays one role; returns an exit status.
pub async fn inside(stage: Stage, plan_file: &Path) -> Result<u8> {
    let plan: Plan = serde_json::from_slice(&std::fs::read(plan_file).context("read the plan of this run")?)?;
    match stage {
        Stage::Init => init(plan_file).await,
        Stage::Hold => hold(&plan, plan_file).await,
        Stage::Home => cluster::hold(&plan, Layout::HOME, plan.home).await,
        Stage::Target => {
            mounts::set_up(&plan.scratch.join(Layout::TARGET.name), "127.0.0.1")?;
            cluster::wait_for_link()?;
            cluster::hold(&plan, Layout::TARGET, plan.target).await
        }
    }
}

/// A call of our own binary in a role.
pub(super) fn call(stage: Stage, plan_file: &Path) -> Result<[OsString; 4]> {
    let name = stage.to_possible_value().context("every role has a name")?;
    Ok([std::env::current_exe()?.into(), "inside".into(), name.get_name().into(), plan_file.into()])
}

/// Whether the user's command was started: from then on a failure is its own.
pub(super) fn has_started(plan: &Plan) -> bool {
    started_file(plan).exists()
}

fn started_file(plan: &Plan) -> PathBuf {
    plan.scratch.join("started")
}

/// Process 1. A signal from outside reaches it only because it listens for one.
async fn init(plan_file: &Path) -> Result<u8> {
    let mut signals = Signals::new()?;
    let holder = spawn(role(Stage::Hold, plan_file)?)?;
    let (report, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || report.send(bury(holder.id())));
    tokio::select! {
        ended = ended => ended?,
        status = signals.next() => Ok(status),
    }
}

/// Waits for the holder. Every orphan becomes a child of process 1 and stays a zombie until it is waited for.
fn bury(holder: u32) -> Result<u8> {
    loop {
        let Some((pid, status)) = retry_on_intr(|| wait(WaitOptions::empty()))? else { continue };
        if u32::try_from(pid.as_raw_nonzero().get()) == Ok(holder) {
            let code =
                status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
            return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
        }
    }
}

fn role(stage: Stage, plan_file: &Path) -> Result<Command> {
    let [program, args @ ..] = call(stage, plan_file)?;
    let mut command = bound(program);
    command.args(args);
    Ok(command)
}

/// Starts the clusters side by side, then the command.
async fn hold(plan: &Plan, plan_file: &Path) -> Result<u8> {
    let resolver =
        if plan.home == Kind::Node { Layout::HOME.dns().to_string() } else { "127.0.0.1".to_owned() };
    mounts::set_up(&plan.scratch.join(Layout::HOME.name), &resolver)?;
    let mut clusters = Vec::new();
    if plan.home == Kind::None {
        cluster::set_up_network(&Layout::HOME)?;
    } else {
        let mut home = role(Stage::Home, plan_file)?;
        home.stdin(Stdio::null());
        clusters.push((Layout::HOME, spawn(home)?));
    }
    if plan.target != Kind::None {
        clusters.push((Layout::TARGET, start_target(plan_file).await?));
    }
    for (layout, process) in &mut clusters {
        until_ready(plan, *layout, process).await?;
    }
    write(&started_file(plan), "")?;
    if plan.command.is_none() {
        welcome(plan);
    }
    let mut command = spawn(plan.command()?).context("start the command")?;
    watch(&mut command, || clusters.iter_mut().try_for_each(|(layout, process)| alive(*layout, process)))
        .await
}

/// The target's namespaces are its own; the cable can be laid as soon as they exist.
async fn start_target(plan_file: &Path) -> Result<Child> {
    let mut command = bound("unshare");
    command
        .args(["--net", "--mount", "--propagation", "private"])
        .args(call(Stage::Target, plan_file)?)
        .stdin(Stdio::null());
    let mut process = spawn(command)?;
    let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    while network(&process.id().to_string()) == network("self") {
        alive(Layout::TARGET, &mut process)?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster::join(process.id())?;
    Ok(process)
}

async fn until_ready(plan: &Plan, layout: Layout, process: &mut Child) -> Result<()> {
    let ready = Site::ready_file(&plan.scratch.join(layout.name));
    while !ready.exists() {
        alive(layout, process)?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// It has said on stderr why it ended.
fn alive(layout: Layout, process: &mut Child) -> Result<()> {
    let ended = process.try_wait()?;
    ensure!(ended.is_none(), "the {} cluster ended", layout.name);
    Ok(())
}

fn welcome(plan: &Plan) {
    say("a shell beside the cluster; exit ends both, and nothing of them is left");
    for (layout, _) in plan.clusters() {
        let variable =
            if layout.is_target() { "TARGET_KUBECONFIG, TARGET_URL, TARGET_CA" } else { "KUBECONFIG" };
        say(format_args!("{}: {} ({variable})", layout.name, layout.place().url()));
    }
    say(format_args!("logs: {}", plan.scratch.join("log").display()));
}
