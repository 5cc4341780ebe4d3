//! The `Connector` resource: one tool, its address and the Secret that holds its credential. Shapes follow
//! the published schema (connectors.alauda.io_connectors.yaml); `status.credential` and `status.trust` are
//! ours.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::Condition;
use crate::crd;

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "connectors.alauda.io",
    version = "v1alpha1",
    kind = "Connector",
    plural = "connectors",
    namespaced,
    category = "alauda",
    status = "ConnectorStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name": "Class", "type": "string", "jsonPath": ".spec.connectorClassName"}"#,
    printcolumn = r#"{"name": "Address", "type": "string", "jsonPath": ".spec.address"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "priority": 1, "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectorSpec {
    /// Class of the tool, e.g. `k8s`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub connector_class_name: String,
    /// Root URL of the tool, http or https, optionally with a path prefix.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(transform = crd::address)]
    pub address: String,
    /// Further named addresses that the class declares.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crd::unique_named_values)]
    pub address_extensions: Vec<NamedValue>,
    /// Values for the class's `params`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crd::named_values)]
    pub params: Vec<NamedValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Secret of the same namespace with further CA certificates for the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert_secret_ref: Option<LocalReference>,
}

impl ConnectorSpec {
    /// The reference to the credential's Secret; one without a name counts as none.
    pub fn secret_ref(&self) -> Option<&ObjectReference> {
        self.auth.as_ref()?.secret_ref.as_ref().filter(|reference| !reference.name.is_empty())
    }

    /// The name of the Secret with further CA certificates; an empty one counts as none.
    pub fn ca_secret(&self) -> Option<&str> {
        self.ca_cert_secret_ref
            .as_ref()
            .map(|reference| reference.name.as_str())
            .filter(|name| !name.is_empty())
    }
}

/// A name and any JSON value; in practice a string: lists and objects are read as empty ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NamedValue {
    pub name: String,
    #[serde(deserialize_with = "scalar::read")]
    pub value: Value,
}

impl NamedValue {
    /// The value where it is a string.
    pub fn as_str(&self) -> Option<&str> {
        self.value.as_str()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Auth {
    /// One of the class's `auth.types[].name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectReference>,
    /// Values for the auth probe.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crd::named_values)]
    pub params: Vec<NamedValue>,
}

/// A full reference, of which `name` counts; another `namespace` is stored, never followed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LocalReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectorStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiStatus>,
    /// Which version of the Secret is in use: a rotated Secret reaches the gateway by this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// What the gateway must verify the targets with, beyond system roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_address: Option<Addressable>,
}

/// Knative-style Addressable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Addressable {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    #[serde(rename = "CACerts", skip_serializing_if = "Option::is_none")]
    pub ca_certs: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ApiStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Written by the controller once the Secret was found, of the right type and complete; absent otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CredentialStatus {
    pub secret_name: String,
    pub resource_version: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrustStatus {
    /// Version of the Secret that `caCertSecretRef` names, so that a change reaches the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_resource_version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pin>,
}

/// A trust anchor taken at first contact with a target that no known CA vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// Origin it holds for: `https://host:port`, normalized.
    pub origin: String,
    pub kind: PinKind,
    /// Lowercase hex SHA-256: of the DER certificate (`CA`) or of the DER SubjectPublicKeyInfo (`PublicKey`).
    pub sha256: String,
    /// PEM of the CA certificate (`CA` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PinKind {
    /// The served chain must verify under this CA.
    #[serde(rename = "CA")]
    Ca,
    /// The leaf must have this public key.
    PublicKey,
}

/// No list or object is of use here, and eight bytes of JSON make hundreds in memory: of those nothing is kept
/// but that there was one.
mod scalar {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
    use serde_json::{Map, Value};

    pub fn read<'de, D: Deserializer<'de>>(value: D) -> Result<Value, D::Error> {
        value.deserialize_any(Scalar)
    }

    struct Scalar;

    /// What stands in a list or object: read, so that it may not be of any depth, and not kept.
    struct Inside;

    impl<'de> Deserialize<'de> for Inside {
        fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Inside, D::Error> {
            read(value).map(|_| Inside)
        }
    }

    impl<'de> Visitor<'de> for Scalar {
        type Value = Value;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON value")
        }

        fn visit_unit<E>(self) -> Result<Value, E> {
            Ok(Value::Null)
        }

        fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
            Ok(value.into())
        }

        fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
            Ok(value.into())
        }

        fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
            Ok(value.into())
        }

        fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
            Ok(value.into())
        }

        fn visit_str<E>(self, value: &str) -> Result<Value, E> {
            Ok(value.into())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
            while items.next_element::<Inside>()?.is_some() {}
            Ok(Value::Array(Vec::new()))
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
            while fields.next_entry::<IgnoredAny, Inside>()?.is_some() {}
            Ok(Value::Object(Map::new()))
        }
    }
}
