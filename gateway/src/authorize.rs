//! May this principal use this connector? SubjectAccessReview on `connectors/proxy`, cached, single flight.

use connectors_api::proxy_auth::ConnectorRef;

use crate::principal::Principal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// `may_get`: the principal may `get` the connector, so it may learn whether it exists.
    Denied {
        may_get: bool,
    },
}

/// The API server did not answer and nothing is known of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server did not answer an access review")]
pub struct Unavailable;

pub struct Authorizer {}

impl Authorizer {
    pub async fn may_use(&self, _principal: &Principal, _connector: &ConnectorRef) -> Result<Verdict, Unavailable> {
        Err(Unavailable)
    }
}
