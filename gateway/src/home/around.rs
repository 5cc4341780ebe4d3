//! Addresses around the gateway that it looks up itself: its API server's and its own Services'.

use std::net::IpAddr;
use std::time::Duration;

use connectors_api::names;

use crate::upstream::policy::{self, Surroundings};

/// Addresses of the API server and of our own Services are looked up this often.
const LIFE: Duration = Duration::from_secs(30);

/// The API server may move, Services may be made anew, and neither may have a name yet when we start.
pub async fn keep_looking(mut around: Around, known: Surroundings) {
    loop {
        around.look_at_services(&known).await;
        tokio::time::sleep(LIFE).await;
        around.look_at_api_server(&known).await;
    }
}

/// What is looked up. Without an answer the last addresses stay.
pub struct Around {
    api_server: http::Uri,
    services: [Service; 2],
}

/// One of our own.
struct Service {
    host: String,
    /// When it was resolved last.
    addresses: Vec<IpAddr>,
}

impl Around {
    pub fn new(namespace: &str, cluster_domain: &str, api_server: http::Uri) -> Around {
        let service = |name| {
            let host = format!("{name}.{namespace}.svc.{cluster_domain}.");
            Service { host, addresses: Vec::new() }
        };
        Around { api_server, services: [names::GATEWAY, names::GATEWAY_ADMIN].map(service) }
    }

    pub async fn look_at_api_server(&self, known: &Surroundings) {
        let url = &self.api_server;
        let Some(host) = url.host() else {
            return tracing::warn!(%url, "the API server's URL names no host");
        };
        match tokio::net::lookup_host((host.trim_matches(['[', ']']), url.port_u16().unwrap_or(443))).await {
            Ok(found) => {
                let found: Vec<_> = found.collect();
                policy::learn(known, |known| known.api_server.clone_from(&found));
            }
            Err(error) => {
                tracing::warn!(%error, host, "the API server cannot be resolved: as a target it may be refused")
            }
        }
    }

    async fn look_at_services(&mut self, known: &Surroundings) {
        for Service { host, addresses } in &mut self.services {
            match tokio::net::lookup_host((host.as_str(), 0)).await {
                Ok(found) => *addresses = found.map(|address| address.ip()).collect(),
                Err(error) => {
                    tracing::debug!(%error, host, "the gateway's own Service cannot be resolved")
                }
            }
        }
        let services: Vec<IpAddr> =
            self.services.iter().flat_map(|service| &service.addresses).copied().collect();
        policy::learn(known, |known| known.services.clone_from(&services));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_cannot_be_resolved_keeps_its_last_address_whatever_becomes_of_the_other() {
        let known = policy::alone();
        let mut around = Around::new("connectors-system", "cluster.local", http::Uri::default());
        // No resolver is asked for a label of more than 63 characters.
        let nobody = &"x".repeat(64)[..];
        let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        for (first, second, expected) in [
            ("192.0.2.1", nobody, &addresses[..1]),
            ("192.0.2.1", "192.0.2.2", &addresses[..2]),
            ("192.0.2.3", nobody, &[addresses[2], addresses[1]]),
            (nobody, nobody, &[addresses[2], addresses[1]]),
        ] {
            for (service, host) in around.services.iter_mut().zip([first, second]) {
                service.host = host.to_owned();
            }
            around.look_at_services(&known).await;
            let found: Vec<String> = known.load().services.iter().map(IpAddr::to_string).collect();
            assert_eq!(found, expected, "{first} {second}");
        }
    }
}
