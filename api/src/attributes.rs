//! The volume attributes that a Pod may set, read by the CSI driver before anything else happens; their names
//! and forms are those of the published documentation of the API group. Attributes of others
//! (`csi.storage.k8s.io/…`) are ignored; a misspelt one of ours is an error that names the right one.

mod duration;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::nearest::{TYPO, nearest};
use crate::proxy_auth::{ConnectorRef, MAX_CONNECTORS};

pub const CONNECTORS: &str = "connectors";
pub const CONNECTOR_NAME: &str = "connector.name";
pub const CONNECTOR_NAMESPACE: &str = "connector.namespace";
pub const CONFIGURATION_NAMES: &str = "configuration.names";
pub const CONFIGURATION_PARAMS: &str = "configuration.params";
pub const TOKEN_EXPIRATION: &str = "token.expiration";

/// Life of the token that kubelet hands to the driver; an attribute may only shorten it.
pub const MAX_EXPIRATION: Duration = Duration::from_secs(30 * 60);
/// The shortest life that Kubernetes itself gives a token.
pub const MIN_EXPIRATION: Duration = Duration::from_secs(10 * 60);

const KNOWN: [&str; 6] = [
    CONNECTORS,
    CONNECTOR_NAME,
    CONNECTOR_NAMESPACE,
    CONFIGURATION_NAMES,
    CONFIGURATION_PARAMS,
    TOKEN_EXPIRATION,
];
/// Whatever starts like this (in any case) is meant for us.
const OWN_PREFIXES: [&str; 3] = ["connector", "configuration", "token."];

/// What a volume asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeAttributes {
    /// At least one, in the Pod's order, none twice.
    pub connectors: Vec<ConnectorRef>,
    /// Configurations to render.
    pub include: Vec<String>,
    /// Files to leave out in the end.
    pub exclude: Vec<String>,
    /// Configuration → parameter → value.
    pub params: BTreeMap<String, BTreeMap<String, String>>,
    /// 10 to 30 minutes.
    pub expiration: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AttributeError {
    #[error("unknown volume attribute {key:?}: did you mean {nearest:?}?")]
    Misspelt { key: String, nearest: &'static str },
    #[error(
        "connectors or connector.name is required: set volume attribute \"connector.name\" to the name of a connector"
    )]
    NoConnector,
    #[error("volume attribute {key:?}: {problem}")]
    Invalid { key: &'static str, problem: String },
}

/// Reads a volume's attributes; names without a namespace are the Pod's. An empty value counts as absent.
pub fn parse(
    attributes: &BTreeMap<String, String>,
    pod_namespace: &str,
) -> Result<VolumeAttributes, AttributeError> {
    attributes.keys().try_for_each(|key| check_spelling(key))?;
    let get = |key: &str| attributes.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
    let (include, exclude) = get(CONFIGURATION_NAMES).map(names).transpose()?.unwrap_or_default();
    let connectors = match (get(CONNECTORS), get(CONNECTOR_NAME), get(CONNECTOR_NAMESPACE)) {
        (Some(list), None, None) => list_of_connectors(list, pod_namespace)?,
        (None, Some(name), namespace) => vec![one_connector(name, namespace.unwrap_or(pod_namespace))?],
        (None, None, _) => return Err(AttributeError::NoConnector),
        (Some(_), ..) => {
            return Err(invalid(CONNECTORS, "give either this or \"connector.name\", not both".into()));
        }
    };
    Ok(VolumeAttributes {
        connectors,
        include,
        exclude,
        params: get(CONFIGURATION_PARAMS).map(params).transpose()?.unwrap_or_default(),
        expiration: get(TOKEN_EXPIRATION).map(expiration).transpose()?,
    })
}

fn invalid(key: &'static str, problem: String) -> AttributeError {
    AttributeError::Invalid { key, problem }
}

fn check_spelling(key: &str) -> Result<(), AttributeError> {
    if KNOWN.contains(&key) {
        return Ok(());
    }
    let Some((edits, nearest)) = nearest(key, KNOWN) else { return Ok(()) };
    let lower = key.to_ascii_lowercase();
    let ours = OWN_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
    match ours || edits <= TYPO {
        true => Err(AttributeError::Misspelt { key: key.to_owned(), nearest }),
        false => Ok(()),
    }
}

fn one_connector(name: &str, namespace: &str) -> Result<ConnectorRef, AttributeError> {
    ConnectorRef::new(namespace, name).ok_or_else(|| {
        invalid(CONNECTOR_NAME, format!("no connector can have the name {name:?} in namespace {namespace:?}"))
    })
}

fn list_of_connectors(list: &str, pod_namespace: &str) -> Result<Vec<ConnectorRef>, AttributeError> {
    let mut connectors = Vec::new();
    for item in items(list) {
        let (namespace, name) = item.split_once('/').unwrap_or((pod_namespace, item));
        let connector = ConnectorRef::new(namespace, name).ok_or_else(|| {
            invalid(CONNECTORS, format!("{item:?} is neither <namespace>/<name> nor <name>"))
        })?;
        if connectors.contains(&connector) {
            continue;
        }
        // At once: each is compared with all before it, and a list may be a megabyte.
        if connectors.len() == MAX_CONNECTORS {
            let problem = format!("names more than the {MAX_CONNECTORS} connectors that one volume can have");
            return Err(invalid(CONNECTORS, problem));
        }
        connectors.push(connector);
    }
    if connectors.is_empty() { Err(AttributeError::NoConnector) } else { Ok(connectors) }
}

/// Configurations to include and, by `!`, files to leave out.
fn names(list: &str) -> Result<(Vec<String>, Vec<String>), AttributeError> {
    let (mut include, mut exclude) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for item in items(list).filter(|item| seen.insert(*item)) {
        match item.strip_prefix('!').map(str::trim) {
            Some("") => {
                return Err(invalid(
                    CONFIGURATION_NAMES,
                    "\"!\" needs the name of a file to leave out".into(),
                ));
            }
            Some(file) => exclude.push(file.to_owned()),
            None => include.push(item.to_owned()),
        }
    }
    Ok((include, exclude))
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn params(json: &str) -> Result<BTreeMap<String, BTreeMap<String, String>>, AttributeError> {
    let example = r#"{"<configuration>": {"<parameter>": "<value>"}}"#;
    let object: Map<String, Value> = serde_json::from_str(json).map_err(|error| {
        invalid(CONFIGURATION_PARAMS, format!("is not a JSON object like {example}: {error}"))
    })?;
    object
        .into_iter()
        .map(|(configuration, values)| Ok((configuration.clone(), values_of(&configuration, values)?)))
        .collect()
}

fn values_of(configuration: &str, values: Value) -> Result<BTreeMap<String, String>, AttributeError> {
    let Value::Object(values) = values else {
        return Err(invalid(
            CONFIGURATION_PARAMS,
            format!("{configuration:?} must be an object of parameters"),
        ));
    };
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        _ => Err(invalid(
            CONFIGURATION_PARAMS,
            format!("parameter {name:?} of {configuration:?} must be a string: put it in quotes"),
        )),
    };
    values.into_iter().map(text).collect()
}

/// More than the maximum is cut to it: published examples ask for 60m.
fn expiration(text: &str) -> Result<Duration, AttributeError> {
    let duration = duration::parse(text).ok_or_else(|| {
        invalid(TOKEN_EXPIRATION, format!("{text:?} is not a duration: write it like \"20m\" or \"1200s\""))
    })?;
    match duration >= MIN_EXPIRATION {
        true => Ok(duration.min(MAX_EXPIRATION)),
        false => Err(invalid(TOKEN_EXPIRATION, format!("{text:?} is shorter than 10m"))),
    }
}

#[cfg(test)]
mod tests;
