//! `sbom PACKAGE TARGET TIME` prints what is in one of our binaries, for example
//! `sbom connectors-gateway aarch64-unknown-linux-gnu 2026-11-28T12:00:00Z`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use connectors_release::{bom, crates, debian};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tells its user")]
fn main() -> ExitCode {
    match run() {
        Ok(text) => println!("{text}"),
        Err(error) => {
            eprintln!("sbom: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run() -> Result<String> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| {
        arguments.next().with_context(|| format!("usage: sbom PACKAGE TARGET TIME; there is no {what}"))
    };
    let (package, target, time) = (next("PACKAGE")?, next("TARGET")?, next("TIME")?);
    let linked = crates::linked(Path::new(FOLDER), &package, &target)?;
    let system = debian::linked(&target)?;
    let bom = bom::cyclone_dx(&linked, &system, &debian::rust()?, &time)?;
    Ok(serde_json::to_string_pretty(&bom)?)
}
