//! What all stages of the data plane share: the parts that decide (who may go where, with what) and those
//! that move bytes.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::admit::authenticate::Authenticator;
use crate::admit::authorize::Authorizer;
use crate::admit::credential::Credentials;
use crate::connections::Connections;
use crate::home::cluster::{Reviews, Secrets};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::table::route::Table;
use crate::tls::issuer;
use crate::tls::leaf::Leaves;
use crate::upstream::Upstream;
use crate::upstream::policy::Surroundings;

pub struct Gateway {
    pub parts: Parts,
    pub leaves: Leaves,
    pub upstream: Upstream,
    pub connections: Connections,
}

impl Gateway {
    pub fn new(parts: Parts, surroundings: Surroundings) -> anyhow::Result<Arc<Gateway>> {
        let leaves = Leaves::new(parts.issuer.clone(), parts.table.clone(), parts.metrics.clone())?;
        let Parts { settings, table, issuer, metrics, .. } = parts.clone();
        let upstream = Upstream::new(settings, table, issuer, metrics, surroundings)?;
        Ok(Arc::new(Gateway { parts, leaves, upstream, connections: Connections::default() }))
    }
}

/// What the request path is made of, once the seam is chosen: a home cluster or files. `main` and in-process
/// tests build it. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Parts {
    pub settings: Arc<ArcSwap<Settings>>,
    pub table: Arc<ArcSwap<Table>>,
    pub authenticator: Arc<Authenticator>,
    pub authorizer: Arc<Authorizer>,
    pub credentials: Arc<Credentials>,
    pub issuer: issuer::Current,
    pub metrics: Arc<Metrics>,
}

impl Parts {
    /// Starts with an empty table and no issuer: `table/watch` and `tls/issuer`, or `standalone`, fill them.
    pub fn new(
        settings: Arc<ArcSwap<Settings>>,
        reviews: Arc<dyn Reviews>,
        secrets: Arc<dyn Secrets>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Parts> {
        let now = settings.load_full();
        let (authorization, caches) = (&now.authorization, &metrics.caches);
        let authenticator =
            Authenticator::new(reviews.clone(), &now.tokens, authorization, caches.tokens.clone())?;
        Ok(Parts {
            settings,
            table: Arc::default(),
            authenticator: Arc::new(authenticator),
            authorizer: Arc::new(Authorizer::new(reviews, authorization, caches.access.clone())),
            credentials: Arc::new(Credentials::new(secrets, authorization.outage, caches)),
            issuer: issuer::Current::default(),
            metrics,
        })
    }
}
