//! What the controller asks of the gateway (`POST /probe`, JSON over TLS with the connector CA) and what it answers.
//! The controller never connects to a target: the gateway probes over the code path of a user's request.

use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::connector::Pin;

pub const PATH: &str = "/probe";

/// Of a connector's annotations, those that mean something to us begin so.
const ANNOTATIONS: &str = "connectors.cpaas.io/";

/// Names a connector; the objects are those of the gateway's own table, so that whoever has the controller's
/// token cannot have a credential sent anywhere else. The Secret is read by the gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeRequest {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The gateway waits for a spec at least as new.
    pub generation: i64,
    /// The same of the connector's class.
    pub class_generation: i64,
    /// `annotations()` of the connector: they count like its spec, and have no generation.
    pub annotations: String,
    /// Pins that the gateway must hold to for origins that its table has none of: those of a status that is
    /// still on its way. Empty at first contact.
    #[serde(default)]
    pub pins: Vec<Pin>,
}

/// Digest of the annotations that mean something here.
pub fn annotations(metadata: &ObjectMeta) -> String {
    let all = metadata.annotations.iter().flatten();
    let mut digest = Sha256::new();
    for (name, value) in all.filter(|(name, _)| name.starts_with(ANNOTATIONS)) {
        for part in [name, value] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
