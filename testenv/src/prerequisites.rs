//! What a node needs of the machine beyond our tools: installed when we may, named in one sentence otherwise.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::say::say;

/// Static, because it runs in images without libraries.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// Debian's package, and the command in it that we look for.
const COMMANDS: [(&str, &str); 6] = [
    ("nftables", "nft"),
    ("conntrack", "conntrack"),
    ("iproute2", "ip"),
    ("util-linux", "unshare"),
    ("pkg-config", "pkg-config"),
    ("gcc", "gcc"),
];

/// Fails with one sentence if this machine cannot run a node.
pub(crate) fn for_node() -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "a node needs Linux: its containers and network are the kernel's");
    ensure!(
        rustix::process::geteuid().is_root(),
        "a node needs root (network and mount namespaces): run this as root, or use --home control-plane for an API server alone"
    );
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
        .with_context(|| format!("install these Debian packages first: {}", missing.join(" ")))?;
    let missing = self::missing();
    ensure!(
        missing.is_empty(),
        "these packages were installed, but what a node needs of them was not found: {}",
        missing.join(" ")
    );
    Ok(())
}

fn missing() -> Vec<&'static str> {
    let mut missing: Vec<_> =
        COMMANDS.iter().filter(|(_, command)| !on_path(command)).map(|(package, _)| *package).collect();
    if !is_static(Path::new(BUSYBOX)) {
        missing.push("busybox-static");
    }
    if !runs("pkg-config", &["--exists", "libseccomp"]) {
        missing.push("libseccomp-dev");
    }
    missing
}

fn install(packages: &[&str]) -> Result<()> {
    ensure!(on_path("apt-get"), "apt-get was not found");
    say(format_args!("installing Debian packages: {}", packages.join(" ")));
    // Another run may be installing the same.
    let install = ["install", "--yes", "--quiet", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"];
    let install = [&install, packages].concat();
    // The package lists of a new machine are empty or old.
    if runs("apt-get", &install) || (runs("apt-get", &["update", "--quiet"]) && runs("apt-get", &install)) {
        return Ok(());
    }
    bail!("apt-get could not install them")
}

fn runs(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn on_path(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(command).is_file())
}

/// A dynamic executable names its loader.
fn is_static(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| !bytes.windows(9).any(|window| window == b"/ld-linux"))
}
