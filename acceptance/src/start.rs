//! The way into a cluster of one's own: cargo starts a test program outside, and it starts itself again
//! inside of `testenv run`.

#![allow(clippy::print_stderr, reason = "part of a test runner")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

/// Runs this program again, with `words` and the variable `inside` set, beside a node that has the images of
/// `make images`. The target needs no node: an API server that lists Pods is enough.
pub fn again_beside_a_node(inside: &str, words: &[String]) -> Result<ExitCode> {
    let mut command = Command::new(built("testenv")?);
    command.args(["run", "--home", "node", "--target", "control-plane"]);
    for component in ["gateway", "controller", "csi"] {
        let image = format!("{}/../target/images/connectors-{component}.tar", env!("CARGO_MANIFEST_DIR"));
        ensure!(
            Path::new(&image).exists(),
            "{image} is missing: the node tests run the images of `make images`"
        );
        command.args(["--image", &image]);
    }
    let status = command
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(words)
        .env(inside, "1")
        .status()
        .context("start testenv")?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    // One that was ended by a signal from outside has said nothing itself.
    eprintln!("testenv run: {status}");
    Ok(ExitCode::FAILURE)
}

/// A program of the workspace, beside this one or the folder of the test programs: `make images` builds it, and so does
/// cargo for all tests together.
pub fn built(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let mut folders = program.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let beside = folders.find(|path| path.is_file());
    beside.with_context(|| format!("{name} is not beside {}: `make images` builds it", program.display()))
}
