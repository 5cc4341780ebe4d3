//! The `ConnectorClass` resource: what a kind of tool needs, how it is probed, and which files it renders.
//! Shapes follow the published schema (connectors.alauda.io_connectorclasses.yaml), looser where its
//! documented examples break it.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::conditions::Condition;
use crate::connector::{Addressable, ProxyStatus};
use crate::crd;

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "connectors.alauda.io",
    version = "v1alpha1",
    kind = "ConnectorClass",
    plural = "connectorclasses",
    category = "alauda",
    status = "ConnectorClassStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectorClassSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<ParamSpec>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crd::unique_named_list)]
    pub address_extensions: Vec<ParamSpec>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crd::named_list)]
    pub params: Vec<ParamSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<ClassAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["authName"]))]
    pub auth_probes: Vec<AuthProbe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<ClassApi>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ClassProxy>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configurations: Vec<Configuration>,
}

/// A declared value. Without `default` it is required; `default: ""` is a default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ParamSpec {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub enum_: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, PropertySpec>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PropertySpec {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClassAuth {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub types: Vec<AuthType>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct AuthType {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_type: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crd::named_list)]
    pub params: Vec<ParamSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator: Option<Rego>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Rego {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rego: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Probe {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiProbe>,
}

/// `path` and `httpHeaders[].value` are templates; the rest is literal. Published examples write
/// `httpHeaders` as a map, against their own schema: both are read, and what is neither becomes a header
/// without name, which `rules` refuses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["path"]))]
pub struct HttpProbe {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<ProbeMethod>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<ProbeScheme>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(deserialize_with = "headers", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::any")]
    pub http_headers: Vec<ProbeHeader>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_redirect: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<ProbeResponse>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ProbeMethod {
    #[default]
    Get,
    Post,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProbeScheme {
    Http,
    Https,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeHeader {
    pub name: String,
    pub value: String,
}

fn headers<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<ProbeHeader>, D::Error> {
    let pair = |(name, value): (String, Value)| match value {
        Value::String(value) => ProbeHeader { name, value },
        _ => ProbeHeader::default(),
    };
    Ok(match Value::deserialize(input)? {
        Value::Null => Vec::new(),
        Value::Array(items) => {
            items.into_iter().map(|item| serde_json::from_value(item).unwrap_or_default()).collect()
        }
        Value::Object(fields) => fields.into_iter().map(pair).collect(),
        _ => vec![ProbeHeader::default()],
    })
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProbeResponse {
    /// Must come out as a bool; true is success. Absent: any 2xx is success.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cel: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ApiProbe {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["authName"]))]
pub struct AuthProbe {
    /// The `auth.types[].name` that it is for.
    pub auth_name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crd::named_list)]
    pub params: Vec<ParamSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClassApi {
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub ref_: Option<ServiceReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openapi: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Rego>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    #[serde(rename = "CACerts", skip_serializing_if = "Option::is_none")]
    pub ca_certs: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClassProxy {
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub ref_: Option<ServiceReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_extractor: Option<Rego>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    #[serde(rename = "CACerts", skip_serializing_if = "Option::is_none")]
    pub ca_certs: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct ServiceReference {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// Files for a volume: file name → template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Configuration {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crd::named_list)]
    pub params: Vec<ParamSpec>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectorClassStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<ClassApiStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClassApiStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
}
