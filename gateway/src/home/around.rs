//! Addresses around the gateway that it looks up itself: its API server's and its own Services'.

use std::time::Duration;

use connectors_api::names;

use crate::upstream::policy::{self, Surroundings};

/// Addresses of the API server and of our own Services are looked up this often.
const LIFE: Duration = Duration::from_secs(30);

/// The API server may move, Services may be made anew, and neither may have a name yet when we start.
pub async fn keep_looking(around: Around, known: Surroundings) {
    loop {
        around.look_at_services(&known).await;
        tokio::time::sleep(LIFE).await;
        around.look_at_api_server(&known).await;
    }
}

/// What is looked up. Without an answer the last addresses stay.
pub struct Around {
    api_server: http::Uri,
    services: [String; 2],
}

impl Around {
    pub fn new(namespace: &str, cluster_domain: &str, api_server: http::Uri) -> Around {
        let host = |service| format!("{service}.{namespace}.svc.{cluster_domain}.");
        Around { api_server, services: [names::GATEWAY, names::GATEWAY_ADMIN].map(host) }
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

    async fn look_at_services(&self, known: &Surroundings) {
        let mut services = Vec::new();
        for service in &self.services {
            match tokio::net::lookup_host((service.as_str(), 0)).await {
                Ok(found) => services.extend(found.map(|address| address.ip())),
                Err(error) => {
                    tracing::debug!(%error, service, "the gateway's own Service cannot be resolved")
                }
            }
        }
        if !services.is_empty() {
            policy::learn(known, |known| known.services.clone_from(&services));
        }
    }
}
