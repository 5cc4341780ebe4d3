//! What holds where neither file nor environment says anything else.

use std::net::SocketAddr;
use std::time::Duration;

use super::{
    Authorization, Limits, Listeners, MetricsSettings, Plaintext, Timeouts, Tokens, Unverified,
    UpstreamSettings,
};

impl Default for Listeners {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Listeners {
            http: any(connectors_api::names::HTTP_PORT),
            https: any(connectors_api::names::HTTPS_PORT),
            admin: any(connectors_api::names::ADMIN_PORT),
            health: any(connectors_api::names::HEALTH_PORT),
            probe: any(connectors_api::names::PROBE_PORT),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            head: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            response_header: Duration::from_secs(60),
            ping: Duration::from_secs(15),
            pong: Duration::from_secs(10),
            drain: Duration::from_secs(30),
            api_server: Duration::from_secs(3),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits { head_bytes: 64 << 10, connections: 20_000, connectors_per_login: 16, streams: 250 }
    }
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        UpstreamSettings {
            unverified: Unverified::Pin,
            plaintext: Plaintext::Warn,
            plaintext_allow: Vec::new(),
            h2: true,
            forwarded: false,
            pool_size: 128,
            idle: Duration::from_secs(90),
        }
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Tokens {
            audience: connectors_api::names::AUDIENCE.to_owned(),
            expired_grace: Duration::from_secs(24 * 3600),
            cache_entries: 50_000,
        }
    }
}

impl Default for Authorization {
    fn default() -> Self {
        Authorization {
            get_is_use: false,
            fresh: Duration::from_secs(10),
            outage: Duration::from_secs(15 * 60),
            cache_entries: 100_000,
        }
    }
}

/// 500 series of a gateway: what costs a Prometheus nothing that anybody would notice.
impl Default for MetricsSettings {
    fn default() -> Self {
        MetricsSettings { connectors: 100 }
    }
}
