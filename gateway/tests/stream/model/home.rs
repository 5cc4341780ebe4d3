//! What the API server of the walks knows: credentials, and who may use what.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use connectors_gateway::home::cluster::{
    Question, Reviews, SecretContent, SecretError, Secrets, SigningKeys, far_future,
};
use connectors_gateway::home::principal::Principal;
use connectors_gateway::home::remembered::Away;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

#[derive(Default)]
pub struct Home {
    /// PEM of the targets' CA.
    pub ca: String,
    /// By name: the credential and its version.
    pub secrets: Mutex<HashMap<String, (String, usize)>>,
    /// User and connector.
    pub grants: Mutex<HashSet<(String, String)>>,
}

pub fn user(number: usize) -> String {
    format!("system:serviceaccount:demo:user-{number}")
}

#[async_trait]
impl Reviews for Home {
    async fn token(
        &self,
        token: &SecretString,
        _audience: &str,
        _expires: Option<SystemTime>,
    ) -> Result<Option<Principal>, Away> {
        let number = token.expose_secret().strip_prefix("token-").and_then(|number| number.parse().ok());
        Ok(number.map(|number| Principal {
            user: user(number).as_str().into(),
            uid: "".into(),
            groups: Arc::new([]),
            pod: None,
            expires: far_future(),
        }))
    }

    async fn access(&self, principal: &Principal, question: &Question) -> Result<bool, Away> {
        let pair = (principal.user.to_string(), question.connector.to_string());
        Ok(question.verb == "*" && self.grants.lock().unwrap().contains(&pair))
    }

    async fn signing_keys(&self) -> Result<Option<SigningKeys>, Away> {
        Ok(None)
    }
}

#[async_trait]
impl Secrets for Home {
    async fn get(&self, _namespace: &str, name: &str) -> Result<SecretContent, SecretError> {
        let content = |kind: &str, version: String, key: &str, value: &str| SecretContent {
            secret_type: kind.to_owned(),
            resource_version: version,
            data: [(key.to_owned(), Zeroizing::new(value.as_bytes().to_vec()))].into(),
        };
        if name == "ca" {
            return Ok(content("Opaque", "1".to_owned(), "ca.crt", &self.ca));
        }
        let secrets = self.secrets.lock().unwrap();
        let (credential, version) = secrets.get(name).ok_or(SecretError::NotFound)?;
        Ok(content("connectors.cpaas.io/bearer-token", version.to_string(), "token", credential))
    }
}
