//! A peer as a process of its own, and what the kernel counts for it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// Ends with its value.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command and waits until it listens. Its output goes to `log`.
    pub async fn start(mut command: Command, port: u16, log: &Path) -> Result<Process> {
        let file = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
        let program = command.as_std().get_program().to_owned();
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let mut process = Process { child, log: log.to_owned() };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(process);
            }
            if process.child.try_wait()?.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} does not listen: {}", program.display(), process.last_words())
    }

    fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2000)..]).into_owned()
    }

    fn path(&self, file: &str) -> Result<String> {
        let pid = self.child.id().with_context(|| format!("the process has ended: {}", self.last_words()))?;
        Ok(format!("/proc/{pid}/{file}"))
    }

    fn proc(&self, file: &str) -> Result<String> {
        Ok(std::fs::read_to_string(self.path(file)?)?)
    }

    /// User and system time in seconds; the kernel's unit is 1/100 s.
    pub fn cpu(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("a short stat")?.parse()?) };
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }

    pub fn resident_kib(&self) -> Result<f64> {
        kib(&self.proc("smaps_rollup")?, "Rss:")
    }

    /// The most that was resident since `forget_peak`.
    pub fn peak_kib(&self) -> Result<f64> {
        kib(&self.proc("status")?, "VmHWM:")
    }

    pub fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(self.path("clear_refs")?, "5")?)
    }
}

fn kib(text: &str, key: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

pub async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

/// Raises the number of open files, for this process and those that it starts, as far as it may. Gives what
/// it is then.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(1 << 20);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
