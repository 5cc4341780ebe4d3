//! May the Pod's ServiceAccount use a connector? Asked once, at the first publish, so that a missing binding is an event on
//! the Pod instead of a failing client. The gateway asks the same question for each token: this is no second line of defence.

use connectors_api::names::GROUP;
use connectors_api::proxy_auth::ConnectorRef;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::request::Pod;

/// Use is verb `*` on `connectors/proxy`, or on the form that names the Pod; RBAC compares literally, so both are asked.
/// `get_is_use`: whoever may read the connector may use it (the gateway's `authorization.get_is_use`, for migration).
pub async fn may_use(client: &Client, pod: &Pod, connector: &ConnectorRef, get_is_use: bool) -> Result<bool, kube::Error> {
    let bound = format!("proxy/v1/pod/{}/{}", pod.namespace, pod.name);
    let mut questions = vec![("*", Some("proxy")), ("*", Some(bound.as_str()))];
    questions.extend(get_is_use.then_some(("get", None)));
    for (verb, subresource) in questions {
        if allowed(client, review(pod, connector, verb, subresource)).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn allowed(client: &Client, review: SubjectAccessReview) -> Result<bool, kube::Error> {
    let answer = Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
}

fn review(pod: &Pod, connector: &ConnectorRef, verb: &str, subresource: Option<&str>) -> SubjectAccessReview {
    let resource = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        resource: Some("connectors".to_owned()),
        subresource: subresource.map(str::to_owned),
        verb: Some(verb.to_owned()),
        namespace: Some(connector.namespace.clone()),
        name: Some(connector.name.clone()),
        ..Default::default()
    };
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", pod.namespace),
        "system:authenticated".to_owned(),
    ];
    let spec = SubjectAccessReviewSpec {
        resource_attributes: Some(resource),
        user: Some(pod.user()),
        groups: Some(groups),
        ..Default::default()
    };
    SubjectAccessReview { spec, ..Default::default() }
}
