//! Reads an OCI archive of images, as pack.sh writes it: what tests look at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::ran::answer;

pub struct Archive {
    /// What who imports it calls the image.
    pub name: String,
    pub images: Vec<Image>,
}

pub struct Image {
    /// `amd64`, `arm64`
    pub architecture: String,
    pub config: Value,
    /// The files of all layers.
    pub files: PathBuf,
}

/// Unpacks the archive with all of its images into an empty folder.
pub fn open(archive: &Path, folder: &Path) -> Result<Archive> {
    unpack(archive, folder)?;
    let top = json(&folder.join("index.json"))?;
    let entry = &top["manifests"][0];
    let name = text(&entry["annotations"]["org.opencontainers.image.ref.name"])?;
    let index = json(&blob(folder, entry)?)?;
    let manifests = index["manifests"].as_array().context("the archive has no list of images")?;
    let images = manifests.iter().map(|manifest| image(folder, manifest)).collect::<Result<_>>()?;
    Ok(Archive { name, images })
}

fn image(folder: &Path, entry: &Value) -> Result<Image> {
    let architecture = text(&entry["platform"]["architecture"])?;
    let manifest = json(&blob(folder, entry)?)?;
    let config = json(&blob(folder, &manifest["config"])?)?;
    let files = folder.join(&architecture);
    for layer in manifest["layers"].as_array().context("an image has no layers")? {
        unpack(&blob(folder, layer)?, &files)?;
    }
    Ok(Image { architecture, config, files })
}

fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    answer(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(folder)).map(drop)
}

fn blob(folder: &Path, descriptor: &Value) -> Result<PathBuf> {
    Ok(folder.join("blobs").join(text(&descriptor["digest"])?.replace(':', "/")))
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("{value} in place of a text"))
}
