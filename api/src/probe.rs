//! What the controller asks of the gateway (`POST /probe` on the admin port, JSON) and what it answers.
//! The controller never connects to a target: the gateway probes over the code path of a user's request.

use serde::{Deserialize, Serialize};

use crate::class::ConnectorClass;
use crate::connector::{Connector, Pin};

pub const PATH: &str = "/probe";

/// The objects as the controller sees them, so that the gateway's own watch may lag. The Secret is read by
/// the gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeRequest {
    pub connector: Connector,
    pub class: ConnectorClass,
    /// Pins that the gateway must hold to; empty at first contact.
    #[serde(default)]
    pub pins: Vec<Pin>,
    /// Lowercase hex SHA-256 fingerprints that the operator accepts (annotation): a changed target is pinned
    /// anew if it matches.
    #[serde(default)]
    pub accepted: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    pub trust: Outcome,
    /// Pins to store from now on: those of the request, plus first contacts, with accepted changes replaced.
    pub pins: Vec<Pin>,
    pub liveness: Outcome,
    pub auth: Outcome,
    #[serde(default)]
    pub remarks: Remarks,
}

/// What is worth telling beside the outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remarks {
    /// Whom the target takes the credential for; at most 253 printable ASCII characters.
    pub identity: Option<String>,
    /// When the credential ends, as it says itself: Unix time in seconds.
    pub expires: Option<i64>,
    /// Sentences about what is allowed and dangerous.
    pub warnings: Vec<String>,
}

/// Maps to one condition. `reason` is one of `conditions::reason` or empty; `message` says what to do and
/// never quotes a target's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub status: OutcomeStatus,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeStatus {
    True,
    False,
    Unknown,
}
