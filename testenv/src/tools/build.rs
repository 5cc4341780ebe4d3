//! Building: where each binary goes, the lock that lets one build run at a time, `go build` with progress. Comes after
//! the table of tools.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{KUBERNETES, Module, Tool};
use crate::process::{bound, spawn, tail};
use crate::say::say;

/// How often a long build says that it is still alive.
const REPORT: Duration = Duration::from_secs(5);

/// Without these a kube-apiserver calls itself v0.0.0-master, and clients draw conclusions from that.
const VERSION_FLAGS: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36 \
     -X k8s.io/component-base/version.gitTreeState=clean";

/// The paths of the tools, after building those that are missing.
pub(super) fn all(wanted: &[&'static Tool]) -> Result<Vec<PathBuf>> {
    let paths = wanted.iter().map(|tool| path(tool)).collect::<Result<Vec<_>>>()?;
    if !paths.iter().all(|path| path.exists()) {
        let _lock = lock(&cache()?)?;
        let missing: Vec<_> = wanted.iter().zip(&paths).filter(|(_, path)| !path.exists()).collect();
        for (number, (tool, path)) in missing.iter().enumerate() {
            build(tool, path, &format!("{} ({} of {})", tool.name, number + 1, missing.len()))?;
        }
    }
    Ok(paths)
}

/// `$CONNECTORS_CACHE`, else the user's cache folder: outside of the checkout, so that a fresh clone builds nothing twice.
pub(crate) fn cache() -> Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = from("CONNECTORS_CACHE")
        .or_else(|| Some(from("XDG_CACHE_HOME")?.join("connectors")))
        .or_else(|| Some(from("HOME")?.join(".cache/connectors")))
        .context("no place for the built tools: set CONNECTORS_CACHE to a folder")?;
    fs::create_dir_all(&folder).with_context(|| format!("make the cache folder {}", folder.display()))?;
    Ok(std::path::absolute(folder)?)
}

fn path(tool: &Tool) -> Result<PathBuf> {
    Ok(folder(tool.module)?.join(tool.name))
}

/// One folder per state of a module: what is built from other versions, flags or by another Go is never mixed.
fn folder(module: &Module) -> Result<PathBuf> {
    let key = [module.go_mod, module.go_sum, ldflags(module), go_version()?].join("\0");
    let digest = openssl::sha::sha256(key.as_bytes());
    let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(cache()?.join("tools").join(name))
}

fn ldflags(module: &Module) -> &'static str {
    if std::ptr::eq(module, &KUBERNETES) { VERSION_FLAGS } else { "-s -w" }
}

/// Two builds of Kubernetes at once would need twice the memory and take longer than one after the other.
fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("tools.lock");
    let file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say(format_args!("another process builds the tools (lock {}): waiting for it", path.display()));
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => bail!("lock {}: {error}", path.display()),
    }
    Ok(file)
}

/// Builds into a temporary name first: a binary with its final name is whole.
fn build(tool: &Tool, path: &Path, label: &str) -> Result<()> {
    let source = folder(tool.module)?.join("module");
    fs::create_dir_all(&source)?;
    fs::write(source.join("go.mod"), tool.module.go_mod)?;
    fs::write(source.join("go.sum"), tool.module.go_sum)?;
    let unfinished = source.join(tool.name);
    let log = source.join(format!("{}.log", tool.name));
    run(go_build(tool, &source, &unfinished), &log, label)?;
    fs::rename(&unfinished, path)?;
    let _ = fs::remove_file(log);
    Ok(())
}

fn go_build(tool: &Tool, source: &Path, output: &Path) -> Command {
    let mut command = bound(go());
    // The user's own flags or workspace must not change what is pinned.
    command.current_dir(source).env("GOFLAGS", "").env("GOWORK", "off").env("CGO_ENABLED", if tool.cgo { "1" } else { "0" });
    command.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", ldflags(tool.module)]);
    if tool.cgo {
        command.args(["-tags", "seccomp"]);
    }
    command.arg("-o").arg(output).arg(tool.package);
    command
}

fn run(mut command: Command, log: &Path, label: &str) -> Result<()> {
    let started = Instant::now();
    let mut reported = started;
    say(format_args!("building {label}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?);
    let mut child = spawn(command).context("start go (through setpriv, which is in Debian's util-linux)")?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(50));
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            say(format_args!("building {label}: {} s", started.elapsed().as_secs()));
        }
    };
    if !status.success() {
        bail!("go could not build {label}; the last lines of {}:\n{}", log.display(), tail(log, 15));
    }
    Ok(())
}

/// Go's own folder counts too: root's PATH often lacks it.
fn go() -> PathBuf {
    let usual = PathBuf::from("/usr/local/go/bin/go");
    let on_path = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("go").is_file()));
    if !on_path && usual.exists() { usual } else { PathBuf::from("go") }
}

/// Asked in a folder without go.mod and once per process: it costs 10 ms.
fn go_version() -> Result<&'static str> {
    static VERSION: OnceLock<String> = OnceLock::new();
    if let Some(version) = VERSION.get() {
        return Ok(version);
    }
    let output = Command::new(go()).args(["env", "GOVERSION", "GOARCH"]).current_dir("/").output();
    let output = output.context("go was not found: install Go 1.26.8 or newer and put it on PATH")?;
    let version = String::from_utf8(output.stdout)?;
    if !output.status.success() || version.trim().is_empty() {
        bail!("go does not run: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(VERSION.get_or_init(|| version))
}
