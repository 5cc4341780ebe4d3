//! The routing snapshot and its look-ups. `table` builds it off the hot path; a look-up allocates nothing.

use std::collections::HashMap;
use std::sync::Arc;

use connectors_api::connector::Pin;
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::target::Target;

/// What a connector's name leads to.
pub enum Entry {
    Usable(Arc<Route>),
    /// The connector exists but has no usable route: the words of its own condition, for the 503 Status.
    Unusable {
        reason: String,
        message: String,
    },
}

/// A usable connector: where its traffic may go and how it is authenticated there. Immutable.
pub struct Route {
    pub connector: ConnectorRef,
    pub uid: String,
    pub class: String,
    /// `spec.address` first, then the extensions.
    pub targets: Vec<Target>,
    pub credential: Option<CredentialSource>,
    pub trust: TrustSource,
    /// Hash of everything that an upstream connection depends on (connector uid, credential version, trust): the pool's group key.
    pub pool_key: u64,
}

/// The Secret and the scheme in which its content is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialSource {
    pub secret: String,
    pub resource_version: String,
    pub secret_type: String,
    pub scheme: Scheme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Bearer,
    Basic,
}

/// What vouches for the targets, beside system roots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustSource {
    /// Secret of the connector's namespace that `caCertSecretRef` names, and its observed version.
    pub ca_secret: Option<(String, String)>,
    pub pins: Vec<Pin>,
}

/// One immutable snapshot, swapped as a whole.
#[derive(Default)]
pub struct Table {
    pub connectors: HashMap<ConnectorRef, Entry>,
}

impl Table {
    pub fn lookup(&self, connector: &ConnectorRef) -> Option<&Entry> {
        self.connectors.get(connector)
    }
}
