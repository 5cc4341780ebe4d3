//! A Connector against its class: address, address extensions, parameters, auth, and where the Secret is.

use std::net::IpAddr;

use serde_json::Value;

use crate::class::ParamSpec;
use crate::conditions::{CONNECTOR_CLASS_READY, SECRET_READY, reason};
use crate::connector::{Auth, NamedValue, ObjectReference};
use crate::impersonation::Impersonation;
use crate::names::{
    ALLOW_IMPERSONATION_ANNOTATION, LEGACY_TLS_ANNOTATION, TLS_SERVER_NAME_ANNOTATION, is_object_name,
};
use crate::target::{Authority, Target};
use crate::{Connector, ConnectorClass};

use super::{Violation, auth_type, denies_plaintext, quoted};

pub fn check_connector(connector: &Connector, class: &ConnectorClass) -> Result<(), Violation> {
    check_texts(connector)?;
    check_address(connector, class)?;
    check_extensions(connector, class)?;
    check_params(connector, class)?;
    check_ca_secret(connector)?;
    impersonation(connector)?;
    tls_server_name(connector)?;
    legacy_tls(connector)?;
    check_encrypted(connector, class)?;
    check_auth(connector, class)
}

/// Whom its users may speak as.
pub fn impersonation(connector: &Connector) -> Result<Impersonation, Violation> {
    let name = ALLOW_IMPERSONATION_ANNOTATION;
    let parsed = Impersonation::parse(annotation(connector, name).unwrap_or_default());
    parsed.map_err(|error| unfit(reason::INVALID_PARAMETERS, format!("annotation {name} {error}")))
}

/// The name that its targets' certificate must have in place of the address's host.
pub fn tls_server_name(connector: &Connector) -> Result<Option<String>, Violation> {
    let name = TLS_SERVER_NAME_ANNOTATION;
    let Some(text) = annotation(connector, name) else { return Ok(None) };
    match Authority::parse(text) {
        Ok(Authority { host, port: None }) if host.parse::<IpAddr>().is_err() => Ok(Some(host)),
        _ => {
            let message =
                format!("annotation {name} must be one DNS name, as it stands in the target's certificate");
            Err(unfit(reason::INVALID_PARAMETERS, message))
        }
    }
}

/// Whether its targets may be without secure renegotiation.
pub fn legacy_tls(connector: &Connector) -> Result<bool, Violation> {
    let name = LEGACY_TLS_ANNOTATION;
    match annotation(connector, name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => {
            let message = format!("annotation {name} must be \"true\" or \"false\"");
            Err(unfit(reason::INVALID_PARAMETERS, message))
        }
    }
}

/// Where the class says so, no address is http.
fn check_encrypted(connector: &Connector, class: &ConnectorClass) -> Result<(), Violation> {
    if !denies_plaintext(class) {
        return Ok(());
    }
    let plain = |address: &&str| Target::parse(address).is_ok_and(|target| !target.tls);
    match addresses(connector, class).into_iter().find(plain) {
        Some(address) => {
            let class = class_name(connector);
            let message = format!(
                "address {address:?} is http, which connectorclass {class:?} does not allow, since the credential could be read on its way: use https"
            );
            Err(unfit(reason::INVALID_ADDRESS, message))
        }
        None => Ok(()),
    }
}

fn annotation<'a>(connector: &'a Connector, name: &str) -> Option<&'a str> {
    connector.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Every address that the credential may be sent to: `spec.address`, the extensions, and the class's defaults
/// of those left out.
pub fn addresses<'a>(connector: &'a Connector, class: &'a ConnectorClass) -> Vec<&'a str> {
    let given = &connector.spec.address_extensions;
    let left_out = |param: &&ParamSpec| given.iter().all(|value| value.name != param.name);
    let defaults = class
        .spec
        .address_extensions
        .iter()
        .filter(left_out)
        .filter_map(|param| param.default.as_ref()?.as_str());
    let own = given.iter().filter_map(NamedValue::as_str);
    [connector.spec.address.as_str()]
        .into_iter()
        .chain(own)
        .chain(defaults.filter(|address| !address.is_empty()))
        .collect()
}

fn unfit(reason: &'static str, message: String) -> Violation {
    Violation { condition: CONNECTOR_CLASS_READY, reason, message }
}

fn without_secret(reason: &'static str, message: String) -> Violation {
    Violation { condition: SECRET_READY, reason, message }
}

fn class_name(connector: &Connector) -> &str {
    &connector.spec.connector_class_name
}

/// Templates print what stands in a spec into files of others: no text may end its line, or show another
/// order than it has.
fn check_texts(connector: &Connector) -> Result<(), Violation> {
    let spec = serde_json::to_value(&connector.spec).unwrap_or_default();
    match unprintable("spec", &spec) {
        Some(place) if place == "spec.address" || place.starts_with("spec.addressExtensions") => {
            Err(unfit(reason::INVALID_ADDRESS, format!("{place} {NOT_PRINTABLE}")))
        }
        Some(place) => Err(unfit(reason::INVALID_PARAMETERS, format!("{place} {NOT_PRINTABLE}"))),
        None => Ok(()),
    }
}

const NOT_PRINTABLE: &str = "has a line break or another character that cannot be printed: remove it";

/// The place of the first text that cannot be printed on one line.
fn unprintable(place: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (!is_printable(text)).then(|| place.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| unprintable(&format!("{place}[{index}]"), item))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, field)| match is_printable(name) {
            true => unprintable(&format!("{place}.{name}"), field),
            false => Some(place.to_owned()),
        }),
        _ => None,
    }
}

/// Without control characters, line separators, and what is invisible or turns the direction of a text.
pub fn is_printable(text: &str) -> bool {
    let unseen = |c: char| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
            || ('\u{e0000}'..='\u{e007f}').contains(&c)
    };
    !text.chars().any(|c| c.is_control() || unseen(c))
}

fn check_address(connector: &Connector, class: &ConnectorClass) -> Result<(), Violation> {
    let address = &connector.spec.address;
    if address.is_empty() {
        let message =
            "spec.address is empty: set it to the URL of the tool, like https://host:6443".to_owned();
        return Err(unfit(reason::INVALID_ADDRESS, message));
    }
    Target::parse(address)
        .map_err(|error| unfit(reason::INVALID_ADDRESS, format!("spec.address {error}")))?;
    let allowed = class.spec.address.as_ref().map(|param| param.enum_.as_slice()).unwrap_or_default();
    check_enum("spec.address", address, allowed)
}

fn check_extensions(connector: &Connector, class: &ConnectorClass) -> Result<(), Violation> {
    let given = &connector.spec.address_extensions;
    let place = "spec.addressExtensions";
    for extension in given {
        let value = text_of(place, extension)?;
        let named = |problem: &dyn std::fmt::Display| format!("{place} {:?} {problem}", extension.name);
        Target::parse(value).map_err(|error| unfit(reason::INVALID_ADDRESS, named(&error)))?;
        if value == connector.spec.address {
            return Err(unfit(reason::INVALID_ADDRESS, named(&"repeats spec.address: remove it")));
        }
    }
    check_declared(place, given, &class.spec.address_extensions, class_name(connector))
}

fn check_params(connector: &Connector, class: &ConnectorClass) -> Result<(), Violation> {
    let place = "spec.params";
    for param in &connector.spec.params {
        let value = text_of(place, param)?;
        let declared = class.spec.params.iter().find(|declared| declared.name == param.name);
        let allowed = declared.map(|declared| declared.enum_.as_slice()).unwrap_or_default();
        check_enum(&format!("{place} {:?}", param.name), value, allowed)?;
    }
    check_declared(place, &connector.spec.params, &class.spec.params, class_name(connector))
}

/// Each value once and declared by the class, and every declared one without default given.
fn check_declared(
    place: &str,
    given: &[NamedValue],
    declared: &[ParamSpec],
    class: &str,
) -> Result<(), Violation> {
    let problem = |message: String| Err(unfit(reason::INVALID_PARAMETERS, message));
    for (index, value) in given.iter().enumerate() {
        let name = &value.name;
        if given.iter().take(index).any(|earlier| earlier.name == *name) {
            return problem(format!("{place} {name:?} is given twice: remove one"));
        }
        if declared.iter().all(|param| param.name != *name) {
            let known = quoted(declared.iter().map(|param| param.name.as_str()));
            let known = if known.is_empty() { "none".to_owned() } else { known };
            return problem(format!(
                "{place} {name:?} is not declared by connectorclass {class:?}: it has {known}"
            ));
        }
    }
    match declared
        .iter()
        .find(|param| param.default.is_none() && given.iter().all(|value| value.name != param.name))
    {
        Some(missing) => {
            problem(format!("{place} {:?} is required by connectorclass {class:?}: set it", missing.name))
        }
        None => Ok(()),
    }
}

fn text_of<'a>(place: &str, value: &'a NamedValue) -> Result<&'a str, Violation> {
    match &value.value {
        Value::String(text) => Ok(text),
        _ => Err(unfit(
            reason::INVALID_PARAMETERS,
            format!("{place} {:?} must be a string: put its value in quotes", value.name),
        )),
    }
}

fn check_enum(place: &str, value: &str, allowed: &[String]) -> Result<(), Violation> {
    if allowed.is_empty() || allowed.iter().any(|choice| choice == value) {
        return Ok(());
    }
    let choices = quoted(allowed.iter().map(String::as_str));
    Err(unfit(reason::INVALID_PARAMETERS, format!("{place} is {value:?}, allowed are {choices}")))
}

fn check_auth(connector: &Connector, class: &ConnectorClass) -> Result<(), Violation> {
    let types = class.spec.auth.as_ref().map(|auth| auth.types.as_slice()).unwrap_or_default();
    let names = || quoted(types.iter().map(|auth| auth.name.as_str()));
    let name = class_name(connector);
    let Some(auth) = &connector.spec.auth else {
        if types.is_empty() || types.iter().any(|auth| auth.optional) {
            return Ok(());
        }
        let message = format!(
            "connectorclass {name:?} needs a secret: set spec.auth.name to {} and spec.auth.secretRef",
            names()
        );
        return Err(without_secret(reason::SECRET_REQUIRED, message));
    };
    let Some(auth_type) = auth_type(connector, class) else {
        return check_unknown_auth(auth, connector.spec.secret_ref(), types.is_empty(), name, names());
    };
    match connector.spec.secret_ref() {
        Some(reference) => check_reference(connector, reference),
        None if auth_type.optional => Ok(()),
        None => {
            let message = format!(
                "auth {:?} of connectorclass {name:?} needs a secret: set spec.auth.secretRef.name",
                auth_type.name
            );
            Err(without_secret(reason::SECRET_REQUIRED, message))
        }
    }
}

/// An auth that is neither named nor has a Secret is as good as none.
fn check_unknown_auth(
    auth: &Auth,
    secret: Option<&ObjectReference>,
    no_types: bool,
    class: &str,
    names: String,
) -> Result<(), Violation> {
    let problem = match no_types {
        true if auth.name.is_empty() && secret.is_none() => return Ok(()),
        true => format!("connectorclass {class:?} takes no credential: remove spec.auth"),
        false => {
            format!("spec.auth.name {:?} is unknown to connectorclass {class:?}: it has {names}", auth.name)
        }
    };
    Err(unfit(reason::INVALID_PARAMETERS, problem))
}

fn check_reference(connector: &Connector, reference: &ObjectReference) -> Result<(), Violation> {
    let own = connector.metadata.namespace.as_deref().unwrap_or_default();
    match (reference.namespace.as_deref(), reference.kind.as_deref()) {
        (Some(other), _) if !other.is_empty() && other != own => {
            let message = format!(
                "spec.auth.secretRef points into namespace {other:?}: put the secret into {own:?}, beside the connector"
            );
            Err(without_secret(reason::CROSS_NAMESPACE_SECRET, message))
        }
        (_, Some(kind)) if !kind.is_empty() && kind != "Secret" => {
            let message =
                format!("spec.auth.secretRef is of kind {kind:?}: only a Secret can hold a credential");
            Err(without_secret(reason::SECRET_TYPE_MISMATCH, message))
        }
        _ if !is_object_name(&reference.name) => Err(without_secret(
            reason::SECRET_NOT_FOUND,
            impossible_name("spec.auth.secretRef", &reference.name),
        )),
        _ => Ok(()),
    }
}

fn check_ca_secret(connector: &Connector) -> Result<(), Violation> {
    match connector.spec.ca_secret().filter(|name| !is_object_name(name)) {
        Some(name) => Err(unfit(reason::INVALID_PARAMETERS, impossible_name("spec.caCertSecretRef", name))),
        None => Ok(()),
    }
}

fn impossible_name(place: &str, name: &str) -> String {
    format!(
        "{place}.name is {name:?}: no secret can have this name, use lower-case letters, digits, \"-\" and \".\""
    )
}
