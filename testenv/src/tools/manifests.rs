//! Manifests of other products, out of the pinned modules in `tools-manifests/`: fetched on demand by Go, kept in
//! the cache folder beside the tools. Nothing of them is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::Module;
use super::build::{cache, folder, go, lock};
use crate::process::{bound, spawn};
use crate::say::say;

static MODULE: Module = Module {
    go_mod: include_str!("../../tools-manifests/go.mod"),
    go_sum: include_str!("../../tools-manifests/go.sum"),
    ldflags: "",
};

/// What a test calls it, the module, and the file in it.
const MANIFESTS: [[&str; 3]; 3] = [
    ["argo-cd.yaml", "github.com/argoproj/argo-cd/v3", "manifests/install.yaml"],
    [
        "flux-kustomizations.yaml",
        "github.com/fluxcd/kustomize-controller",
        "config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml",
    ],
    [
        "flux-kustomize-controller.yaml",
        "github.com/fluxcd/kustomize-controller",
        "config/manager/deployment.yaml",
    ],
];

/// The path of a manifest (`argo-cd.yaml`, …), fetched first if this machine does not have it yet.
pub fn manifest(name: &str) -> Result<PathBuf> {
    let known = MANIFESTS.iter().find(|[known, ..]| *known == name);
    let [_, module, file] = known.with_context(|| format!("there is no manifest {name:?}"))?;
    let path = folder(&MODULE)?.join(name);
    if !path.exists() {
        let _lock = lock(&cache()?)?;
        take(module, file, &path)?;
    }
    Ok(path)
}

/// Copies into a temporary name first: a file with its final name is whole.
fn take(module: &str, file: &str, path: &Path) -> Result<()> {
    let source = folder(&MODULE)?.join("module");
    fs::create_dir_all(&source)?;
    fs::write(source.join("go.mod"), MODULE.go_mod)?;
    fs::write(source.join("go.sum"), MODULE.go_sum)?;
    let found = fetched(&source, module)?.join(file);
    let unfinished = path.with_extension("unfinished");
    // Written anew: Go's copy is read-only, and `fs::copy` would copy that, too.
    let text = fs::read(&found).with_context(|| format!("read {}", found.display()))?;
    fs::write(&unfinished, text)?;
    Ok(fs::rename(&unfinished, path)?)
}

/// What `go mod download -json` says.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Download {
    dir: PathBuf,
    sum: String,
    error: Option<String>,
}

/// The folder of a module in the version of our go.mod. Go holds it against go.sum, if it is in there: that it
/// is, is held here.
fn fetched(source: &Path, module: &str) -> Result<PathBuf> {
    let version = version(module).with_context(|| format!("{module} is not in tools-manifests/go.mod"))?;
    let wanted = format!("{module}@{version}");
    say(format_args!("fetching {wanted} (seconds)"));
    let mut command = bound(go());
    command.args(["mod", "download", "-json", &wanted]).current_dir(source);
    command.env("GOFLAGS", "").env("GOWORK", "off");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = spawn(command).context("start go")?.wait_with_output()?;
    let answer: Download = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("go cannot fetch {wanted}: {}{}", answer.error.unwrap_or_default(), said.trim());
    }
    let line = format!("{module} {version} {}", answer.sum);
    ensure!(MODULE.go_sum.lines().any(|known| known == line), "tools-manifests/go.sum lacks the line {line}");
    Ok(answer.dir)
}

fn version(module: &str) -> Option<&'static str> {
    let lines = MODULE.go_mod.lines().map(|line| line.trim().trim_start_matches("require "));
    lines
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == module)
        .map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::{MANIFESTS, MODULE, version};

    #[test]
    fn each_manifest_is_of_a_module_whose_version_and_sum_are_pinned() {
        for [name, module, _] in MANIFESTS {
            let pinned = format!("{module} {} h1:", version(module).unwrap_or("without a version"));
            assert!(MODULE.go_sum.contains(&pinned), "{name}: {pinned}");
        }
    }
}
