//! The ServiceAccount token that kubelet sends with a volume: in `secrets`, or in the volume context on older
//! clusters.
//!
//! Its end is kubelet's choice (CSIDriver `tokenRequests`, 30 min) and the driver may not make tokens. So
//! `token.expiration` bounds how old a token the volume may show: see [`Token::is_older_than`].

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use connectors_api::names::AUDIENCE;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::error::Error;

const KEY: &str = "csi.storage.k8s.io/serviceAccount.tokens";

pub struct Token {
    value: SecretString,
}

/// `{"<audience>": {"token": "…", "expirationTimestamp": "…"}}`.
#[derive(Deserialize)]
struct Issued {
    token: String,
}

#[derive(Deserialize)]
struct Claims {
    iat: u64,
}

impl Token {
    /// Moves the token out of the request, from wherever kubelet put it.
    pub fn take(
        secrets: &mut HashMap<String, String>,
        context: &mut HashMap<String, String>,
    ) -> Result<Token, Error> {
        let in_context = context.remove(KEY);
        let json = SecretString::from(secrets.remove(KEY).or(in_context).ok_or(Error::Token)?);
        // The cause is dropped: serde quotes what it could not read.
        let mut tokens: HashMap<String, Issued> =
            serde_json::from_str(json.expose_secret()).map_err(|_| Error::Token)?;
        let value = SecretString::from(tokens.remove(AUDIENCE).ok_or(Error::Token)?.token);
        if value.expose_secret().is_empty() {
            return Err(Error::Token);
        }
        Ok(Token { value })
    }

    pub fn secret(&self) -> &SecretString {
        &self.value
    }

    pub fn is(&self, other: &SecretString) -> bool {
        self.value.expose_secret() == other.expose_secret()
    }

    /// By the token's own `iat`, which needs no verification: it came from kubelet.
    pub fn is_older_than(&self, limit: Duration) -> bool {
        let issued = self.claims().and_then(|claims| UNIX_EPOCH.checked_add(Duration::from_secs(claims.iat)));
        let age = issued.and_then(|at| SystemTime::now().duration_since(at).ok());
        age.is_some_and(|age| age > limit)
    }

    fn claims(&self) -> Option<Claims> {
        let payload = self.value.expose_secret().split('.').nth(1)?;
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }
}
