//! Everything that is asked of the home API server, with a deadline: reviews, signing keys, single Secrets.
//! The traits are the seam to `standalone`, which answers the same from files. `table/watch` and `tls/issuer`
//! hold the watches.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
pub use connectors_api::access::Question;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use crate::home::principal::{PodRef, Principal};
use crate::home::remembered::Away;
use crate::metrics::{Metrics, Outcomes};
use crate::settings::Settings;

/// What decides who a client is and what it may do.
#[async_trait]
pub trait Reviews: Send + Sync {
    /// The bearer of a token if it is valid for `audience`. `expires` is the token's end as read from it;
    /// none if it cannot be read.
    async fn token(
        &self,
        token: &SecretString,
        audience: &str,
        expires: Option<SystemTime>,
    ) -> Result<Option<Principal>, Away>;

    async fn access(&self, principal: &Principal, question: &Question) -> Result<bool, Away>;

    /// Issuer and public keys (JWKS) for the local check; none where tokens are opaque.
    async fn signing_keys(&self) -> Result<Option<SigningKeys>, Away>;
}

/// What holds credentials. Only `credential` asks it.
#[async_trait]
pub trait Secrets: Send + Sync {
    async fn get(&self, namespace: &str, name: &str) -> Result<SecretContent, SecretError>;
}

#[derive(Clone, Debug)]
pub struct SigningKeys {
    pub issuer: String,
    pub jwks: Value,
}

/// Values are wiped on drop.
pub struct SecretContent {
    pub secret_type: String,
    pub resource_version: String,
    pub data: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("not found")]
    NotFound,
    /// Also for a moment after the controller granted the read.
    #[error("forbidden")]
    Forbidden,
    #[error("the API server did not answer")]
    Away,
}

/// The home cluster. Questions run on the control runtime: a busy data-plane thread delays none of them.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    runtime: Handle,
    /// For `timeouts.api_server`.
    settings: Arc<ArcSwap<Settings>>,
    metrics: Arc<Metrics>,
}

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

impl Cluster {
    pub fn new(
        client: Client,
        runtime: Handle,
        settings: Arc<ArcSwap<Settings>>,
        metrics: Arc<Metrics>,
    ) -> Cluster {
        Cluster { client, runtime, settings, metrics }
    }

    /// An answer of the API server within the deadline. A 404 or 403 is an answer, too; the caller says which
    /// of them it expects.
    async fn ask<T, Q>(&self, what: &'static str, outcomes: &Outcomes, question: Q) -> Result<T, kube::Error>
    where
        T: Send + 'static,
        Q: Future<Output = Result<T, kube::Error>> + Send + 'static,
    {
        let begun = Instant::now();
        let bounded = tokio::time::timeout(self.settings.load().timeouts.api_server, question);
        let answer = match self.runtime.spawn(bounded).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(kube::Error::Service("deadline exceeded".into())),
            Err(stopped) => Err(kube::Error::Service(stopped.into())),
        };
        self.metrics.home.seconds.with_label_values(&[what]).observe(begun.elapsed().as_secs_f64());
        if let Err(error) = &answer {
            let refused = matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 404));
            if refused {
                outcomes.refused.inc()
            } else {
                outcomes.failed.inc()
            }
            // What could not be read is not quoted: it may be a token or of a Secret.
            let cause = match error {
                kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
                    "its answer cannot be read".to_owned()
                }
                other => other.to_string(),
            };
            tracing::warn!(what, cause, refused, "the API server did not give what was asked for");
        }
        answer
    }
}

#[async_trait]
impl Reviews for Cluster {
    async fn token(
        &self,
        token: &SecretString,
        audience: &str,
        expires: Option<SystemTime>,
    ) -> Result<Option<Principal>, Away> {
        let spec = TokenReviewSpec {
            token: token.expose_secret().to_owned(),
            audiences: Some(vec![audience.to_owned()]),
        };
        let review = TokenReview { metadata: ObjectMeta::default(), spec, status: None };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let outcomes = &self.metrics.home.token_reviews;
        let question = async move { api.create(&PostParams::default(), &review).await };
        let reviewed = self.ask("token_review", outcomes, question).await.map_err(|_| Away)?;
        let status = reviewed.status.ok_or(Away)?;
        // An authenticator that knows no audiences leaves the list empty: such a yes is for the API server,
        // not for us.
        let ours = status.audiences.iter().flatten().any(|one| one == audience);
        let accepted = status.authenticated == Some(true) && ours;
        if accepted {
            outcomes.ok.inc()
        } else {
            outcomes.refused.inc()
        }
        Ok(status.user.filter(|_| accepted).and_then(|user| principal(user, expires)))
    }

    async fn access(&self, principal: &Principal, question: &Question) -> Result<bool, Away> {
        let review = access_review(principal, question);
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let outcomes = &self.metrics.home.access_reviews;
        let question = async move { api.create(&PostParams::default(), &review).await };
        let reviewed = self.ask("access_review", outcomes, question).await.map_err(|_| Away)?;
        let allowed = reviewed.status.ok_or(Away)?.allowed;
        if allowed {
            outcomes.ok.inc()
        } else {
            outcomes.refused.inc()
        }
        Ok(allowed)
    }

    async fn signing_keys(&self) -> Result<Option<SigningKeys>, Away> {
        let discovery = self.document("/.well-known/openid-configuration").await?;
        let issuer = discovery.get("issuer").and_then(Value::as_str).ok_or(Away)?.to_owned();
        let jwks = self.document("/openid/v1/jwks").await?;
        Ok(Some(SigningKeys { issuer, jwks }))
    }
}

impl Cluster {
    async fn document(&self, path: &'static str) -> Result<Value, Away> {
        let request = http::Request::get(path).body(Vec::new()).map_err(|_| Away)?;
        let client = self.client.clone();
        let question = async move { client.request::<Value>(request).await };
        let outcomes = &self.metrics.home.signing_key_reads;
        let document = self.ask("signing_keys", outcomes, question).await.map_err(|_| Away)?;
        outcomes.ok.inc();
        Ok(document)
    }
}

#[async_trait]
impl Secrets for Cluster {
    async fn get(&self, namespace: &str, name: &str) -> Result<SecretContent, SecretError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let name = name.to_owned();
        let outcomes = &self.metrics.home.secret_reads;
        let read = self.ask("secret", outcomes, async move { api.get(&name).await }).await;
        let secret = read.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 404 => SecretError::NotFound,
            kube::Error::Api(status) if status.code == 403 => SecretError::Forbidden,
            _ => SecretError::Away,
        })?;
        outcomes.ok.inc();
        Ok(content(secret))
    }
}

/// The bytes are moved, not copied, so that dropping the content wipes the only copy of ours.
pub fn content(secret: Secret) -> SecretContent {
    SecretContent {
        secret_type: secret.type_.unwrap_or_default(),
        resource_version: secret.metadata.resource_version.unwrap_or_default(),
        data: secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, Zeroizing::new(value.0)))
            .collect(),
    }
}

fn principal(user: UserInfo, expires: Option<SystemTime>) -> Option<Principal> {
    let name = user.username?;
    let pod = user.extra.as_ref().and_then(|extra| {
        let first = |key: &str| extra.get(key).and_then(|values| values.first());
        let namespace = name.strip_prefix("system:serviceaccount:")?.split(':').next()?;
        let (pod, uid) = (first(POD_NAME)?, first(POD_UID)?);
        Some(PodRef { namespace: namespace.into(), name: pod.as_str().into(), uid: uid.as_str().into() })
    });
    Some(Principal {
        user: name.into(),
        uid: user.uid.unwrap_or_default().into(),
        groups: user.groups.unwrap_or_default().into(),
        pod,
        expires: expires.unwrap_or_else(far_future),
    })
}

/// End of a token that does not say its end.
pub fn far_future() -> SystemTime {
    SystemTime::now() + Duration::from_secs(10 * 365 * 86_400)
}

fn access_review(principal: &Principal, question: &Question) -> SubjectAccessReview {
    let spec = SubjectAccessReviewSpec {
        user: Some(principal.user.to_string()),
        uid: Some(principal.uid.to_string()),
        groups: Some(principal.groups.to_vec()),
        resource_attributes: Some(question.attributes()),
        ..SubjectAccessReviewSpec::default()
    };
    SubjectAccessReview { metadata: ObjectMeta::default(), spec, status: None }
}
