//! From a target's name to its addresses, by a resolver of our own: no search domain is ever applied, or a
//! Service of this cluster could have the name of somebody's target and get its credential. `x.ns.svc` is
//! completed with the cluster's domain by the routing table. A lost packet costs a second and not the
//! deadline; answers are remembered as long as they say, the wrong ones for a moment. `/etc/hosts` counts.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};

/// Of one packet. Cluster DNS answers within milliseconds.
const TRY: Duration = Duration::from_millis(800);
/// More than fit into `timeouts.connect`: the deadline is the caller's.
const TRIES: usize = 8;
/// A name that is not there yet may be there soon.
const NO_LIFE: Duration = Duration::from_secs(5);
/// Whatever an answer says of itself.
const LIFE: Duration = Duration::from_secs(300);
/// How many are remembered for users.
pub const ANSWERS: u64 = 4096;

pub struct Resolver(TokioResolver);

impl Resolver {
    /// Asks the servers of `/etc/resolv.conf`; `answers`: how many are remembered.
    pub fn new(answers: u64) -> anyhow::Result<Resolver> {
        let mut builder = TokioResolver::builder_tokio().context("reading /etc/resolv.conf")?;
        let options = builder.options_mut();
        (options.timeout, options.attempts) = (TRY, TRIES);
        (options.positive_max_ttl, options.negative_max_ttl) = (Some(LIFE), Some(NO_LIFE));
        options.cache_size = answers;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        Ok(Resolver(builder.build().context("starting the resolver")?))
    }

    /// `name` is absolute: with a dot at its end. An address stands for itself.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = name.trim_end_matches('.').parse() {
            return Ok(vec![address]);
        }
        let found = self.0.lookup_ip(name).await.map_err(|error| error.to_string())?;
        Ok(found.iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_the_names_of_the_machine_need_no_server() {
        let resolver = Resolver::new(ANSWERS).unwrap();
        for (name, address) in [("127.0.0.1.", "127.0.0.1"), ("::1", "::1"), ("localhost.", "127.0.0.1")] {
            let found = resolver.addresses(name).await.unwrap();
            assert!(found.contains(&address.parse().unwrap()), "{name}: {found:?}");
        }
    }
}
