//! Condition types and reasons of a Connector's and a class's status. The controller writes them, the CSI
//! driver and the gateway read them. Reasons that the published documentation of the API group names are
//! spelled as there.

use k8s_openapi::jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub const CONNECTOR_CLASS_READY: &str = "ConnectorClassReady";
pub const SECRET_READY: &str = "SecretReady";
/// Informational: counts for `Ready` only where it is False (another certificate, a CA that is given and cannot be read).
pub const CA_CERT_READY: &str = "CACertReady";
pub const LIVENESS_READY: &str = "LivenessReady";
pub const AUTH_READY: &str = "AuthReady";
pub const PROXY_SERVICE_READY: &str = "ProxyServiceReady";
pub const READY: &str = "Ready";
/// Of a class: what `spec.api` and `spec.proxy` name exists.
pub const API_READY: &str = "APIReady";
pub const PROXY_READY: &str = "ProxyReady";
/// Of a class, severity Info: no field is set that this version stores and does not act on.
pub const ALL_FIELDS_USED: &str = "AllFieldsUsed";

/// Reasons, constant so that a user can search for them and an alert can match them.
pub mod reason {
    // True
    pub const SECRET_OPTIONAL: &str = "SecretOptional";
    pub const NON_LIVENESS_PROBE: &str = "NonLivenessProbe";
    pub const NON_AUTH_PROBE: &str = "NonAuthProbe";
    pub const NON_PROXY: &str = "NonProxy";
    pub const NON_API: &str = "NonAPI";
    pub const NO_CA_CERT: &str = "NoCACert";
    pub const VALID: &str = "Valid";
    /// The target's certificate was pinned at first contact.
    pub const PINNED: &str = "Pinned";
    /// The credential works, and ends within a week, or a day.
    pub const CREDENTIAL_ENDS_IN_A_WEEK: &str = "CredentialEndsInAWeek";
    pub const CREDENTIAL_ENDS_IN_A_DAY: &str = "CredentialEndsInADay";
    // False
    pub const CONNECTOR_CLASS_NOT_FOUND: &str = "ConnectorClassNotFound";
    /// The class has a broken template or CEL expression, or asks for what this version does not do.
    pub const CLASS_INVALID: &str = "ConnectorClassInvalid";
    /// A parameter, an address extension or the auth type does not fit the class.
    pub const INVALID_PARAMETERS: &str = "InvalidParameters";
    pub const INVALID_ADDRESS: &str = "InvalidAddress";
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    pub const SECRET_REQUIRED: &str = "SecretRequired";
    pub const SECRET_TYPE_MISMATCH: &str = "SecretTypeMismatch";
    pub const SECRET_KEY_MISSING: &str = "SecretKeyMissing";
    pub const CROSS_NAMESPACE_SECRET: &str = "CrossNamespaceSecret";
    pub const INVALID_PEM: &str = "InvalidPEM";
    pub const TARGET_CERTIFICATE_CHANGED: &str = "TargetCertificateChanged";
    /// No CA vouches for the target and the policy does not allow pinning.
    pub const TARGET_UNVERIFIED: &str = "TargetUnverified";
    pub const CONNECTION_FAILED: &str = "ConnectionFailed";
    /// The address is refused by `targets.allow` / `targets.deny` of the gateway.
    pub const TARGET_DENIED: &str = "TargetDenied";
    pub const AUTHENTICATION_FAILED: &str = "AuthenticationFailed";
    /// The probe answered, but not as the class's CEL expression or the default (2xx) demands.
    pub const PROBE_FAILED: &str = "ProbeFailed";
    /// The Service that a class's `spec.api` names does not exist.
    pub const API_SERVICE_NOT_FOUND: &str = "APIServiceNotFound";
    pub const FIELDS_NOT_USED: &str = "FieldsNotUsed";
    pub const PROXY_SERVICE_NOT_FOUND: &str = "ProxyServiceNotFound";
    pub const NAME_TAKEN: &str = "NameTaken";
    // Unknown
    /// Not checked, because an earlier condition is not True.
    pub const NOT_CHECKED: &str = "NotChecked";
    /// The gateway did not answer the controller's probe.
    pub const GATEWAY_UNAVAILABLE: &str = "GatewayUnavailable";
}

/// One condition, as the published schema has it (not `metav1.Condition`: `severity` extra, no required
/// reason).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `Info` on conditions that do not count for `Ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
}

impl Condition {
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    pub fn now() -> String {
        Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// The condition of this type, if the list has one.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
