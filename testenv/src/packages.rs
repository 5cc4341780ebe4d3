//! Packages of other languages than Go and Rust, installed by their own package managers into the cache
//! folder beside the tools: once per state of the lock file, one installation at a time.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{bound, finish};
use crate::tools::{cache, digest, lock};

/// A command with its arguments.
pub type Step = Vec<OsString>;

/// The folder with the packages `name`, after the commands that fill it, if this machine does not have it yet
/// for this `state`: all that the result depends on, above all the lock file. The commands run in the folder
/// that they are given.
pub fn packages(name: &str, state: &[&str], steps: impl FnOnce(&Path) -> Vec<Step>) -> Result<PathBuf> {
    let parent = cache()?.join("packages");
    let folder = parent.join(format!("{name}-{}", digest(&state.join("\0"))));
    if folder.exists() {
        return Ok(folder);
    }
    let _lock = lock(&cache()?)?;
    // Another process may have been first, and we have waited for it.
    if folder.exists() {
        return Ok(folder);
    }
    // A folder with its final name is whole.
    let unfinished = parent.join(format!("{name}.unfinished"));
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir_all(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
    for step in steps(&unfinished) {
        let (program, arguments) = step.split_first().context("a step is a command")?;
        let mut command = bound(program);
        command.args(arguments).current_dir(&unfinished);
        let label = format!("installing {name} packages ({})", Path::new(program).display());
        finish(command, &parent.join(format!("{name}.log")), &label)?;
    }
    fs::rename(&unfinished, &folder)?;
    Ok(folder)
}
