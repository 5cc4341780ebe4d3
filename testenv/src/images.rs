//! The images that every node has: the Pods' sandbox, CoreDNS, and the kubectl that users know by its public
//! name. Made from our tools and the machine's static busybox, kept beside the tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::docker_archive::Image;
use crate::prerequisites::BUSYBOX;
use crate::tools::tool;

pub(crate) const PAUSE: &str = "connectors.local/pause:1";
pub(crate) const COREDNS: &str = "connectors.local/coredns:1";
/// The pages and samples name the first, older ones and what people report the second; here both are busybox and our
/// kubectl. The published one runs as root: what this one may do, that one may as well.
const KUBECTL: &[&str] = &["alpine/kubectl:1.35.4", "bitnami/kubectl:1.30.1"];

const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\nuser:x:1001:0:user:/tmp:/bin/sh\n";

/// The archives, written on first use.
pub(crate) fn built_in() -> Result<Vec<PathBuf>> {
    let coredns = tool("coredns")?;
    let folder = coredns.parent().context("tools have a folder")?.join("images");
    fs::create_dir_all(&folder)?;
    let busybox = PathBuf::from(BUSYBOX);
    [
        ("pause.tar", pause(&busybox)),
        ("coredns.tar", core_dns(coredns)),
        ("kubectl-by-two-names.tar", kubectl(&busybox)?),
    ]
    .into_iter()
    .map(|(name, image)| written(&folder.join(name), &image))
    .collect()
}

fn written(path: &Path, image: &Image) -> Result<PathBuf> {
    if !path.exists() {
        image.write(path)?;
    }
    Ok(path.to_owned())
}

fn pause(busybox: &Path) -> Image {
    let files = vec![(busybox.to_owned(), "bin/busybox")];
    Image {
        names: &[PAUSE],
        entrypoint: &["/bin/busybox", "sleep", "2147483647"],
        user: "65535",
        files,
        texts: &[],
        links: Vec::new(),
    }
}

fn core_dns(binary: PathBuf) -> Image {
    let files = vec![(binary, "bin/coredns")];
    Image { names: &[COREDNS], entrypoint: &["/bin/coredns"], user: "", files, texts: &[], links: Vec::new() }
}

fn kubectl(busybox: &Path) -> Result<Image> {
    let files = vec![(busybox.to_owned(), "bin/busybox"), (tool("kubectl")?, "usr/local/bin/kubectl")];
    let texts = &[("etc/passwd", PASSWD), ("etc/group", "root:x:0:\n")];
    let links = applets(busybox)?.into_iter().map(|name| (format!("bin/{name}"), "busybox")).collect();
    Ok(Image { names: KUBECTL, entrypoint: &["kubectl"], user: "1001", files, texts, links })
}

/// The commands that busybox can be called by.
fn applets(busybox: &Path) -> Result<Vec<String>> {
    let output = Command::new(busybox).arg("--list").output().context("run busybox")?;
    ensure!(output.status.success(), "busybox does not list its commands");
    let names = String::from_utf8(output.stdout)?;
    Ok(names
        .lines()
        .map(str::trim)
        .filter(|name| !name.is_empty() && *name != "busybox")
        .map(str::to_owned)
        .collect())
}
