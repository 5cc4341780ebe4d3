//! Third step: the credential's Secret exists, has the class's type and its keys. Sets SecretReady and
//! `status.credential`. Values are skipped while the answer is parsed; only type, key names and version are
//! kept. `read` asks for it.

mod read;

use std::collections::BTreeMap;

use connectors_api::conditions::reason;
use connectors_api::connector::CredentialStatus;
use connectors_api::probe::Outcome;
use connectors_api::{Connector, ConnectorClass, rules};
use serde::Deserialize;
use serde::de::IgnoredAny;

pub use read::Reader;

use crate::context::Context;
use crate::error::Error;
use crate::status::{Findings, no, unknown, yes};

/// A Secret without its values. `V` is `IgnoredAny` for credentials; `ca_cert` reads certificates.
#[derive(Deserialize)]
pub struct SecretShape<V> {
    pub metadata: Version,
    #[serde(rename = "type", default)]
    pub type_: String,
    #[serde(default = "BTreeMap::new")]
    pub data: BTreeMap<String, V>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Version {
    pub uid: String,
    pub resource_version: String,
}

pub async fn check(
    context: &Context,
    connector: &Connector,
    class: &ConnectorClass,
    findings: &mut Findings,
) -> Result<(), Error> {
    let Some(name) = connector.spec.secret_ref().map(|reference| &reference.name) else {
        findings.secret = yes(reason::SECRET_OPTIONAL, "");
        return Ok(());
    };
    let shape = |json: &[u8]| serde_json::from_slice::<SecretShape<IgnoredAny>>(json);
    match context.reader.whole(connector, name, shape).await {
        Ok(Some(secret)) => {
            findings.secret = judge(connector, class, name, &secret);
            let version = CredentialStatus {
                secret_name: name.clone(),
                resource_version: secret.metadata.resource_version,
            };
            findings.credential = Some(version).filter(|_| crate::status::is_true(&findings.secret));
            Ok(())
        }
        Ok(None) => {
            findings.secret = no(reason::SECRET_NOT_FOUND, format!("secrets {name:?} not found"));
            Ok(())
        }
        // The API server did not say: what is in use stays in use.
        Err(error) => {
            findings.secret = unknown(reason::NOT_CHECKED, error.to_string());
            findings.credential = connector
                .status
                .clone()
                .unwrap_or_default()
                .credential
                .filter(|last| last.secret_name == *name);
            Err(error)
        }
    }
}

fn judge(
    connector: &Connector,
    class: &ConnectorClass,
    name: &str,
    secret: &SecretShape<IgnoredAny>,
) -> Outcome {
    let Some(auth) = rules::auth_type(connector, class) else { return yes("", "") };
    let fits = rules::check_secret_type(auth, name, &secret.type_, |key| secret.data.contains_key(key));
    fits.map_or_else(|violation| no(violation.reason, violation.message), |()| yes("", ""))
}
