//! May the Pod's ServiceAccount use a connector? Asked once, at the first publish, so that a missing binding is an event on
//! the Pod instead of a failing client. The gateway asks the same question for each token: this is no second line of defence.

use connectors_api::access::Question;
use connectors_api::names::service_account_groups;
use connectors_api::proxy_auth::ConnectorRef;
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::request::Pod;

/// Use is verb `*` on `connectors/proxy`, or on the form that names the Pod.
/// `get_is_use`: whoever may read the connector may use it (the gateway's `authorization.get_is_use`, for migration).
pub async fn may_use(client: &Client, pod: &Pod, connector: &ConnectorRef, get_is_use: bool) -> Result<bool, kube::Error> {
    let bound = Question::to_use_from(connector, &pod.namespace, &pod.name);
    let mut questions = vec![Question::to_use(connector), bound];
    questions.extend(get_is_use.then(|| Question::to_get(connector)));
    for question in questions {
        if allowed(client, review(pod, &question)).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn allowed(client: &Client, review: SubjectAccessReview) -> Result<bool, kube::Error> {
    let answer = Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
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
