//! What using a connector means to RBAC. The gateway asks it for each token, the CSI driver once before the first mount: in the same words,
//! so that a Pod that gets its files may also connect.

use k8s_openapi::api::authorization::v1::ResourceAttributes;

use crate::names::GROUP;
use crate::proxy_auth::ConnectorRef;

/// One access question about one connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub connector: ConnectorRef,
    pub verb: &'static str,
    /// Empty for the connector itself.
    pub subresource: String,
}

impl Question {
    /// Use by whoever is bound: verb `*` on `connectors/proxy`.
    pub fn to_use(connector: &ConnectorRef) -> Question {
        Question { connector: connector.clone(), verb: "*", subresource: "proxy".to_owned() }
    }

    /// Use by this Pod alone. RBAC compares subresources literally, so neither form of use includes the other.
    pub fn to_use_from(connector: &ConnectorRef, pod_namespace: &str, pod: &str) -> Question {
        Question { subresource: format!("proxy/v1/pod/{pod_namespace}/{pod}"), ..Question::to_use(connector) }
    }

    /// Reading the connector, which may count as use (`authorization.get_is_use`, for migration).
    pub fn to_get(connector: &ConnectorRef) -> Question {
        Question { connector: connector.clone(), verb: "get", subresource: String::new() }
    }

    /// For a SubjectAccessReview.
    pub fn attributes(&self) -> ResourceAttributes {
        ResourceAttributes {
            group: Some(GROUP.to_owned()),
            resource: Some("connectors".to_owned()),
            subresource: Some(self.subresource.clone()).filter(|one| !one.is_empty()),
            namespace: Some(self.connector.namespace.clone()),
            name: Some(self.connector.name.clone()),
            verb: Some(self.verb.to_owned()),
            ..ResourceAttributes::default()
        }
    }
}
