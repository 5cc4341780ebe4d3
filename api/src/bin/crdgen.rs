//! Writes the CustomResourceDefinitions into config/crd, or with `--check` fails if what is there is not what
//! it would write. Usage: `crdgen [--check] [DIR]`; DIR is config/crd beside this crate by default.

use std::path::PathBuf;
use std::process::ExitCode;

use connectors_api::crd;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

const DEFAULT_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/crd");
const HEADER: &str = "# Generated from the types in api/src by `make crds`; do not edit.\n";

type Failure = Box<dyn std::error::Error>;

#[allow(clippy::print_stderr, reason = "a command line tells its user")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = arguments.iter().any(|argument| argument == "--check");
    let dir = PathBuf::from(
        arguments.iter().find(|argument| !argument.starts_with('-')).map_or(DEFAULT_DIR, String::as_str),
    );
    let crds = [crd::connector(), crd::connector_class()];
    let drifted = crds
        .iter()
        .map(|crd| if check { is_current(&dir, crd) } else { write(&dir, crd) })
        .collect::<Result<Vec<_>, _>>();
    match drifted {
        Ok(current) if current.iter().all(|current| *current) => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!("{} is not what the types say: run `make crds` and commit the result", dir.display());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

fn path(dir: &std::path::Path, crd: &CustomResourceDefinition) -> PathBuf {
    dir.join(format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural))
}

fn text(crd: &CustomResourceDefinition) -> Result<String, Failure> {
    Ok(format!("{HEADER}{}", serde_yaml_ng::to_string(crd)?))
}

fn write(dir: &std::path::Path, crd: &CustomResourceDefinition) -> Result<bool, Failure> {
    std::fs::write(path(dir, crd), text(crd)?)?;
    Ok(true)
}

fn is_current(dir: &std::path::Path, crd: &CustomResourceDefinition) -> Result<bool, Failure> {
    Ok(std::fs::read_to_string(path(dir, crd))
        .is_ok_and(|found| text(crd).is_ok_and(|wanted| wanted == found)))
}
