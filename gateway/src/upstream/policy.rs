//! Where the gateway may dial at all, asked with each resolved address: after `upstream` has resolved a name
//! and before it connects, for probes too. Protects the gateway's surroundings (metadata, its own cluster)
//! from whoever may write a Connector.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::error::{Error, Result};
use crate::settings::{Listeners, Plaintext, TargetRule, Targets, UpstreamSettings};

/// Addresses of cloud metadata services outside of link-local: AWS and EKS Pod Identity (IPv6), GCP (IPv6),
/// Azure's wire server, Alibaba, Oracle.
const METADATA: [IpAddr; 6] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// What is known of the cluster around the gateway; looked up anew now and then.
pub type Surroundings = Arc<ArcSwap<Known>>;

#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Addresses of the home cluster's API server, the only part of the cluster that may be a target by
    /// default.
    pub api_server: Vec<SocketAddr>,
    /// Of the gateway's own Pod.
    pub pod: Vec<IpAddr>,
    /// Of the gateway's own Services.
    pub services: Vec<IpAddr>,
}

/// What is about to be dialled, and for whom.
pub struct Candidate<'a> {
    /// Namespace of the connector.
    pub namespace: &'a str,
    /// The target's host as the connector names it.
    pub host: &'a str,
    pub address: SocketAddr,
}

/// `listeners`: the gateway's own ports.
pub fn check(
    targets: &Targets,
    listeners: &Listeners,
    known: &Known,
    candidate: &Candidate<'_>,
) -> Result<()> {
    let ip = candidate.address.ip().to_canonical();
    if is_itself(listeners, known, ip, candidate.address.port()) {
        return Err(Error::Itself { host: candidate.host.to_owned() });
    }
    let matches = |rules: &[TargetRule], ip| rules.iter().any(|rule| applies(rule, candidate, ip));
    // Where a router would carry it in the end is denied like the address itself; allowed is what is written.
    let carried = embedded(ip);
    let within = |ip: IpAddr| targets.cluster.iter().any(|range| range.contains(&ip));
    let allowed = match () {
        () if matches(&targets.deny, ip) || carried.is_some_and(|ip| matches(&targets.deny, ip)) => false,
        () if matches(&targets.allow, ip) => true,
        () if known
            .api_server
            .iter()
            .any(|one| one.ip().to_canonical() == ip && one.port() == candidate.address.port()) =>
        {
            true
        }
        () => [Some(ip), carried].into_iter().flatten().all(|ip| !denied_by_default(ip) && !within(ip)),
    };
    match allowed {
        true => Ok(()),
        false => {
            Err(Error::Denied { host: candidate.host.to_owned(), address: candidate.address.to_string() })
        }
    }
}

/// What the settings say of a target without TLS; none if a rule lets it be so.
pub fn plaintext(settings: &UpstreamSettings, candidate: &Candidate<'_>) -> Option<Plaintext> {
    let ip = candidate.address.ip().to_canonical();
    let allowed = settings.plaintext_allow.iter().any(|rule| applies(rule, candidate, ip));
    (!allowed).then_some(settings.plaintext)
}

/// Whatever the settings allow: a request that comes back to us would go round and round.
fn is_itself(listeners: &Listeners, known: &Known, ip: IpAddr, port: u16) -> bool {
    let holds = |addresses: &[IpAddr]| addresses.iter().any(|one| one.to_canonical() == ip);
    let ours =
        [listeners.http, listeners.https, listeners.admin].iter().any(|listener| listener.port() == port);
    holds(&known.services) || ours && (ip.is_loopback() || ip.is_unspecified() || holds(&known.pod))
}

/// Each non-empty list of the rule must match; a rule without any list matches nothing.
fn applies(rule: &TargetRule, candidate: &Candidate<'_>, ip: IpAddr) -> bool {
    let TargetRule { cidrs, hosts, ports, namespaces } = rule;
    if cidrs.is_empty() && hosts.is_empty() && ports.is_empty() && namespaces.is_empty() {
        return false;
    }
    (cidrs.is_empty() || cidrs.iter().any(|range| range.contains(&ip)))
        && (hosts.is_empty() || hosts.iter().any(|glob| host_matches(glob, candidate.host)))
        && (ports.is_empty() || ports.contains(&candidate.address.port()))
        && (namespaces.is_empty() || namespaces.iter().any(|one| one == candidate.namespace))
}

/// `*.example.com` matches names below example.com, not example.com itself.
fn host_matches(glob: &str, host: &str) -> bool {
    match glob.strip_prefix("*.") {
        Some(domain) => {
            let split = host.len().checked_sub(domain.len() + 1);
            split.is_some_and(|at| {
                at > 0
                    && host.is_char_boundary(at)
                    && host[at..].strip_prefix('.').is_some_and(|end| end.eq_ignore_ascii_case(domain))
            })
        }
        None => glob.eq_ignore_ascii_case(host),
    }
}

fn denied_by_default(ip: IpAddr) -> bool {
    METADATA.contains(&ip)
        || match ip {
            IpAddr::V4(v4) => special_v4(v4),
            IpAddr::V6(v6) => {
                v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()
            }
        }
}

fn special_v4(v4: Ipv4Addr) -> bool {
    // 0.0.0.0/8 reaches the host itself on Linux.
    v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0 || v4.is_broadcast() || v4.is_multicast()
}

/// NAT64 (64:ff9b::/96), 6to4 (2002::/16) and the deprecated IPv4-compatible form carry an IPv4 address.
fn embedded(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = ip else { return None };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        (0x64, 0xff9b) if (c, d, e, f) == (0, 0, 0, 0) => Some(from(g, h)),
        (0x2002, _) => Some(from(b, c)),
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0) => Some(from(g, h)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(targets: &Targets, host: &str, ip: &str) -> bool {
        judged(targets, host, &SocketAddr::new(ip.parse().unwrap(), 6443).to_string()).is_ok()
    }

    fn judged(targets: &Targets, host: &str, address: &str) -> Result<()> {
        let known = Known {
            api_server: vec!["10.96.0.1:6443".parse().unwrap()],
            pod: vec!["10.244.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            services: vec!["10.96.0.20".parse().unwrap()],
        };
        check(
            targets,
            &Listeners::default(),
            &known,
            &Candidate { namespace: "demo", host, address: address.parse().unwrap() },
        )
    }

    fn rule(cidrs: &[&str], hosts: &[&str], ports: &[u16], namespaces: &[&str]) -> TargetRule {
        TargetRule {
            cidrs: cidrs.iter().map(|one| one.parse().unwrap()).collect(),
            hosts: hosts.iter().map(|one| (*one).to_owned()).collect(),
            ports: ports.to_vec(),
            namespaces: namespaces.iter().map(|one| (*one).to_owned()).collect(),
        }
    }

    #[test]
    fn the_surroundings_of_the_gateway_are_denied_in_every_spelling() {
        let targets = Targets { cluster: vec!["10.96.0.0/12".parse().unwrap()], ..Targets::default() };
        for ip in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.100.100.200",
            "168.63.129.16",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "fe80::1",
            "fd00:ec2::254",
            "224.0.0.1",
            "10.96.0.10",
            "::ffff:10.96.0.10",
            "64:ff9b::a60:a",
            "2002:a60:a::1",
            "64:ff9b::a83f:8110",
            "64:ff9b::6464:64c8",
            "2002:c000:c0::",
            "192.0.0.192",
            "fd00:ec2::23",
            "fd20:ce::254",
        ] {
            assert!(!allowed(&targets, "target.example", ip), "{ip}");
        }
        for ip in ["10.96.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "::ffff:10.96.0.1"] {
            assert!(allowed(&targets, "target.example", ip), "{ip}");
        }
    }

    #[test]
    fn the_gateway_is_no_target_of_its_own_whatever_is_allowed() {
        let targets =
            Targets { allow: vec![rule(&["0.0.0.0/0", "::/0"], &[], &[], &[])], ..Targets::default() };
        for (address, itself) in [
            ("10.96.0.20:80", true),
            ("[::ffff:10.96.0.20]:443", true),
            ("10.96.0.20:9090", true),
            ("10.244.0.7:8080", true),
            ("10.244.0.7:8443", true),
            ("[fd00::7]:9090", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8443", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("0.0.0.0:8080", true),
            // A node's, where a gateway shares its network.
            ("10.244.0.7:6443", false),
            ("127.0.0.1:6443", false),
            ("10.244.0.8:8080", false),
        ] {
            let refused = matches!(judged(&targets, "t", address), Err(Error::Itself { .. }));
            assert_eq!(refused, itself, "{address}");
        }
    }

    #[test]
    fn deny_wins_over_allow_and_allow_over_the_defaults() {
        let mut targets =
            Targets { allow: vec![rule(&["127.0.0.0/8"], &[], &[6443], &[])], ..Targets::default() };
        assert!(allowed(&targets, "t", "127.0.0.1"));
        targets.deny = vec![rule(&["127.0.0.1/32"], &[], &[], &[])];
        assert!(!allowed(&targets, "t", "127.0.0.1"));
        assert!(allowed(&targets, "t", "127.0.0.2"));
        targets.deny = vec![rule(&["8.8.8.0/24"], &[], &[], &[])];
        for (ip, open) in [
            ("8.8.8.8", false),
            ("64:ff9b::808:808", false),
            ("2002:808:808::", false),
            ("64:ff9b::101:101", true),
        ] {
            assert_eq!(allowed(&targets, "t", ip), open, "{ip}");
        }
        // What is carried is not what was allowed.
        assert!(!allowed(&targets, "t", "64:ff9b::7f00:2"));
    }

    #[test]
    fn every_list_of_a_rule_must_match() {
        for (rule, matches) in [
            (rule(&[], &["*.example"], &[], &[]), true),
            (rule(&[], &["*.EXAMPLE"], &[6443], &["demo"]), true),
            (rule(&[], &["target.example"], &[443], &[]), false),
            (rule(&[], &["example"], &[], &[]), false),
            (rule(&[], &["*.target.example"], &[], &[]), false),
            (rule(&[], &["target.example"], &[], &["other"]), false),
            (rule(&[], &[], &[], &[]), false),
        ] {
            let targets = Targets { allow: vec![rule.clone()], ..Targets::default() };
            assert_eq!(allowed(&targets, "target.example", "127.0.0.1"), matches, "{rule:?}");
        }
    }
}
