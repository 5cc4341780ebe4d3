//! The CustomResourceDefinitions of both kinds, made from the types. `crdgen` (`reference/`) writes them
//! into config/crd.
//!
//! Whatever the published schemas accept is accepted, and a field that no type here knows is stored. What is
//! added (rules with a message of their own, bounds that keep the estimated cost of the rules low) passes all
//! documented examples.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::{Connector, ConnectorClass};

/// Longest URL that any proxy on the way takes, and longest name of an object.
const MAX_ADDRESS: usize = 2048;
const MAX_NAME: usize = 253;
const MAX_ITEMS: usize = 64;
/// ASCII without control characters and blanks.
const PRINTABLE: &str = "^[!-~]*$";
/// Of any other text: names, paths of fields.
const MAX_TEXT: i64 = 1024;

pub fn connector() -> CustomResourceDefinition {
    let mut crd = completed(Connector::crd());
    let schemas = crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    schemas.filter_map(|root| root.properties.as_mut()?.get_mut("spec")).for_each(bound);
    crd
}

pub fn connector_class() -> CustomResourceDefinition {
    completed(ConnectorClass::crd())
}

fn completed(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
    let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    schemas.filter_map(|validation| validation.open_api_v3_schema.as_mut()).for_each(complete_root);
    crd
}

/// The API server itself checks what a root object has in common with all others.
fn complete_root(root: &mut JSONSchemaProps) {
    let kind = root.title.take().unwrap_or_default();
    root.description = Some(format!("{kind} of the API group {}.", crate::names::GROUP));
    root.required = None;
    let properties = root.properties.get_or_insert_default();
    properties.values_mut().for_each(loosen);
    if let Some(spec) = properties.get_mut("spec") {
        // Nothing is required, not even the spec; the types need one.
        spec.default = Some(JSON(json!({})));
    }
    for (name, type_) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
        properties.insert(
            name.to_owned(),
            JSONSchemaProps { type_: Some(type_.to_owned()), ..JSONSchemaProps::default() },
        );
    }
}

/// Unknown fields are kept at every level, null counts as absent, and no default is written into stored
/// objects.
fn loosen(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.default = None;
    schema.enum_.iter_mut().for_each(|choices| choices.retain(|choice| !choice.0.is_null()));
    if schema.properties.is_some() || schema.type_.is_none() {
        schema.x_kubernetes_preserve_unknown_fields = Some(true);
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(loosen);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        loosen(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        loosen(values);
    }
}

/// What a tenant writes has an end everywhere, ten times beyond what documented examples need; a name or a
/// reference has no white space.
fn bound(schema: &mut JSONSchemaProps) {
    match schema.type_.as_deref() {
        Some("string") => {
            schema.max_length.get_or_insert(MAX_TEXT);
            if schema.x_kubernetes_validations.is_none() {
                schema.pattern.get_or_insert_with(|| PRINTABLE.to_owned());
            }
        }
        Some("array") => drop(schema.max_items.get_or_insert(MAX_ITEMS as i64)),
        _ => {}
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(bound);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        bound(items);
    }
}

/// Any JSON.
pub(crate) fn any(_: &mut SchemaGenerator) -> Schema {
    json_schema!({})
}

/// The rules of `target::Target` as far as they need no parser. Absent and empty pass: the Connector's status
/// asks for it.
pub(crate) fn address(schema: &mut Schema) {
    schema.insert("maxLength".into(), MAX_ADDRESS.into());
    let rules = [
        (
            "self == '' || self.matches('^(?i)https?://[^/?#]')",
            "must be a URL that starts with http:// or https://",
        ),
        (
            "!self.matches('^[^/?#]*//[^/?#]*@')",
            "must not hold user name or password: put them into the Secret",
        ),
        ("!self.contains('?') && !self.contains('#')", "must not have a query or fragment"),
        ("self.matches('^[!-~]*$')", "must have printable characters without white space only"),
    ];
    let rule = |(rule, message)| json!({"rule": rule, "message": message});
    schema.insert("x-kubernetes-validations".into(), rules.map(rule).into_iter().collect());
}

/// A list of objects with a name.
pub(crate) fn named_list(schema: &mut Schema) {
    list_of(schema, &["name"]);
}

/// A list of objects with a name and a value.
pub(crate) fn named_values(schema: &mut Schema) {
    list_of(schema, &["name", "value"]);
}

pub(crate) fn unique_named_list(schema: &mut Schema) {
    named_list(schema);
    unique(schema);
}

pub(crate) fn unique_named_values(schema: &mut Schema) {
    named_values(schema);
    unique(schema);
}

fn list_of(schema: &mut Schema, required: &[&str]) {
    schema.insert("x-kubernetes-list-type".into(), "atomic".into());
    if let Some(items) = schema.get_mut("items").and_then(Value::as_object_mut) {
        items.insert("required".into(), json!(required));
    }
}

/// The bounds are for the cost that the API server estimates for the rule.
fn unique(schema: &mut Schema) {
    schema.insert("maxItems".into(), MAX_ITEMS.into());
    if let Some(Value::Object(name)) = schema.pointer_mut("/items/properties/name") {
        name.insert("maxLength".into(), MAX_NAME.into());
    }
    let rule = json!({"rule": "self.all(a, self.exists_one(b, b.name == a.name))", "message": "names must be unique"});
    schema.insert("x-kubernetes-validations".into(), json!([rule]));
}
