//! What the request path is made of, once the seam is chosen: a home cluster or files. `main` and in-process tests build it, `gateway`
//! takes it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::admit::authenticate::Authenticator;
use crate::admit::authorize::Authorizer;
use crate::admit::credential::Credentials;
use crate::home::cluster::{Reviews, Secrets};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::table::route::Table;
use crate::tls::issuer;

/// Cheap to clone; clones share everything.
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
    /// Starts with an empty table and no issuer: `table/watch` and `ca`, or `standalone`, fill them.
    pub fn new(
        settings: Arc<ArcSwap<Settings>>,
        reviews: Arc<dyn Reviews>,
        secrets: Arc<dyn Secrets>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Parts> {
        let now = settings.load_full();
        Ok(Parts {
            settings,
            table: Arc::default(),
            authenticator: Arc::new(Authenticator::new(reviews.clone(), &now.tokens, &now.authorization)?),
            authorizer: Arc::new(Authorizer::new(reviews, &now.authorization)),
            credentials: Arc::new(Credentials::new(secrets, now.authorization.outage)),
            issuer: issuer::Current::default(),
            metrics,
        })
    }
}
