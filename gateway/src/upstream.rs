//! Fifth stage: connections to targets. Own name resolution, the dial policy, then `connect` with our
//! verdict, or one of a `pool`: `session`. `relay` and `probe/fetch` speak HTTP over what this gives.

mod coming;
pub(crate) mod connect;
mod dial;
pub mod multiplex;
pub mod policy;
mod pool;
pub mod ranges;
mod reach;
mod resolve;
mod session;
pub mod trust;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use connectors_api::target::Target;
use http::HeaderMap;
use http::uri::Authority;
use moka::future::Cache;
use openssl::ssl::SslContext;
use openssl::x509::X509;
use openssl::x509::store::X509Store;

use self::connect::Renegotiation;
use self::dial::Address;
pub use self::dial::{Dial, Left, Session, Taken, Want};
use self::policy::{Candidate, Name, Surroundings};
use self::pool::Pools;
use self::resolve::Resolver;
use self::trust::Anchors;
use crate::error::{Error, Result};
use crate::http::headers;
use crate::http::http2::Budget;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::table::route::{Route, Table};
use crate::tls::issuer;

/// How long resolved addresses are used. Cluster DNS has 5–30 s.
const DIAL_LIFE: Duration = Duration::from_secs(20);
const DIALS: u64 = 20_000;
/// Of one target, in each family.
const ADDRESSES: usize = 8;
/// When a name of the cluster's DNS that was resolved is refused: later than that DNS answers anything.
const REFUSED_AFTER: Duration = Duration::from_millis(100);

pub struct Upstream {
    tls: SslContext,
    legacy_tls: SslContext,
    pools: Arc<Pools>,
    resolver: Resolver,
    /// For probes: what they find is not what somebody was told before.
    anew: Resolver,
    dials: Cache<(u64, String), Arc<Dial>>,
    system: Arc<X509Store>,
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    metrics: Arc<Metrics>,
    table: Arc<ArcSwap<Table>>,
    issuer: issuer::Current,
    surroundings: Surroundings,
    /// Of bodies and requests that wait, and of connections, of both legs.
    pub(crate) budget: Budget,
}

impl Upstream {
    pub fn new(
        settings: Arc<ArcSwap<Settings>>,
        table: Arc<ArcSwap<Table>>,
        issuer: issuer::Current,
        metrics: Arc<Metrics>,
        surroundings: Surroundings,
    ) -> anyhow::Result<Upstream> {
        Ok(Upstream {
            tls: connect::context(Renegotiation::Secure)?,
            legacy_tls: connect::context(Renegotiation::Legacy)?,
            pools: Pools::new(settings.clone()),
            resolver: Resolver::new(resolve::ANSWERS)?,
            anew: Resolver::new(0)?,
            dials: Cache::builder().max_capacity(DIALS).time_to_live(DIAL_LIFE).build(),
            system: trust::system_roots()?,
            budget: Budget::new(metrics.held.streams.clone(), metrics.held.requests.clone()),
            settings,
            metrics,
            table,
            issuer,
            surroundings,
        })
    }

    /// Notes in a request that it has passed us, and refuses one that had before. Until there is an issuer
    /// nothing has come by a tunnel.
    pub fn pass_hop(&self, headers: &mut HeaderMap) -> Result<()> {
        match self.issuer.load().as_ref() {
            Some(issuer) => headers::pass_hop(headers, &issuer.installation),
            None => Ok(()),
        }
    }

    /// Resolves a target of the route, single flight, remembered for some seconds. `given`: the CA
    /// certificates of the connector's Secrets.
    pub async fn dial(&self, route: &Route, target: &Target, given: &[X509]) -> Result<Arc<Dial>> {
        let key = (route.pool_key, target.origin());
        let found = self
            .dials
            .try_get_with(key, async {
                self.resolved(&self.resolver, route, target, given).await.map(Arc::new)
            })
            .await;
        found.map_err(|error| Error::clone(&error))
    }

    /// The same for a probe: asked now.
    pub(crate) async fn resolve(&self, route: &Route, target: &Target, given: &[X509]) -> Result<Dial> {
        self.resolved(&self.anew, route, target, given).await
    }

    async fn resolved(
        &self,
        resolver: &Resolver,
        route: &Route,
        target: &Target,
        given: &[X509],
    ) -> Result<Dial> {
        let table = self.table.load_full();
        if table.leads_here(&target.host) {
            return Err(Error::Itself { host: target.host.clone() });
        }
        let in_cluster = table.is_in_cluster(&target.host);
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), target.port);
        let named = Candidate {
            namespace: &route.connector.namespace,
            host: &target.host,
            in_cluster,
            address: nowhere,
        };
        let name = policy::check_name(&self.settings.load().targets, &named)
            .map_err(|error| self.told_in_cluster(error))?;
        let anchors = if target.tls { Some(self.anchors(route, target, given)?) } else { None };
        let found = self.addresses(resolver, target);
        let addresses = match name {
            Name::Open => found.await?,
            Name::Veiled => self.unveiled(&named, found).await?,
        };
        let origin = target.origin();
        let place = |address| Address { address, pool: self.pools.of(route.pool_key, &origin, address) };
        Ok(Dial {
            host: target.host.clone(),
            authority: Authority::try_from(target.authority())
                .map_err(|error| Error::Internal(format!("{origin}: {error}")))?,
            namespace: route.connector.namespace.clone(),
            share: self.budget.of(&route.connector.namespace),
            in_cluster,
            server_name: route.server_name(target).to_owned(),
            anchors,
            legacy_tls: route.trust.legacy_tls,
            addresses: addresses.into_iter().map(place).collect(),
        })
    }

    /// The addresses, if one of them may be dialled. Otherwise one refusal at one time, whether there is such a
    /// name or not, which is not remembered as those that exist are.
    async fn unveiled(
        &self,
        named: &Candidate<'_>,
        found: impl Future<Output = Result<Vec<SocketAddr>>>,
    ) -> Result<Vec<SocketAddr>> {
        let refused = tokio::time::sleep(REFUSED_AFTER);
        let why = match found.await {
            Ok(addresses) => {
                let (settings, known) = (self.settings.load(), self.surroundings.load());
                let may = |address: &SocketAddr| {
                    let candidate = Candidate { address: *address, ..*named };
                    policy::check(&settings.targets, &settings.listeners, &known, &candidate).is_ok()
                };
                if addresses.iter().any(may) {
                    return Ok(addresses);
                }
                format!("{addresses:?}")
            }
            Err(error) => error.to_string(),
        };
        refused.await;
        Err(self.told_in_cluster(policy::in_cluster(named, why)))
    }

    fn anchors(&self, route: &Route, target: &Target, given: &[X509]) -> Result<Anchors> {
        let policy = self.settings.load().upstream.unverified;
        let anchors = Anchors::new(
            target,
            route.server_name(target),
            policy,
            self.system.clone(),
            given,
            &route.trust.pins,
        );
        anchors.map_err(|error| Error::Internal(format!("trust store: {error}")))
    }

    async fn addresses(&self, resolver: &Resolver, target: &Target) -> Result<Vec<SocketAddr>> {
        let limit = self.settings.load().timeouts.connect;
        let unresolvable = |cause: String| Error::Unresolvable { host: target.host.clone(), cause };
        let name = self.table.load().absolute(&target.host);
        let lookup = resolver.addresses(&name);
        let found =
            tokio::time::timeout(limit, lookup).await.map_err(|_| unresolvable("timed out".to_owned()))?;
        let found = found.map_err(unresolvable)?;
        let addresses = sorted(found.into_iter().map(|ip| SocketAddr::new(ip, target.port)).collect());
        if addresses.is_empty() {
            return Err(unresolvable("no address".to_owned()));
        }
        Ok(addresses)
    }
}

/// In the same order each time: a pool is per address. Each has a pool, and each is tried: of the thousands that a
/// tenant's own DNS may answer with, a few.
fn sorted(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    let mut left = [ADDRESSES; 2];
    addresses.retain(|address| {
        let left = &mut left[usize::from(address.is_ipv6())];
        let taken = *left > 0;
        *left = left.saturating_sub(1);
        taken
    });
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_names_addresses_a_few_of_each_family_are_used_each_once_and_always_the_same() {
        let v4 = |n: u16| SocketAddr::from(([10, 0, 0, 1], n));
        let v6 = |n: u16| SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], n));
        let few = vec![v6(1), v4(2), v4(1), v4(2), v6(1)];
        assert_eq!(sorted(few), [v4(1), v4(2), v6(1)]);
        let many: Vec<SocketAddr> = (1..3000).flat_map(|n| [v4(n), v6(n)]).collect();
        let used = sorted(many.clone());
        assert_eq!(used.iter().filter(|address| address.is_ipv4()).count(), ADDRESSES);
        assert_eq!(used.iter().filter(|address| address.is_ipv6()).count(), ADDRESSES);
        assert_eq!(used, sorted(many.into_iter().rev().collect()));
    }
}
