//! Which connector a proxy host leads to. A host is the name of a Service, and two connectors of a namespace
//! may have names that come to one: the Service's own connector has it then, and while nobody can say whose
//! it is, nobody.

use std::cmp::Ordering;
use std::collections::HashMap;

use connectors_api::Connector;
use connectors_api::conditions::{self, reason};
use connectors_api::item::Item;
use connectors_api::names;
use connectors_api::proxy_auth::ConnectorRef;

/// What the controller has said of a connector's Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// It is another's.
    None,
    /// Nothing yet.
    Asked,
    /// It is this connector's.
    Served,
}

/// `c-<name>.<ns>` → its connector; none for a host that several claim with equal right.
pub type Hosts = HashMap<String, Option<ConnectorRef>>;

impl Claim {
    pub fn of(connector: &Item<Connector>) -> Claim {
        let Some(status) = connector.read().ok().and_then(|connector| connector.status.as_ref()) else {
            return Claim::Asked;
        };
        let service = conditions::find(&status.conditions, conditions::PROXY_SERVICE_READY);
        let taken = service.is_some_and(|service| service.reason.as_deref() == Some(reason::NAME_TAKEN));
        let url = status.proxy.as_ref().and_then(|proxy| proxy.http_address.as_ref()?.url.as_ref());
        match (taken, url) {
            (true, _) => Claim::None,
            (false, Some(_)) => Claim::Served,
            (false, None) => Claim::Asked,
        }
    }
}

pub fn hosts<'a>(claims: impl Iterator<Item = (&'a ConnectorRef, Claim)>) -> Hosts {
    let mut best: HashMap<String, (Claim, Option<ConnectorRef>)> = HashMap::new();
    for (connector, claim) in claims {
        let owner = (claim != Claim::None).then(|| connector.clone());
        let place = best.entry(service_host(connector)).or_insert((Claim::None, None));
        match claim.cmp(&place.0) {
            Ordering::Greater => *place = (claim, owner),
            Ordering::Equal => place.1 = None,
            Ordering::Less => {}
        }
    }
    best.into_iter().map(|(host, (_, owner))| (host, owner)).collect()
}

pub fn service_host(connector: &ConnectorRef) -> String {
    format!("{}.{}", names::service_name(&connector.name), connector.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_connectors_with_one_host_the_services_own_has_it_or_nobody() {
        let named = |name: &str| ConnectorRef { namespace: "demo".into(), name: name.into() };
        let dotted = named("a.b");
        let twin = named(names::service_name("a.b").strip_prefix("c-").unwrap());
        let host = service_host(&dotted);
        assert_eq!(host, service_host(&twin), "no twins");
        use Claim::{Asked, None as Taken, Served};
        for (first, second, owner) in [
            (Served, Taken, Some(&dotted)),
            (Served, Asked, Some(&dotted)),
            (Taken, Served, Some(&twin)),
            (Asked, Taken, Some(&dotted)),
            (Asked, Asked, None),
            (Served, Served, None),
            (Taken, Taken, None),
        ] {
            for claims in [[(&dotted, first), (&twin, second)], [(&twin, second), (&dotted, first)]] {
                let hosts = hosts(claims.into_iter());
                assert_eq!(hosts[&host].as_ref(), owner, "{first:?} {second:?}");
            }
        }
    }
}
