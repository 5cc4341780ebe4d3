//! What the system gives to a binary or an image, by Debian's packages: those that own the static libraries
//! which its compiler takes, and the certificate authorities.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::ran::answer;

/// The C library and the compiler's own are in every static binary.
const LIBRARIES: [&str; 4] = ["libssl.a", "libcrypto.a", "libc.a", "libgcc_eh.a"];
const AUTHORITIES: &str = "ca-certificates";
const FIELDS: &str = "${Package}\t${Version}\t${Architecture}\t${source:Package}";

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// What security notices name.
    pub source: String,
    /// For example `debian`, `debian-12`.
    pub system: (String, String),
}

/// `target` is Rust's name of it.
pub fn linked(target: &str) -> Result<BTreeSet<Package>> {
    let release = std::fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let system = system(&release).context("/etc/os-release does not say which system this is")?;
    let owners = LIBRARIES.iter().map(|library| owner(target, library)).collect::<Result<BTreeSet<_>>>()?;
    let owners = owners.into_iter().chain([AUTHORITIES.to_owned()]);
    owners.map(|name| package(&name, &system)).collect()
}

/// The compiler's version: its standard library is in every binary of ours.
pub fn rust() -> Result<String> {
    let said = answer(Command::new("rustc").arg("--version"))?;
    said.split(' ').nth(1).map(str::to_owned).with_context(|| format!("rustc says {said:?}"))
}

/// The package that has the library which this target's compiler links.
fn owner(target: &str, library: &str) -> Result<String> {
    let compiler = format!("{}-gcc", target.replace("-unknown", ""));
    // Where an installation for another kind of machine has its C library: release/compile.sh links it from
    // there.
    let folder = format!("-B/usr/lib/{}", target.replace("-unknown", ""));
    let path = answer(Command::new(compiler).args([&folder, &format!("-print-file-name={library}")]))?;
    let path = Path::new(path.trim());
    ensure!(
        path.is_absolute(),
        "the compiler for {target} finds no {library}: `make release` says which packages it needs"
    );
    let path = path.canonicalize()?;
    let said = answer(Command::new("dpkg-query").arg("--search").arg(&path))?;
    let owner =
        said.lines().next().and_then(|line| line.rsplit_once(": ")).map(|(owner, _)| owner.to_owned());
    owner.with_context(|| format!("dpkg-query says {said:?} of {}", path.display()))
}

fn package(name: &str, system: &(String, String)) -> Result<Package> {
    let said = answer(Command::new("dpkg-query").args(["--show", "--showformat", FIELDS, name]))?;
    let fields: Vec<&str> = said.split('\t').collect();
    let [name, version, architecture, source] = fields[..] else {
        anyhow::bail!("dpkg-query says {said:?} of {name}");
    };
    let text = |field: &str| field.to_owned();
    Ok(Package {
        name: text(name),
        version: text(version),
        architecture: text(architecture),
        source: text(source),
        system: system.clone(),
    })
}

fn system(release: &str) -> Option<(String, String)> {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches('"').to_owned())
    };
    let id = value("ID=")?;
    let version = value("VERSION_ID=")?;
    Some((id.clone(), format!("{id}-{version}")))
}
