//! May this principal use this connector? SubjectAccessReview on `connectors/proxy`, then on its Pod-bound
//! form. Comes after `authenticate`; a remembered answer costs two hashes and a look-up.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

pub use connectors_api::access::Verdict;
use connectors_api::access::{self, Question};
use connectors_api::proxy_auth::ConnectorRef;

use crate::home::cluster::Reviews;
use crate::home::principal::Principal;
use crate::home::remembered::{Answers, Away, Fresh};
use crate::metrics::caches::Lookups;
use crate::settings::Authorization;

/// The API server did not answer and nothing is known of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server did not answer an access review")]
pub struct Unavailable;

/// A no is asked again sooner than a yes: whoever gets a missing binding added should not have to wait.
const NO_LIFE: Duration = Duration::from_secs(2);

/// 128 bits under keys of this process: a pair cannot be found that collides with another.
type PairKey = [u64; 2];

pub struct Authorizer {
    reviews: Arc<dyn Reviews>,
    answers: Answers<PairKey, Verdict>,
    hashers: [RandomState; 2],
    get_is_use: bool,
    fresh: Duration,
}

impl Authorizer {
    pub fn new(reviews: Arc<dyn Reviews>, settings: &Authorization, lookups: Lookups) -> Authorizer {
        Authorizer {
            reviews,
            answers: Answers::new(settings.cache_entries, settings.outage, lookups),
            hashers: [RandomState::new(), RandomState::new()],
            get_is_use: settings.get_is_use,
            fresh: settings.fresh,
        }
    }

    pub async fn may_use(
        &self,
        principal: &Principal,
        connector: &ConnectorRef,
    ) -> Result<Verdict, Unavailable> {
        let key = self.key(principal, connector);
        if let Some(verdict) = self.answers.fresh(&key, || self.question(principal, connector)).await {
            return Ok(verdict);
        }
        self.answers.ask(&key, self.question(principal, connector)).await.map_err(|Away| Unavailable)
    }

    fn key(&self, principal: &Principal, connector: &ConnectorRef) -> PairKey {
        let pod = principal.pod.as_ref().map(|pod| (&pod.uid, &pod.namespace, &pod.name));
        let pair = (&principal.user, &principal.uid, &principal.groups, pod, connector);
        [self.hashers[0].hash_one(pair), self.hashers[1].hash_one(pair)]
    }

    fn question(
        &self,
        principal: &Principal,
        connector: &ConnectorRef,
    ) -> impl Future<Output = Result<Fresh<Verdict>, Away>> + Send + 'static {
        let (reviews, principal, connector) = (self.reviews.clone(), principal.clone(), connector.clone());
        let (get_is_use, fresh) = (self.get_is_use, self.fresh);
        async move {
            let pod = principal.pod.as_ref().map(|pod| (&*pod.namespace, &*pod.name));
            let ask = |question: Question| {
                let (reviews, principal) = (&reviews, &principal);
                async move { reviews.access(principal, &question).await }
            };
            let verdict = access::review(&connector, pod, get_is_use, ask).await?;
            Ok((verdict, if verdict == Verdict::Allowed { fresh } else { fresh.min(NO_LIFE) }))
        }
    }
}
