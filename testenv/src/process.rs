//! Processes that end with us: started by one thread that never ends, killed by the kernel when this process
//! dies in any way, killed by [`Drop`] otherwise. Each writes into a log file of its own.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::say::say;

/// How often a long step says that it is still alive.
const REPORT: Duration = Duration::from_secs(5);

type Job = (Command, Sender<io::Result<Child>>);

/// The kernel's death signal fires when the *thread* that forked ends, and test threads end early: this one
/// does not.
static SPAWNER: LazyLock<Sender<Job>> = LazyLock::new(|| {
    let (jobs, queue) = channel::<Job>();
    // Without a thread the queue is dropped, and every spawn reports it.
    let _ = std::thread::Builder::new().name("spawner".into()).spawn(move || {
        for (mut command, answer) in queue {
            let _ = answer.send(command.spawn());
        }
    });
    jobs
});

/// A command that is killed when this process dies. The shell line closes the gap between fork and the call
/// that asks for the signal: a parent that died in between is no longer the parent.
pub fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "sh", "-c", r#"test "$PPID" = "$0" && exec "$@""#]);
    command.arg(std::process::id().to_string()).arg(program);
    command
}

/// Spawns a [`bound`] command.
pub fn spawn(command: Command) -> io::Result<Child> {
    let (answer, reply) = channel();
    let gone = || io::Error::other("the thread that starts processes is gone");
    SPAWNER.send((command, answer)).map_err(|_| gone())?;
    reply.recv().map_err(|_| gone())?
}

/// Runs a [`bound`] command to its end and says meanwhile that it does. Its output goes into `log`, which is
/// gone when all went well.
pub(crate) fn finish(mut command: Command, log: &Path, label: &str) -> Result<()> {
    let started = Instant::now();
    let mut reported = started;
    say(label);
    let output = File::create(log).with_context(|| format!("write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let mut child =
        spawn(command).context("start a command (through setpriv, which is in Debian's util-linux)")?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(50));
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            say(format_args!("{label}: {} s", started.elapsed().as_secs()));
        }
    };
    if !status.success() {
        bail!("{label} failed; the last lines of {}:\n{}", log.display(), tail(log, 15));
    }
    let _ = std::fs::remove_file(log);
    Ok(())
}

/// A running component.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a [`bound`] command with its output in `<logs>/<name>.log`.
    pub(crate) fn start(name: &str, mut command: Command, logs: &Path) -> Result<Process> {
        let path = logs.join(format!("{name}.log"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("write {}", path.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child =
            spawn(command).with_context(|| format!("start {name} (setpriv is in Debian's util-linux)"))?;
        Ok(Process { name: name.to_owned(), child, log: path })
    }

    /// Fails with the last lines of the log if the process has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); its last lines:\n{}", self.name, self.tail()),
        }
    }

    /// The last lines of the log.
    pub(crate) fn tail(&self) -> String {
        tail(&self.log, 15)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last `count` lines of a file, indented; nothing if it cannot be read.
pub(crate) fn tail(path: &Path, count: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| format!("    {line}\n")).collect()
}
