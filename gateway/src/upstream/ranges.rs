//! Addresses of the home cluster as the dial policy asks them: thousands of networks, one look-up for a request.

use std::net::IpAddr;

use ipnet::IpNet;

/// First and last address of each range, in order and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(IpAddr, IpAddr)>);

impl FromIterator<IpNet> for Ranges {
    fn from_iter<I: IntoIterator<Item = IpNet>>(all: I) -> Ranges {
        let all: Vec<IpNet> = all.into_iter().collect();
        let mut ranges: Vec<_> =
            IpNet::aggregate(&all).iter().map(|one| (one.network(), one.broadcast())).collect();
        ranges.sort_unstable();
        Ranges(ranges)
    }
}

impl Ranges {
    pub fn contain(&self, ip: IpAddr) -> bool {
        let before = self.0.partition_point(|(first, _)| *first <= ip);
        self.0[..before].last().is_some_and(|(_, last)| ip <= *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_the_ranges_of_its_own_family_from_the_first_to_the_last() {
        let nets = [
            "10.96.0.0/12",
            "10.244.1.0/24",
            "10.244.0.0/24",
            "10.244.0.128/25",
            "192.168.1.7/32",
            "fd00:1::/112",
        ];
        let ranges: Ranges = nets.iter().map(|net| net.parse().unwrap()).collect();
        for (ip, within) in [
            ("10.95.255.255", false),
            ("10.96.0.0", true),
            ("10.111.255.255", true),
            ("10.112.0.0", false),
            ("10.243.255.255", false),
            ("10.244.0.0", true),
            ("10.244.0.255", true),
            ("10.244.1.255", true),
            ("10.244.2.0", false),
            ("192.168.1.6", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("fd00:1::", true),
            ("fd00:1::ffff", true),
            ("fd00:1::1:0", false),
            ("::", false),
        ] {
            assert_eq!(ranges.contain(ip.parse().unwrap()), within, "{ip}");
        }
        assert!(!Ranges::default().contain("10.96.0.1".parse().unwrap()));
    }
}
