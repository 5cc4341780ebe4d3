//! Container images without a registry or a daemon: one layer from files of this machine, written as a
//! docker-archive tar that containerd imports.

use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use openssl::sha::sha256;
use serde_json::json;
use tar::{Builder, EntryType, Header};

/// What goes into an image.
pub(crate) struct Image {
    /// `name:tag` each; any name may be taken, nothing is pulled.
    pub(crate) names: &'static [&'static str],
    pub(crate) entrypoint: &'static [&'static str],
    /// A numeric user, or empty for root.
    pub(crate) user: &'static str,
    /// Executables: where they are here, where they go.
    pub(crate) files: Vec<(PathBuf, &'static str)>,
    /// Small texts: where they go, what they say.
    pub(crate) texts: &'static [(&'static str, &'static str)],
    /// Symbolic links: where they are, what they point to.
    pub(crate) links: Vec<(String, &'static str)>,
}

impl Image {
    /// Writes the archive; the file appears under its name when it is whole.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let layer = self.layer()?;
        let diff = hex(&layer);
        let config = self.config(&diff);
        let config_name = format!("{}.json", hex(&config));
        let manifest =
            json!([{"Config": config_name, "RepoTags": self.names, "Layers": [format!("{diff}.tar")]}]);
        let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut archive = Builder::new(File::create(&unfinished)?);
        append(&mut archive, &config_name, 0o644, &config)?;
        append(&mut archive, &format!("{diff}.tar"), 0o644, &layer)?;
        append(&mut archive, "manifest.json", 0o644, manifest.to_string().as_bytes())?;
        archive.into_inner()?.flush()?;
        fs::rename(&unfinished, path).with_context(|| format!("write {}", path.display()))
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for (folder, mode) in
            [("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("proc", 0o755), ("sys", 0o755), ("tmp", 0o1777)]
        {
            append_kind(&mut layer, folder, EntryType::Directory, mode, None)?;
        }
        for (source, target) in &self.files {
            let bytes =
                fs::read(source).with_context(|| format!("read {} for an image", source.display()))?;
            append(&mut layer, target, 0o755, &bytes)?;
        }
        for (target, text) in self.texts {
            append(&mut layer, target, 0o644, text.as_bytes())?;
        }
        for (link, target) in &self.links {
            append_kind(&mut layer, link, EntryType::Symlink, 0o777, Some(target))?;
        }
        Ok(layer.into_inner()?)
    }

    fn config(&self, diff: &str) -> Vec<u8> {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "User": self.user, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
        });
        config.to_string().into_bytes()
    }
}

fn append<W: Write>(archive: &mut Builder<W>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, mode);
    header.set_size(bytes.len() as u64);
    Ok(archive.append_data(&mut header, path, Cursor::new(bytes))?)
}

fn append_kind<W: Write>(
    archive: &mut Builder<W>,
    path: &str,
    kind: EntryType,
    mode: u32,
    link: Option<&str>,
) -> Result<()> {
    let mut header = header(kind, mode);
    header.set_size(0);
    match link {
        Some(target) => archive.append_link(&mut header, path, target)?,
        None => archive.append_data(&mut header, path, std::io::empty())?,
    }
    Ok(())
}

/// Owned by root and without a time: the same content gives the same digest.
fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn hex(bytes: &[u8]) -> String {
    sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
