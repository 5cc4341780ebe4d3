//! Where the gateway may dial at all, asked with each resolved address: after `upstream` has resolved a name
//! and before it connects, for probes too. Protects the gateway's surroundings (metadata, its own cluster)
//! from whoever may write a Connector.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::ranges::Ranges;
use crate::error::{Error, Result};
use crate::settings::{InCluster, Listeners, Plaintext, TargetRule, Targets, UpstreamSettings};

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

/// What is known of the cluster around the gateway.
pub type Surroundings = Arc<ArcSwap<Known>>;

#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Addresses of the home cluster's API server, the only part of the cluster that may be a target by
    /// default: as the gateway itself reaches it.
    pub api_server: Vec<SocketAddr>,
    /// Of the gateway's own Pod.
    pub pod: Vec<IpAddr>,
    /// Of the gateway's own Services.
    pub services: Vec<IpAddr>,
    /// None until the controller's word has arrived.
    pub cluster: Option<Arc<Cluster>>,
}

/// Without a cluster around.
pub fn alone() -> Surroundings {
    let cluster = Some(Arc::default());
    Arc::new(ArcSwap::from_pointee(Known { cluster, ..Known::default() }))
}

/// Several tell of different things at the same time.
pub fn learn(surroundings: &Surroundings, change: impl Fn(&mut Known)) {
    surroundings.rcu(|known| {
        let mut known = Known::clone(known);
        change(&mut known);
        known
    });
}

/// What the controller says of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Services, Pods and nodes.
    pub ranges: Ranges,
    /// The API server's Service and endpoints.
    pub api_server: Vec<SocketAddr>,
}

/// What is about to be dialled, and for whom.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    /// Namespace of the connector.
    pub namespace: &'a str,
    /// The target's host as the connector names it.
    pub host: &'a str,
    /// It is a name of this cluster's DNS, and not the API server's.
    pub in_cluster: bool,
    pub address: SocketAddr,
}

/// Where a target is that may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Outside,
    /// Inside of the cluster, which is only observed.
    InCluster,
}

/// `listeners`: the gateway's own ports.
pub fn check(
    targets: &Targets,
    listeners: &Listeners,
    known: &Known,
    candidate: &Candidate<'_>,
) -> Result<Place> {
    let ip = candidate.address.ip().to_canonical();
    if is_itself(listeners, known, ip, candidate.address.port()) {
        return Err(Error::Itself { host: candidate.host.to_owned() });
    }
    let matches = |rules: &[TargetRule], ip| rules.iter().any(|rule| applies(rule, candidate, Some(ip)));
    // Where a router would carry it in the end is denied like the address itself; allowed is what is written.
    let every = [Some(ip), embedded(ip)];
    let any = |holds: &dyn Fn(IpAddr) -> bool| every.into_iter().flatten().any(holds);
    if any(&|ip| matches(&targets.deny, ip)) {
        return Err(denied(candidate));
    }
    if matches(&targets.allow, ip) || is_api_server(known, ip, candidate.address.port()) {
        return Ok(Place::Outside);
    }
    let listed = |ip: IpAddr| targets.cluster.iter().any(|range| range.contains(&ip));
    if any(&|ip| denied_by_default(ip) || listed(ip)) {
        return Err(denied(candidate));
    }
    let Some(cluster) = &known.cluster else {
        return if targets.in_cluster == InCluster::Observe {
            Ok(Place::Outside)
        } else {
            Err(Error::NoRanges)
        };
    };
    match (candidate.in_cluster || any(&|ip| cluster.ranges.contain(ip)), targets.in_cluster) {
        (false, _) => Ok(Place::Outside),
        (true, InCluster::Observe) => Ok(Place::InCluster),
        (true, InCluster::Deny) => Err(in_cluster(candidate, candidate.address.to_string())),
    }
}

/// What somebody may learn of a name by having it resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Whether there is such a name is no secret.
    Open,
    /// It is one of the cluster's DNS, and what its addresses are decides: whom none of them is allowed to learns
    /// nothing, not even whether it exists.
    Veiled,
}

/// Before a name of the cluster's DNS is resolved: who may not go there by any address is refused at once.
pub fn check_name(targets: &Targets, candidate: &Candidate<'_>) -> Result<Name> {
    if !candidate.in_cluster {
        return Ok(Name::Open);
    }
    let by_default = targets.in_cluster == InCluster::Deny;
    let may = |rules: &[TargetRule]| rules.iter().any(|rule| applies(rule, candidate, None));
    let must = |rules: &[TargetRule]| {
        rules.iter().any(|rule| rule.cidrs.is_empty() && applies(rule, candidate, None))
    };
    if by_default && !may(&targets.allow) {
        return Err(in_cluster(candidate, "what the cluster's DNS says".to_owned()));
    }
    let decided = !may(&targets.deny) && (!by_default || must(&targets.allow));
    Ok(if decided { Name::Open } else { Name::Veiled })
}

fn denied(candidate: &Candidate<'_>) -> Error {
    Error::Denied { host: candidate.host.to_owned(), address: candidate.address.to_string() }
}

/// `address`: for the log.
pub fn in_cluster(candidate: &Candidate<'_>, address: String) -> Error {
    let rule = allowing(candidate);
    Error::InCluster { host: candidate.host.to_owned(), address, rule }
}

/// The rule that would let it through, ready to be pasted below `targets.allow`.
pub fn allowing(candidate: &Candidate<'_>) -> String {
    let Candidate { namespace, host, address, .. } = candidate;
    let host = match host.parse::<IpAddr>() {
        Ok(ip) => format!("cidrs: [\"{}\"]", IpNet::from(ip)),
        Err(_) => format!("hosts: [{host}]"),
    };
    format!("{{namespaces: [{namespace}], {host}, ports: [{}]}}", address.port())
}

fn is_api_server(known: &Known, ip: IpAddr, port: u16) -> bool {
    let learned = known.cluster.as_ref().map(|cluster| cluster.api_server.iter());
    let mut addresses = known.api_server.iter().chain(learned.into_iter().flatten());
    addresses.any(|one| one.ip().to_canonical() == ip && one.port() == port)
}

/// What the settings say of a target without TLS; none if a rule lets it be so.
pub fn plaintext(settings: &UpstreamSettings, candidate: &Candidate<'_>) -> Option<Plaintext> {
    let ip = candidate.address.ip().to_canonical();
    let allowed = settings.plaintext_allow.iter().any(|rule| applies(rule, candidate, Some(ip)));
    (!allowed).then_some(settings.plaintext)
}

/// Whatever the settings allow: a request that comes back to us would go round and round.
fn is_itself(listeners: &Listeners, known: &Known, ip: IpAddr, port: u16) -> bool {
    let holds = |addresses: &[IpAddr]| addresses.iter().any(|one| one.to_canonical() == ip);
    let ours = listeners.all().iter().any(|listener| listener.port() == port);
    holds(&known.services) || ours && (ip.is_loopback() || ip.is_unspecified() || holds(&known.pod))
}

/// Each non-empty list of the rule must match; a rule without any list matches nothing. Without an address
/// those of addresses may still match.
fn applies(rule: &TargetRule, candidate: &Candidate<'_>, ip: Option<IpAddr>) -> bool {
    let TargetRule { cidrs, hosts, ports, namespaces } = rule;
    if cidrs.is_empty() && hosts.is_empty() && ports.is_empty() && namespaces.is_empty() {
        return false;
    }
    (cidrs.is_empty() || ip.is_none_or(|ip| cidrs.iter().any(|range| range.contains(&ip))))
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

/// 64:ff9b:1::/48 (RFC 8215): where in it an IPv4 address stands is each network's own affair.
const LOCAL_NAT64: [u16; 3] = [0x64, 0xff9b, 1];

fn denied_by_default(ip: IpAddr) -> bool {
    METADATA.contains(&ip)
        || match ip {
            IpAddr::V4(v4) => special_v4(v4),
            IpAddr::V6(v6) => {
                let translated = v6.segments()[..3] == LOCAL_NAT64;
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unicast_link_local()
                    || translated
            }
        }
}

fn special_v4(v4: Ipv4Addr) -> bool {
    // 0.0.0.0/8 reaches the host itself on Linux.
    v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0 || v4.is_broadcast() || v4.is_multicast()
}

/// NAT64 (64:ff9b::/96), 6to4 (2002::/16), SIIT (::ffff:0:0:0/96) and the
/// deprecated IPv4-compatible form carry an IPv4 address.
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
        (0, 0) if (c, d) == (0, 0) && matches!((e, f), (0, 0) | (0xffff, 0)) => Some(from(g, h)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(targets: &Targets, host: &str, ip: &str) -> bool {
        judged(targets, host, &SocketAddr::new(ip.parse().unwrap(), 6443).to_string()).is_ok()
    }

    fn judged(targets: &Targets, host: &str, address: &str) -> Result<Place> {
        let learned = ["10.244.0.0/24", "192.168.1.7/32", "fd00:244::/64"].map(|net| net.parse().unwrap());
        let known = Known {
            cluster: Some(Arc::new(Cluster {
                ranges: learned.into_iter().collect(),
                api_server: vec!["192.168.1.7:6443".parse().unwrap()],
            })),
            api_server: vec!["10.96.0.1:6443".parse().unwrap()],
            pod: vec!["10.244.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            services: vec!["10.96.0.20".parse().unwrap()],
        };
        check(
            targets,
            &Listeners::default(),
            &known,
            &Candidate {
                namespace: "demo",
                host,
                in_cluster: host.ends_with(".svc"),
                address: address.parse().unwrap(),
            },
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
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "::ffff:0:169.254.169.254",
            "::ffff:0:10.96.0.10",
        ] {
            assert!(!allowed(&targets, "target.example", ip), "{ip}");
        }
        for ip in ["10.96.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "::ffff:10.96.0.1"] {
            assert!(allowed(&targets, "target.example", ip), "{ip}");
        }
    }

    #[test]
    fn what_is_in_the_cluster_is_denied_or_observed_and_its_api_server_is_neither() {
        let allow = |rule: TargetRule| Targets { allow: vec![rule], ..Targets::default() };
        let observe = Targets { in_cluster: InCluster::Observe, ..Targets::default() };
        let web = allow(rule(&[], &["web.team.svc"], &[], &["demo"]));
        let (outside, inside, refused) = (Some(Place::Outside), Some(Place::InCluster), None);
        for (targets, host, address, expected) in [
            (&Targets::default(), "t", "10.244.0.9:443", refused),
            (&Targets::default(), "t", "[::ffff:10.244.0.9]:443", refused),
            (&Targets::default(), "t", "[64:ff9b::af4:9]:443", refused),
            (&Targets::default(), "t", "[2002:af4:9::]:443", refused),
            (&Targets::default(), "t", "[fd00:244::9]:443", refused),
            (&Targets::default(), "192.168.1.7", "192.168.1.7:22", refused),
            (&Targets::default(), "192.168.1.7", "192.168.1.7:6443", outside),
            (&Targets::default(), "192.168.1.8", "192.168.1.8:22", outside),
            (&Targets::default(), "web.team.svc", "203.0.113.9:443", refused),
            (&observe, "t", "10.244.0.9:443", inside),
            (&observe, "web.team.svc", "203.0.113.9:443", inside),
            (&observe, "t", "203.0.113.9:443", outside),
            (&observe, "t", "169.254.169.254:80", refused),
            (&web, "web.team.svc", "10.244.0.9:443", outside),
            (&web, "web.other.svc", "10.244.0.9:443", refused),
        ] {
            assert_eq!(judged(targets, host, address).ok(), expected, "{host} {address}");
        }
    }

    #[test]
    fn a_refusal_inside_of_the_cluster_says_the_rule_that_would_allow_it() {
        for (host, address) in [
            ("web.team.svc", "10.244.0.9:8443"),
            ("10.244.0.9", "10.244.0.9:80"),
            ("fd00:244::9", "[fd00:244::9]:80"),
        ] {
            let Err(Error::InCluster { rule, .. }) = judged(&Targets::default(), host, address) else {
                panic!("{host} is not refused")
            };
            let targets: Targets = serde_yaml_ng::from_str(&format!("allow: [{rule}]")).unwrap();
            assert_eq!(judged(&targets, host, address).ok(), Some(Place::Outside), "{rule}");
            assert!(
                judged(&targets, host, &address.replace("80", "81")).is_err() || address.contains("8443")
            );
        }
    }

    #[test]
    fn until_the_clusters_ranges_are_known_only_what_is_allowed_is_dialled() {
        let candidate = |address: &str| Candidate {
            namespace: "demo",
            host: "t",
            in_cluster: false,
            address: address.parse().unwrap(),
        };
        let check = |targets: &Targets, address: &str| {
            check(targets, &Listeners::default(), &Known::default(), &candidate(address))
        };
        let observe = Targets { in_cluster: InCluster::Observe, ..Targets::default() };
        let allowed = Targets { allow: vec![rule(&["203.0.113.0/24"], &[], &[], &[])], ..Targets::default() };
        assert!(matches!(check(&Targets::default(), "203.0.113.9:443"), Err(Error::NoRanges)));
        assert!(check(&observe, "203.0.113.9:443").is_ok());
        assert!(check(&allowed, "203.0.113.9:443").is_ok());
    }

    #[test]
    fn a_name_of_the_cluster_is_refused_before_it_is_resolved_unless_a_rule_may_allow_it() {
        let named = |targets: &Targets, namespace: &str, host: &str| {
            let address = "0.0.0.0:443".parse().unwrap();
            let in_cluster = host.ends_with(".svc");
            check_name(targets, &Candidate { namespace, host, in_cluster, address }).ok()
        };
        let allow = vec![rule(&["10.0.0.0/8"], &[], &[], &["demo"]), rule(&[], &["*.team.svc"], &[], &[])];
        let deny =
            vec![rule(&["10.1.0.0/16"], &[], &[], &["denied"]), rule(&[], &["*.hidden.svc"], &[], &[])];
        let targets = Targets { allow, ..Targets::default() };
        let both = Targets { deny: deny.clone(), ..targets.clone() };
        let observe = Targets { in_cluster: InCluster::Observe, ..Targets::default() };
        let denied = Targets { deny, ..observe.clone() };
        let (open, veiled, refused) = (Some(Name::Open), Some(Name::Veiled), None);
        for (targets, namespace, host, expected) in [
            (&targets, "demo", "web.other.svc", veiled),
            (&targets, "else", "web.other.svc", refused),
            (&targets, "else", "web.team.svc", open),
            (&targets, "else", "target.example", open),
            (&both, "else", "web.team.svc", open),
            (&both, "denied", "web.team.svc", veiled),
            (&both, "demo", "web.hidden.svc", veiled),
            (&observe, "else", "web.other.svc", open),
            (&denied, "else", "web.other.svc", open),
            (&denied, "else", "web.hidden.svc", veiled),
            (&denied, "denied", "target.example", open),
        ] {
            assert_eq!(named(targets, namespace, host), expected, "{namespace} {host}");
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
            ("10.244.0.7:9091", true),
            ("10.244.0.7:9443", true),
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
