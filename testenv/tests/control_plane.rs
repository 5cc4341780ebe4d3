//! The control plane as tests of other crates use it: what it answers, that two are two, that it survives an
//! outage.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use connectors_testenv::ControlPlane;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ListParams, PostParams};

const AUDIENCE: &str = "somebody";

const READER: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: team}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: ServiceAccount, name: robot, namespace: team}]
";

#[tokio::test]
async fn a_token_is_made_and_reviewed_for_its_audience_only() {
    let plane = ControlPlane::start().await.unwrap();
    let token = plane.service_account_token("team", "robot", AUDIENCE, 600).await.unwrap();
    let good = review(&plane, &token, AUDIENCE).await;
    assert_eq!(good.0, Some(true));
    assert_eq!(good.1.as_deref(), Some("system:serviceaccount:team:robot"));
    assert_ne!(review(&plane, &token, "somebody-else").await.0, Some(true));
    assert_ne!(review(&plane, "nonsense", AUDIENCE).await.0, Some(true));
}

#[tokio::test]
async fn access_is_reviewed_and_enforced_as_bound() {
    let plane = ControlPlane::start().await.unwrap();
    plane.service_account_token("team", "robot", AUDIENCE, 600).await.unwrap();
    plane.apply(READER).await.unwrap();
    assert!(may_list(&plane, "team").await);
    assert!(!may_list(&plane, "default").await);

    let robot = plane.client_for("system:serviceaccount:team:robot", &[]);
    Api::<ConfigMap>::namespaced(robot.clone(), "team").list(&ListParams::default()).await.unwrap();
    let refused =
        Api::<ConfigMap>::namespaced(robot, "default").list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 403));
}

#[tokio::test]
async fn two_side_by_side_do_not_meet() {
    let (one, other) = tokio::join!(ControlPlane::start(), ControlPlane::start());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_ne!(one.url(), other.url());
    assert_ne!(one.ca_pem(), other.ca_pem());
    one.apply("{apiVersion: v1, kind: Namespace, metadata: {name: only-one}}").await.unwrap();
    assert!(Api::<Namespace>::all(one.client()).get_opt("only-one").await.unwrap().is_some());
    assert!(Api::<Namespace>::all(other.client()).get_opt("only-one").await.unwrap().is_none());
}

#[tokio::test]
async fn an_outage_keeps_address_and_objects() {
    let mut plane = ControlPlane::start().await.unwrap();
    let url = plane.url().to_owned();
    plane.apply("{apiVersion: v1, kind: Namespace, metadata: {name: kept}}").await.unwrap();
    plane.stop_api_server().await;
    assert!(Api::<Namespace>::all(plane.client()).get_opt("kept").await.is_err());
    plane.start_api_server().await.unwrap();
    assert_eq!(plane.url(), url);
    assert!(Api::<Namespace>::all(plane.client()).get_opt("kept").await.unwrap().is_some());
}

#[tokio::test]
async fn kubectl_talks_to_it_and_a_refusal_is_an_exit_status() {
    let plane = ControlPlane::start().await.unwrap();
    let version = plane.kubectl(&["version", "-o", "json"]).await.unwrap();
    assert!(version.status.success());
    assert!(String::from_utf8(version.stdout).unwrap().contains("\"gitVersion\": \"v1.36.3\""));
    assert!(!plane.kubectl(&["get", "pod", "none"]).await.unwrap().status.success());
    assert!(plane.apply("{apiVersion: v1, kind: Nonsense, metadata: {name: x}}").await.is_err());
}

#[tokio::test]
async fn the_projects_kinds_are_there_when_asked_for() {
    let plane = ControlPlane::with_crds().await.unwrap();
    let found = plane
        .kubectl(&["get", "connectors,connectorclasses", "--all-namespaces", "-o", "name"])
        .await
        .unwrap();
    assert!(found.status.success(), "{found:?}");
}

async fn review(plane: &ControlPlane, token: &str, audience: &str) -> (Option<bool>, Option<String>) {
    let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![audience.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let answer = Api::all(plane.client()).create(&PostParams::default(), &review).await.unwrap();
    let status = answer.status.unwrap();
    (status.authenticated, status.user.and_then(|user| user.username))
}

async fn may_list(plane: &ControlPlane, namespace: &str) -> bool {
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some("list".to_owned()),
        resource: Some("configmaps".to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        user: Some("system:serviceaccount:team:robot".to_owned()),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let answer = Api::all(plane.client()).create(&PostParams::default(), &review).await.unwrap();
    answer.status.unwrap().allowed
}
