//! Grammar of the proxy login: `Basic base64(user ":" token)`, user = `ns/name[,ns/name…]`; `%2F` and `%2C` are accepted too.
//! The CSI driver writes it, the gateway reads it.

/// A connector by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectorRef {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for ConnectorRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
