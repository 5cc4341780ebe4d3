//! The routing snapshot and its look-ups. `table` builds it off the hot path; a look-up allocates nothing.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use connectors_api::connector::Pin;
use connectors_api::impersonation::Impersonation;
use connectors_api::names;
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::target::Target;
use connectors_api::{Connector, ConnectorClass};

use super::hosts::Hosts;
use crate::error::Error;

/// `<Service>.<ns>` of every cluster's own API server.
const API_SERVER: &str = "kubernetes.default";

/// What a connector's name leads to.
#[derive(Clone, Debug)]
pub enum Entry {
    Usable(Arc<Route>),
    /// The connector exists but has no usable route: the words of its own condition, for the 503 Status.
    Unusable {
        reason: String,
        message: String,
    },
}

/// A connector and its class as they were observed, for probes: also of one that is not usable yet.
#[derive(Clone, Debug)]
pub struct Source {
    pub connector: Arc<Connector>,
    pub class: Arc<ConnectorClass>,
}

/// A usable connector: where its traffic may go and how it is authenticated there. Immutable.
#[derive(Debug)]
pub struct Route {
    pub connector: ConnectorRef,
    pub uid: String,
    pub class: String,
    /// `spec.address` first, then the extensions.
    pub targets: Vec<Target>,
    /// None for an anonymous connector.
    pub credential: Option<Arc<CredentialSource>>,
    pub trust: TrustSource,
    /// Whom users of the connector may speak as.
    pub impersonation: Impersonation,
    /// `pool_key()` of the three above: the pool's group key.
    pub pool_key: u64,
}

impl Route {
    /// The name that a target's certificate must have.
    pub fn server_name<'a>(&'a self, target: &'a Target) -> &'a str {
        self.trust.server_name.as_deref().unwrap_or(&target.host)
    }

    /// After a change of credential or trust: connections and stores of before are not for it.
    pub fn rekey(&mut self) {
        self.pool_key = pool_key(&self.uid, self.credential.as_deref(), &self.trust);
    }
}

/// Hash of everything that an upstream connection depends on: connector, credential version, trust. Under a
/// key of this process, so that nobody can choose names that share a pool.
pub fn pool_key(uid: &str, credential: Option<&CredentialSource>, trust: &TrustSource) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let pins: Vec<(&str, &str)> =
        trust.pins.iter().map(|pin| (pin.origin.as_str(), pin.sha256.as_str())).collect();
    HASHER.hash_one((uid, credential, trust.ca_secret.as_deref(), pins, &trust.server_name, trust.legacy_tls))
}

/// Scheme, host and port that a client named: host in lower case, no brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub tls: bool,
    pub host: String,
    pub port: u16,
}

impl Origin {
    pub fn not_a_target(&self, connectors: &str) -> Error {
        Error::NotATarget {
            authority: format!("{}:{}", self.host, self.port),
            connectors: connectors.to_owned(),
        }
    }

    pub fn is(&self, target: &Target) -> bool {
        target.tls == self.tls && target.port == self.port && target.host == self.host
    }
}

/// The Secret and the scheme in which its content is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialSource {
    pub key: SecretKey,
    pub secret_type: String,
    pub scheme: AuthScheme,
}

/// One version of one Secret, for one connector: what caches are keyed by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretKey {
    /// Of the connector: a cached credential is never shared between two.
    pub owner: String,
    pub namespace: String,
    pub name: String,
    /// As the controller saw it.
    pub resource_version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthScheme {
    Bearer,
    Basic,
}

/// What vouches for the targets, beside system roots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustSource {
    /// Secret of the connector's namespace that `caCertSecretRef` names.
    pub ca_secret: Option<Arc<SecretKey>>,
    pub pins: Vec<Pin>,
    /// The name in the targets' certificate, if it is not the address's.
    pub server_name: Option<String>,
    /// The targets may be without secure renegotiation.
    pub legacy_tls: bool,
}

/// One immutable snapshot, swapped as a whole.
#[derive(Debug, Default)]
pub struct Table {
    pub connectors: HashMap<ConnectorRef, Entry>,
    /// Service names are looked up, never parsed.
    hosts: Hosts,
    /// Of the targets of all connectors, also of those that are not usable now.
    target_hosts: HashSet<String>,
    sources: HashMap<ConnectorRef, Source>,
    /// `.svc.<cluster domain>`.
    domain: String,
    /// `<Service>.<ns>` of the gateway itself.
    own: String,
    /// The same of its admin port.
    admin: String,
    /// The gateway's own.
    namespace: String,
}

/// What is made anew with each snapshot.
#[derive(Debug, Default)]
pub struct TableParts {
    pub connectors: HashMap<ConnectorRef, Entry>,
    pub hosts: Hosts,
    pub target_hosts: HashSet<String>,
    pub sources: HashMap<ConnectorRef, Source>,
}

impl Table {
    /// A target's name with a dot at its end, so that no search domain is applied; one of a Service of this
    /// cluster with the cluster's domain.
    pub fn absolute(&self, host: &str) -> String {
        match host.strip_suffix(".svc") {
            Some(service) => format!("{service}{}.", self.domain),
            None => format!("{host}."),
        }
    }

    /// `namespace`: the gateway's own.
    pub fn new(cluster_domain: &str, namespace: &str, parts: TableParts) -> Table {
        let TableParts { connectors, hosts, target_hosts, sources } = parts;
        let of_ours = |service: &str| format!("{service}.{namespace}");
        Table {
            connectors,
            hosts,
            target_hosts,
            sources,
            domain: format!(".svc.{cluster_domain}"),
            own: of_ours(names::GATEWAY),
            admin: of_ours(names::GATEWAY_ADMIN),
            namespace: namespace.to_owned(),
        }
    }

    /// Whether some connector's address has this host.
    pub fn has_host(&self, host: &str) -> bool {
        self.target_hosts.contains(host)
    }

    /// None before both objects have arrived, and where one cannot be read.
    pub fn source(&self, connector: &ConnectorRef) -> Option<&Source> {
        self.sources.get(connector)
    }

    pub fn lookup(&self, connector: &ConnectorRef) -> Option<&Entry> {
        self.connectors.get(connector)
    }

    /// Connector of a proxy host: `c-<name>.<ns>.svc`, with or without the cluster domain and a trailing dot.
    /// Lower case expected.
    pub fn lookup_host(&self, host: &str) -> Option<&ConnectorRef> {
        self.hosts.get(self.service(host)?)?.as_ref()
    }

    /// The gateway's own Service: paths name connectors there.
    pub fn is_own_host(&self, host: &str) -> bool {
        self.service(host).is_some_and(|service| service == self.own)
    }

    /// Whether clients may come to us by this name.
    pub fn is_proxy_host(&self, host: &str) -> bool {
        self.is_own_host(host) || self.lookup_host(host).is_some()
    }

    /// Whether this name leads to the gateway in its own Pod. Lower case, no trailing dot. Of connectors by the
    /// names of their Services only: another's `c-x.dev` may be a name of the world's, and is nobody's to take.
    pub fn leads_here(&self, host: &str) -> bool {
        let service = self.service(host);
        let own = |name: &str| name == self.own || name == self.admin;
        let short = || format!("{host}.{}", self.namespace);
        own(service.unwrap_or(host))
            || service.is_some_and(|service| self.hosts.contains_key(service))
            || !host.contains('.') && (own(&short()) || self.hosts.contains_key(&short()))
    }

    /// Whether this is a name of the cluster's own DNS, and not the API server's.
    pub fn is_in_cluster(&self, host: &str) -> bool {
        let below = |domain: &str| host.strip_suffix(domain).is_some_and(|name| !name.is_empty());
        let domain = self.domain.strip_prefix(".svc").unwrap_or_default();
        let service = self.service(host);
        (service.is_some() || !domain.is_empty() && below(domain)) && service != Some(API_SERVER)
    }

    fn service<'a>(&self, host: &'a str) -> Option<&'a str> {
        let host = host.strip_suffix('.').unwrap_or(host);
        host.strip_suffix(self.domain.as_str()).or_else(|| host.strip_suffix(".svc"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::hosts::{Claim, hosts, service_host};

    #[test]
    fn a_service_host_is_found_in_each_of_its_spellings_and_no_other() {
        let connector = ConnectorRef { namespace: "demo".into(), name: "git.example.com".into() };
        let entry = Entry::Unusable { reason: String::new(), message: String::new() };
        let hosts = hosts([(&connector, Claim::Asked)].into_iter());
        let connectors = HashMap::from([(connector.clone(), entry)]);
        let parts = TableParts { connectors, hosts, ..TableParts::default() };
        let table = Table::new("corp.local", "system", parts);
        let host = service_host(&connector);
        for suffix in [".svc", ".svc.", ".svc.corp.local", ".svc.corp.local."] {
            assert_eq!(table.lookup_host(&format!("{host}{suffix}")), Some(&connector), "{suffix}");
        }
        for suffix in ["", ".svc.cluster.local", ".svc.evil.example", ".svc.."] {
            assert_eq!(table.lookup_host(&format!("{host}{suffix}")), None, "{suffix}");
        }
        for short in ["connectors-gateway", "connectors-gateway-admin", "connectors-gateway.system"] {
            assert!(table.leads_here(short), "{short}");
        }
        for (suffix, here) in
            [(".svc", true), (".svc.corp.local", true), (".svc.cluster.local", false), (".example", false)]
        {
            assert_eq!(table.leads_here(&format!("{host}{suffix}")), here, "{suffix}");
            assert_eq!(
                table.leads_here(&format!("connectors-gateway-admin.system{suffix}")),
                here,
                "{suffix}"
            );
        }
        for elsewhere in [
            // In the cluster of this table `demo` is a namespace, and in the world it may be a domain.
            &host,
            "connectors-gateway.demo",
            "connectors-gateway.example.com",
            "c-other.demo.svc",
            "git.example.com",
            "",
        ] {
            assert!(!table.leads_here(elsewhere), "{elsewhere}");
        }
        assert!(
            table.is_own_host("connectors-gateway.system.svc")
                && !table.is_own_host("connectors-gateway.demo.svc")
        );
    }
}
