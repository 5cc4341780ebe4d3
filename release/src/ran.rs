//! Other programs, asked for one answer.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What a program says on standard output; its failure is ours.
pub(crate) fn answer(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {}", said.trim());
    Ok(String::from_utf8(output.stdout)?)
}
