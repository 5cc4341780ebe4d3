//! From a target's name to its addresses, by a resolver of our own: no search domain is ever applied, or a
//! Service of this cluster could have the name of somebody's target and get its credential. `x.ns.svc` is
//! completed with the cluster's domain by the routing table. A lost packet costs a second and not the
//! deadline; answers are remembered as long as they say, the wrong ones for a moment; while
//! no server answers, a name is what it was. `/etc/hosts` counts.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use moka::sync::Cache;

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

/// An old answer is better than none, for so long.
const STALE: Duration = Duration::from_secs(600);
/// Who has an old answer waits no longer for a new one: a packet was lost, or the servers are away.
const PATIENCE: Duration = Duration::from_millis(1000);

pub struct Resolver {
    dns: TokioResolver,
    /// What each name was last, for as long as that may be used.
    last: Cache<String, Vec<IpAddr>>,
}

impl Resolver {
    /// Asks the servers of `/etc/resolv.conf`; `answers`: how many are remembered.
    pub fn new(answers: u64) -> anyhow::Result<Resolver> {
        let builder = TokioResolver::builder_tokio().context("reading /etc/resolv.conf")?;
        Resolver::of(builder, answers)
    }

    fn of(mut builder: ResolverBuilder<TokioRuntimeProvider>, answers: u64) -> anyhow::Result<Resolver> {
        let options = builder.options_mut();
        (options.timeout, options.attempts) = (TRY, TRIES);
        (options.positive_max_ttl, options.negative_max_ttl) = (Some(LIFE), Some(NO_LIFE));
        options.cache_size = answers;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        let last = Cache::builder().max_capacity(answers).time_to_live(STALE).build();
        Ok(Resolver { dns: builder.build().context("starting the resolver")?, last })
    }

    /// `name` is absolute: with a dot at its end. An address stands for itself.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = name.trim_end_matches('.').parse() {
            return Ok(vec![address]);
        }
        let asked = ask(self.dns.clone(), self.last.clone(), name.to_owned());
        let Some(old) = self.last.get(name) else {
            return Box::pin(asked).await.map_err(|error| error.to_string());
        };
        // A task of its own, so that the answer is there next time if it comes late.
        match tokio::time::timeout(PATIENCE, tokio::spawn(asked)).await {
            Ok(Ok(Ok(found))) => Ok(found),
            // There is no such name any more: that is an answer.
            Ok(Ok(Err(error))) if error.is_no_records_found() => {
                self.last.invalidate(name);
                Err(error.to_string())
            }
            _ => Ok(old),
        }
    }
}

async fn ask(
    dns: TokioResolver,
    last: Cache<String, Vec<IpAddr>>,
    name: String,
) -> Result<Vec<IpAddr>, NetError> {
    let found: Vec<IpAddr> = dns.lookup_ip(name.as_str()).await?.iter().collect();
    last.insert(name, found.clone());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU8, Ordering};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};

    use super::*;

    #[tokio::test]
    async fn addresses_and_the_names_of_the_machine_need_no_server() {
        let resolver = Resolver::new(ANSWERS).unwrap();
        for (name, address) in [("127.0.0.1.", "127.0.0.1"), ("::1", "::1"), ("localhost.", "127.0.0.1")] {
            let found = resolver.addresses(name).await.unwrap();
            assert!(found.contains(&address.parse().unwrap()), "{name}: {found:?}");
        }
    }

    const SILENT: u8 = 255;
    const NO_SUCH_NAME: u8 = 0;

    /// A name server that knows one address, 10.0.0.`state`, for no time at all; or no such name; or nothing.
    fn server(state: Arc<AtomicU8>) -> Resolver {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = socket.local_addr().unwrap().port();
        let here = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((n, from)) = socket.recv_from(&mut packet) {
                if let Some(answer) = answer(&packet[..n], state.load(Ordering::SeqCst)) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![here]);
        let provider = TokioRuntimeProvider::default();
        Resolver::of(TokioResolver::builder_with_config(config, provider), ANSWERS).unwrap()
    }

    /// RFC 1035: the question again, and for type A one record that points at its name.
    fn answer(question: &[u8], state: u8) -> Option<Vec<u8>> {
        let end = 12 + question[12..].iter().position(|byte| *byte == 0)? + 5;
        let asks_a = question[end - 4..end - 2] == [0, 1];
        let found = asks_a && state != NO_SUCH_NAME;
        let code = if state == NO_SUCH_NAME { 3 } else { 0 };
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
        answer.extend(&question[12..end]);
        if found {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 0, 0, state]);
        }
        (state != SILENT).then_some(answer)
    }

    #[tokio::test]
    async fn while_the_servers_are_away_a_name_is_what_it_was_and_what_they_say_counts_again_at_once() {
        let state = Arc::new(AtomicU8::new(1));
        let resolver = server(state.clone());
        let found = async || resolver.addresses("target.example.").await.map(|found| found[0].to_string());
        assert_eq!(found().await.as_deref(), Ok("10.0.0.1"));
        state.store(SILENT, Ordering::SeqCst);
        let begun = std::time::Instant::now();
        assert_eq!(found().await.as_deref(), Ok("10.0.0.1"));
        assert!(begun.elapsed() < TRY * 3, "{:?}", begun.elapsed());
        assert!(resolver.addresses("unknown.example.").await.is_err(), "of this one nothing is known");
        state.store(2, Ordering::SeqCst);
        assert_eq!(found().await.as_deref(), Ok("10.0.0.2"));
        state.store(NO_SUCH_NAME, Ordering::SeqCst);
        assert!(found().await.is_err(), "the name is gone");
        state.store(SILENT, Ordering::SeqCst);
        assert!(found().await.is_err(), "what is gone does not come back");
    }
}
