//! Building: where each binary goes, the lock that lets one build run at a time, `go build` with progress.
//! Comes after the table of tools.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use super::{Module, Tool};
use crate::process::{bound, finish};
use crate::say::say;

/// The paths of the tools, after building those that are missing.
pub(super) fn all(wanted: &[&'static Tool]) -> Result<Vec<PathBuf>> {
    let paths = wanted.iter().map(|tool| path(tool)).collect::<Result<Vec<_>>>()?;
    if !paths.iter().all(|path| path.exists()) {
        let _lock = lock(&cache()?)?;
        let missing: Vec<_> = wanted.iter().zip(&paths).filter(|(_, path)| !path.exists()).collect();
        let left =
            |from: usize| missing.iter().skip(from).map(|(tool, _)| u32::from(tool.seconds)).sum::<u32>();
        for (number, (tool, path)) in missing.iter().enumerate() {
            let (of, usual, left) = (missing.len(), tool.seconds, left(number));
            build(
                tool,
                path,
                &format!(
                    "{} ({} of {of}, usually {usual} s; all that is left {left} s)",
                    tool.name,
                    number + 1
                ),
            )?;
        }
    }
    Ok(paths)
}

/// `$CONNECTORS_CACHE`, else the user's cache folder: outside of the checkout, so that a fresh clone builds
/// nothing twice.
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
    let name = tool
        .source
        .map_or_else(|| tool.name.to_owned(), |source| format!("{}-{}", tool.name, digest(source)));
    Ok(folder(tool.module)?.join(name))
}

/// One folder per state of a module: what is built from other versions, flags or by another Go is never
/// mixed.
pub(super) fn folder(module: &Module) -> Result<PathBuf> {
    let key = [module.go_mod, module.go_sum, module.ldflags, go_version()?].join("\0");
    Ok(cache()?.join("tools").join(digest(&key)))
}

pub(crate) fn digest(text: &str) -> String {
    openssl::sha::sha256(text.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Two builds of Kubernetes at once would need twice the memory and take longer than one after the other.
pub(crate) fn lock(cache: &Path) -> Result<File> {
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
    if let Some(program) = tool.source {
        fs::create_dir_all(source.join(tool.package))?;
        fs::write(source.join(tool.package).join("main.go"), program)?;
    }
    let unfinished = source.join(format!("{}.unfinished", tool.name));
    let log = source.join(format!("{}.log", tool.name));
    finish(go_build(tool, &source, &unfinished), &log, &format!("building {label}"))?;
    Ok(fs::rename(&unfinished, path)?)
}

/// Of one compiler or linker, of which Go runs as many at a time as there are CPUs: from here on it collects
/// its garbage.
const MEMORY: &str = "2GiB";

fn go_build(tool: &Tool, source: &Path, output: &Path) -> Command {
    let mut command = bound(go());
    // The user's own flags or workspace must not change what is pinned. The compiler runs once for each
    // package and ends: collecting its garbage costs a sixth of the CPU and saves memory that is there.
    command.env("GOGC", "off").env("GOMEMLIMIT", MEMORY);
    command
        .current_dir(source)
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", if tool.cgo { "1" } else { "0" });
    command.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", tool.module.ldflags]);
    if tool.cgo {
        command.args(["-tags", "seccomp"]);
    }
    command.arg("-o").arg(output).arg(tool.package);
    command
}

/// Go's own folder counts too: root's PATH often lacks it.
pub(super) fn go() -> PathBuf {
    let usual = PathBuf::from("/usr/local/go/bin/go");
    let on_path = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("go").is_file()));
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
