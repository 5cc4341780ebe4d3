//! Look-ups in the caches that spare a question to the API server or the making of a certificate.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Of one cache.
#[derive(Clone)]
pub struct Lookups {
    hits: IntCounter,
    misses: IntCounter,
}

pub struct Caches {
    /// Who a token's bearer is.
    pub tokens: Lookups,
    /// Whether a principal may use a connector.
    pub access: Lookups,
    pub credentials: Lookups,
    /// Of `caCertSecretRef`.
    pub ca_certificates: Lookups,
    /// Certificates for hosts of targets, with their TLS contexts.
    pub leaves: Lookups,
}

impl Lookups {
    fn new(family: &IntCounterVec, cache: &str) -> Lookups {
        let counter = |result| family.with_label_values(&[cache, result]);
        Lookups { hits: counter("hit"), misses: counter("miss") }
    }

    pub fn count(&self, hit: bool) {
        if hit { self.hits.inc() } else { self.misses.inc() }
    }
}

impl Caches {
    pub(super) fn new(to: &Registry) -> Result<Caches, prometheus::Error> {
        let help = "Look-ups in caches, by cache and result; a miss asks the API server, or mints a leaf.";
        let opts = Opts::new("connectors_gateway_cache_lookups_total", help);
        let family = super::register(to, IntCounterVec::new(opts, &["cache", "result"])?)?;
        let [tokens, access, credentials, ca_certificates, leaves] =
            ["tokens", "access", "credentials", "ca_certificates", "leaves"]
                .map(|cache| Lookups::new(&family, cache));
        Ok(Caches { tokens, access, credentials, ca_certificates, leaves })
    }
}
