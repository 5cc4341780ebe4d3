//! May the Pod's ServiceAccount use a connector? Asked once, at the first publish, so that a missing binding
//! is an event on the Pod instead of a failing client. The gateway asks the same question for each token:
//! this is no second line of defence.

use connectors_api::access::{self, Question, Verdict};
use connectors_api::names::service_account_groups;
use connectors_api::proxy_auth::ConnectorRef;
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::request::Pod;

/// As the gateway will decide it: `get_is_use` is its `authorization.get_is_use`.
pub async fn may_use(
    client: &Client,
    pod: &Pod,
    connector: &ConnectorRef,
    get_is_use: bool,
) -> Result<bool, kube::Error> {
    let ask = |question: Question| async move { allowed(client, review(pod, &question)).await };
    let verdict = access::review(connector, Some((&pod.namespace, &pod.name)), get_is_use, ask).await?;
    Ok(verdict == Verdict::Allowed)
}

async fn allowed(client: &Client, review: SubjectAccessReview) -> Result<bool, kube::Error> {
    let answer =
        Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
}

fn review(pod: &Pod, question: &Question) -> SubjectAccessReview {
    let spec = SubjectAccessReviewSpec {
        resource_attributes: Some(question.attributes()),
        user: Some(pod.user()),
        groups: Some(service_account_groups(&pod.namespace).into()),
        ..Default::default()
    };
    SubjectAccessReview { spec, ..Default::default() }
}
