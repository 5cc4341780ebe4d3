//! The addresses of the home cluster: the controller learns them and writes one ConfigMap, the gateway reads it
//! and lets no connector reach into them. One address or network a line, so that `kubectl get -o yaml` shows
//! them readably.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

const SERVICES: &str = "services";
const PODS: &str = "pods";
const NODES: &str = "nodes";
const API_SERVER: &str = "apiServer";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterRanges {
    /// ServiceCIDRs.
    pub services: Vec<IpNet>,
    /// `spec.podCIDRs` of the nodes. Empty where the network does not go by them.
    pub pods: Vec<IpNet>,
    /// Of the nodes, each by itself: what else is in their subnets is not the cluster's.
    pub nodes: Vec<IpAddr>,
    /// Where the API server is reached, as Service and by its endpoints: may be a target.
    pub api_server: Vec<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("key {0} is missing")]
    Missing(&'static str),
    #[error("key {key}: {line:?} cannot be read")]
    Line { key: &'static str, line: String },
}

impl ClusterRanges {
    /// Of the ConfigMap.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        [
            (SERVICES, lines(&self.services)),
            (PODS, lines(&self.pods)),
            (NODES, lines(&self.nodes)),
            (API_SERVER, lines(&self.api_server)),
        ]
        .map(|(key, text)| (key.to_owned(), text))
        .into()
    }

    /// All or nothing: half of the ranges would be taken for all.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<ClusterRanges, Malformed> {
        Ok(ClusterRanges {
            services: parsed(data, SERVICES)?,
            pods: parsed(data, PODS)?,
            nodes: parsed(data, NODES)?,
            api_server: parsed(data, API_SERVER)?,
        })
    }
}

fn lines<T: Display>(all: &[T]) -> String {
    all.iter().map(|one| format!("{one}\n")).collect()
}

fn parsed<T: FromStr>(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<T>, Malformed> {
    let text = data.get(key).ok_or(Malformed::Missing(key))?;
    let parse = |line: &str| line.trim().parse().map_err(|_| Malformed::Line { key, line: line.to_owned() });
    text.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_half_of_it_is_nothing() {
        let ranges = ClusterRanges {
            services: vec!["10.96.0.0/12".parse().unwrap(), "fd00:1::/112".parse().unwrap()],
            pods: vec!["10.244.0.0/24".parse().unwrap()],
            nodes: vec!["192.168.1.7".parse().unwrap()],
            api_server: vec!["[fd00:1::1]:443".parse().unwrap(), "192.168.1.7:6443".parse().unwrap()],
        };
        let data = ranges.to_data();
        assert_eq!(data["services"], "10.96.0.0/12\nfd00:1::/112\n");
        assert_eq!(ClusterRanges::from_data(&data), Ok(ranges));
        for (key, text) in [("pods", "10.244.0.0/99\n"), ("nodes", "a node\n"), ("apiServer", "10.0.0.1\n")] {
            let mut broken = data.clone();
            broken.insert(key.to_owned(), text.to_owned());
            let error = ClusterRanges::from_data(&broken).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(text.trim()), "{error}");
        }
        for key in data.keys() {
            let mut without = data.clone();
            without.remove(key);
            assert!(ClusterRanges::from_data(&without).is_err(), "{key}");
        }
    }
}
