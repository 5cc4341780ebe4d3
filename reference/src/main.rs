//! Writes what is made from the types: the CustomResourceDefinitions in config/crd, docs/reference.md,
//! docs/reference-settings.md and what the chart accepts as settings. With `--check` fails if what is there is
//! not what it would write. Usage: `crdgen [--check] [DIR]`; DIR is the root of the repository, by default that
//! of this crate.

mod chart;
mod flags;
mod resources;
mod schema;
mod settings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory};
use connectors_api::crd;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

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
    files.push(File { path: dir.join("docs/reference.md"), text: resources::page(&crds) });
    let schema = connectors_gateway::settings::schema().to_value();
    let text = settings::page(&schema, &shipped(dir)?, &programs());
    files.push(File { path: dir.join("docs/reference-settings.md"), text });
    let path = dir.join("charts/connectors/values.schema.json");
    let text = chart::with_settings(&read(&path)?, &schema)?;
    files.push(File { path, text });
    Ok(files)
}

fn definition(dir: &Path, crd: &CustomResourceDefinition) -> Result<File, Failure> {
    let name = format!("config/crd/{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
    Ok(File { path: dir.join(name), text: format!("{HEADER}{}", serde_yaml_ng::to_string(crd)?) })
}

/// The settings that differ from the defaults in what is installed.
fn shipped(dir: &Path) -> Result<Value, Failure> {
    let map: ConfigMap = serde_yaml_ng::from_str(&read(&dir.join("config/gateway/settings.yaml"))?)?;
    let text = map.data.unwrap_or_default().remove(connectors_gateway::settings::FILE).unwrap_or_default();
    Ok(serde_yaml_ng::from_str(&text)?)
}

fn programs() -> [Command; 3] {
    let driver = connectors_csi::Settings::augment_args(Command::new("connectors-csi"));
    [
        connectors_gateway::flags::Flags::command(),
        connectors_controller::settings::Settings::command(),
        driver,
    ]
}

fn read(path: &Path) -> Result<String, Failure> {
    Ok(std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?)
}
