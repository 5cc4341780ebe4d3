//! Third stage of a mount, pure: what lies in the volume. Built-in files, then the configurations of the
//! connectors' classes in the Pod's order (a later file replaces an earlier one of its name), then the
//! exclusions. `write` puts it in place.

mod builtin;
mod data;
mod document;
mod params;
mod renewal;

pub use builtin::TOKEN_FILE;
pub use renewal::{Renewed, renew};

use connectors_api::ConnectorClass;
use connectors_api::attributes::VolumeAttributes;
use connectors_api::class::Configuration;
use connectors_api::names::is_file_name;
use connectors_api::template::Template;
use secrecy::zeroize::Zeroize;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::error::Error;
use crate::inputs::{Inputs, VolumeConnector};
use crate::write::Files;

/// Pages of one generation: two of them (`write`) and the folders fit into the tmpfs (`mount::BLOCKS`).
const MAX_PAGES: usize = 120;
/// The smallest that a kernel has: what fits by these fits by larger ones, and a Pod has the same limit on each node.
const PAGE: usize = 4096;

/// All files of a volume.
pub fn render(attributes: &VolumeAttributes, token: &SecretString, inputs: &Inputs) -> Result<Files, Error> {
    let mut files = builtin::files(token, inputs);
    for (mounted, configuration) in wanted(attributes, inputs)? {
        let params = params::values(configuration, attributes.params.get(&configuration.name))?;
        let mut data = data::data(mounted, inputs, token, params);
        let rendered = render_configuration(&mounted.class, configuration, &data);
        if let Some(Value::String(token)) = data.pointer_mut(data::TOKEN) {
            token.zeroize();
        }
        files.append(&mut rendered?);
    }
    files.retain(|name, _| !attributes.exclude.contains(name));
    check_size(&files)?;
    Ok(files)
}

/// The configurations asked for, in order: by name, and by class within a name. Some may exist in no class,
/// but not all.
fn wanted<'a>(
    attributes: &VolumeAttributes,
    inputs: &'a Inputs,
) -> Result<Vec<(&'a VolumeConnector, &'a Configuration)>, Error> {
    let classes = one_per_class(&inputs.connectors);
    let found: Vec<_> = attributes.include.iter().flat_map(|name| named(&classes, name)).collect();
    if found.is_empty() && !attributes.include.is_empty() {
        return Err(Error::UnknownConfigurations {
            asked: attributes.include.clone(),
            known: known(&classes),
        });
    }
    Ok(found)
}

/// The last connector of each class: connectors of one class share a file, which lists them by `.connectors`.
fn one_per_class(connectors: &[VolumeConnector]) -> Vec<&VolumeConnector> {
    let mut classes: Vec<&VolumeConnector> = Vec::new();
    for mounted in connectors.iter().rev() {
        let class = &mounted.connector.spec.connector_class_name;
        if !classes.iter().any(|other| other.connector.spec.connector_class_name == *class) {
            classes.push(mounted);
        }
    }
    classes.reverse();
    classes
}

fn named<'a>(classes: &[&'a VolumeConnector], name: &str) -> Vec<(&'a VolumeConnector, &'a Configuration)> {
    let of_class = |mounted: &&'a VolumeConnector| {
        let mounted = *mounted;
        mounted.class.spec.configurations.iter().filter(|one| one.name == name).map(move |one| (mounted, one))
    };
    classes.iter().flat_map(of_class).collect()
}

fn known(classes: &[&VolumeConnector]) -> String {
    let of_class = |mounted: &&VolumeConnector| {
        let names: Vec<_> = mounted.class.spec.configurations.iter().map(|one| one.name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!("connectorclass {:?} has {names}", mounted.connector.spec.connector_class_name)
    };
    classes.iter().map(of_class).collect::<Vec<_>>().join("; ")
}

fn render_configuration(
    class: &ConnectorClass,
    configuration: &Configuration,
    data: &Value,
) -> Result<Files, Error> {
    configuration
        .data
        .iter()
        .map(|(file, text)| render_file(class, configuration, file, text, data))
        .collect()
}

fn render_file(
    class: &ConnectorClass,
    configuration: &Configuration,
    file: &str,
    text: &str,
    data: &Value,
) -> Result<(String, SecretString), Error> {
    let (class, configuration) =
        (class.metadata.name.clone().unwrap_or_default(), configuration.name.clone());
    if !is_file_name(file) {
        return Err(Error::FileName { class, configuration, file: file.to_owned() });
    }
    let rendered = Template::parse(text).and_then(|template| template.render(data));
    let failed = |source| Error::Template {
        class: class.clone(),
        configuration: configuration.clone(),
        file: file.to_owned(),
        source,
    };
    let content = rendered.map_err(failed)?;
    let content = SecretString::from(content);
    match document::broken(file, content.expose_secret()) {
        None => Ok((file.to_owned(), content)),
        Some(format) => Err(Error::NotOneDocument { class, configuration, file: file.to_owned(), format }),
    }
}

/// What the files take of a tmpfs, in pages of so many bytes.
pub fn pages(files: &Files, page: usize) -> usize {
    files.values().map(|content| content.expose_secret().len().div_ceil(page)).sum()
}

fn check_size(files: &Files) -> Result<(), Error> {
    let pages = pages(files, PAGE);
    match pages <= MAX_PAGES {
        true => Ok(()),
        false => Err(Error::TooLarge(pages * PAGE / 1024)),
    }
}

#[cfg(test)]
mod tests;
