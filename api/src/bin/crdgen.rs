//! Writes what is made from the types: the CustomResourceDefinitions in config/crd and docs/reference.md. With
//! `--check` fails if what is there is not what it would write. Usage: `crdgen [--check] [DIR]`; DIR is the root
//! of the repository, by default that of this crate.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use connectors_api::{crd, reference};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

const DEFAULT_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const HEADER: &str = "# Generated from the types in api/src by `make crds`; do not edit.\n";

type Failure = Box<dyn std::error::Error>;

struct File {
    path: PathBuf,
    text: String,
}

#[allow(clippy::print_stderr, reason = "a command line tells its user")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = arguments.iter().any(|argument| argument == "--check");
    let dir =
        arguments.iter().find(|argument| !argument.starts_with('-')).map_or(DEFAULT_DIR, String::as_str);
    match run(Path::new(dir), check) {
        Ok(drifted) if drifted.is_empty() => ExitCode::SUCCESS,
        Ok(drifted) => {
            for path in drifted {
                eprintln!(
                    "{} is not what the types say: run `make crds` and commit the result",
                    path.display()
                );
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The files that are not what the types say: none after they were written.
fn run(dir: &Path, check: bool) -> Result<Vec<PathBuf>, Failure> {
    let mut files = files(dir)?;
    if check {
        files.retain(|file| !std::fs::read_to_string(&file.path).is_ok_and(|found| found == file.text));
        return Ok(files.into_iter().map(|file| file.path).collect());
    }
    for File { path, text } in files {
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(Vec::new())
}

fn files(dir: &Path) -> Result<Vec<File>, Failure> {
    let crds = [crd::connector(), crd::connector_class()];
    let mut files = crds.iter().map(|crd| definition(dir, crd)).collect::<Result<Vec<_>, _>>()?;
    files.push(File { path: dir.join("docs/reference.md"), text: reference::reference(&crds) });
    Ok(files)
}

fn definition(dir: &Path, crd: &CustomResourceDefinition) -> Result<File, Failure> {
    let name = format!("config/crd/{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
    Ok(File { path: dir.join(name), text: format!("{HEADER}{}", serde_yaml_ng::to_string(crd)?) })
}
