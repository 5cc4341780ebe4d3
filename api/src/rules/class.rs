//! A class by itself: its templates and expressions, and parts that this version does not carry out.

use crate::class::{Configuration, HttpProbe, Probe};
use crate::conditions::{CONNECTOR_CLASS_READY, reason};
use crate::expression::Expression;
use crate::names::{PLAINTEXT_ANNOTATION, WHO_AM_I_ANNOTATION, is_file_name};
use crate::template::Template;
use crate::{ConnectorClass, class::AuthType};

use super::{Violation, class_annotation};

/// Finds the first part of a class that cannot work. A class that fails is refused as a whole: half of it
/// would surprise.
pub fn check_class(class: &ConnectorClass) -> Result<(), Violation> {
    let spec = &class.spec;
    check_annotations(class)?;
    spec.auth.iter().flat_map(|auth| &auth.types).try_for_each(check_auth_type)?;
    check_names("addressExtensions", spec.address_extensions.iter().map(|param| param.name.as_str()))?;
    check_names("params", spec.params.iter().map(|param| param.name.as_str()))?;
    if let Some(probe) = &spec.liveness_probe {
        check_probe("livenessProbe", probe)?;
    }
    for auth_probe in &spec.auth_probes {
        let Some(probe) = &auth_probe.probe else { continue };
        check_probe(&format!("authProbes[{}].probe", auth_probe.auth_name), probe)?;
    }
    spec.configurations.iter().try_for_each(check_configuration)
}

fn broken(place: &str, problem: impl std::fmt::Display) -> Violation {
    Violation {
        condition: CONNECTOR_CLASS_READY,
        reason: reason::CLASS_INVALID,
        message: format!("{place}: {problem}"),
    }
}

/// What a misspelled word would switch off without a sign.
fn check_annotations(class: &ConnectorClass) -> Result<(), Violation> {
    for (name, known) in [(WHO_AM_I_ANNOTATION, "kubernetes"), (PLAINTEXT_ANNOTATION, "deny")] {
        match class_annotation(class, name) {
            Some(value) if value != known => {
                return Err(broken(
                    &format!("annotation {name}"),
                    format!("is {value:?}: only {known:?} is known"),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_auth_type(auth: &AuthType) -> Result<(), Violation> {
    match &auth.generator {
        Some(generator) if !generator.rego.is_empty() => {
            let place = format!("auth.types[{}].generator.rego", auth.name);
            Err(broken(
                &place,
                "this version does not run it: use an auth type with a known secretType and no generator",
            ))
        }
        _ => Ok(()),
    }
}

fn check_names<'a>(place: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Violation> {
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            return Err(broken(place, format!("{name:?} is declared twice")));
        }
        seen.push(name);
    }
    Ok(())
}

fn check_probe(place: &str, probe: &Probe) -> Result<(), Violation> {
    if let Some(http) = &probe.http {
        check_http_probe(&format!("{place}.http"), http)?;
    }
    probe.api.iter().try_for_each(|api| check_template(&format!("{place}.api.path"), &api.path))
}

fn check_http_probe(place: &str, probe: &HttpProbe) -> Result<(), Violation> {
    check_template(&format!("{place}.path"), &probe.path)?;
    for header in &probe.http_headers {
        if header.name.is_empty() {
            return Err(broken(
                &format!("{place}.httpHeaders"),
                "write a list of objects with name and value, both strings",
            ));
        }
        check_template(&format!("{place}.httpHeaders[{}]", header.name), &header.value)?;
    }
    match &probe.response {
        Some(response) if !response.cel.is_empty() => Expression::compile(&response.cel)
            .map(drop)
            .map_err(|error| broken(&format!("{place}.response.cel"), error)),
        _ => Ok(()),
    }
}

fn check_configuration(configuration: &Configuration) -> Result<(), Violation> {
    for (file, text) in &configuration.data {
        let place = format!("configurations[{}].data[{file}]", configuration.name);
        if !is_file_name(file) {
            return Err(broken(
                &place,
                "a file name has only letters, digits, \"-\", \"_\" and \".\", and does not start with \"..\"",
            ));
        }
        check_template(&place, text)?;
    }
    Ok(())
}

fn check_template(place: &str, text: &str) -> Result<(), Violation> {
    Template::parse(text).map(drop).map_err(|error| broken(place, error))
}
