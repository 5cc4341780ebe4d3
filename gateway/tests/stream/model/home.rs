//! What the API server of the walks knows: credentials, who somebody is, and who may use what.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::SystemTime;

use async_trait::async_trait;
use connectors_gateway::home::cluster::{
    Question, Reviews, SecretContent, SecretError, Secrets, SigningKeys,
};
use connectors_gateway::home::principal::Principal;
use connectors_gateway::home::remembered::Away;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::tokens::{Tokens, name, user};

#[derive(Default)]
pub struct Home {
    /// PEM of the targets' CA.
    ca: String,
    /// By name: the credential and its version.
    pub secrets: Mutex<HashMap<String, (String, usize)>>,
    pub tokens: Tokens,
    /// User, connector and subresource.
    grants: Mutex<HashSet<(String, String, String)>>,
}

/// To whom a grant is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grantee {
    /// A ServiceAccount, from wherever it comes.
    Account,
    /// From its Pod alone.
    Pod,
}

impl Home {
    pub fn new(ca: String) -> Home {
        Home { ca, ..Home::default() }
    }

    pub fn begin(&self) {
        self.grants.lock().unwrap().clear();
        self.tokens.begin();
    }

    pub fn grant(&self, number: usize, connector: &str, to: Grantee, given: bool) {
        let subresource = match to {
            Grantee::Account => "proxy".to_owned(),
            Grantee::Pod => format!("proxy/v1/pod/demo/{}", name(number)),
        };
        let grant = (user(number), format!("demo/{connector}"), subresource);
        let mut grants = self.grants.lock().unwrap();
        if given {
            grants.insert(grant);
        } else {
            grants.remove(&grant);
        }
    }
}

#[async_trait]
impl Reviews for Home {
    async fn token(
        &self,
        token: &SecretString,
        audience: &str,
        expires: Option<SystemTime>,
    ) -> Result<Option<Principal>, Away> {
        Ok(self.tokens.review(token.expose_secret(), audience, expires))
    }

    async fn access(&self, principal: &Principal, question: &Question) -> Result<bool, Away> {
        let asked =
            (principal.user.to_string(), question.connector.to_string(), question.subresource.clone());
        Ok(question.verb == "*" && self.grants.lock().unwrap().contains(&asked))
    }

    async fn signing_keys(&self) -> Result<Option<SigningKeys>, Away> {
        Ok(Some(self.tokens.keys.clone()))
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
