//! Parameters of one configuration: what the Pod gave, completed and checked by what the class declares.

use std::collections::BTreeMap;

use connectors_api::class::{Configuration, ParamSpec};
use serde_json::{Map, Value};

use crate::error::Error;

/// Declared ones without default are required; undeclared ones reach the template too, as published classes
/// rely on it.
pub fn values(
    configuration: &Configuration,
    given: Option<&BTreeMap<String, String>>,
) -> Result<Map<String, Value>, Error> {
    let mut values: Map<String, Value> =
        given.into_iter().flatten().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    for spec in &configuration.params {
        let refuse = |problem| Error::Parameter { configuration: configuration.name.clone(), problem };
        match (values.get(&spec.name), &spec.default) {
            (Some(value), _) => check(spec, value).map_err(refuse)?,
            (None, Some(default)) => drop(values.insert(spec.name.clone(), default.clone())),
            (None, None) => return Err(refuse(format!("needs parameter {:?}", spec.name))),
        }
    }
    Ok(values)
}

fn check(spec: &ParamSpec, value: &Value) -> Result<(), String> {
    let text = value.as_str().unwrap_or_default();
    match spec.enum_.is_empty() || spec.enum_.iter().any(|allowed| allowed == text) {
        true => Ok(()),
        false => Err(format!(
            "has {text:?} for parameter {:?}: choose one of {}",
            spec.name,
            spec.enum_.join(", ")
        )),
    }
}
