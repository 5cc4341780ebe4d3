//! The admission policy: who may edit Connectors but not read a Secret cannot have that Secret sent to an
//! address of his choice.

use std::time::Duration;

use connectors_testenv::ControlPlane;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{install, printed};

const NAMESPACE: &str = "demo";
const EDITOR: &str = "editor";
const CONTROLLER: &str = "system:serviceaccount:connectors-system:connectors-controller";

/// `editor` may edit Connectors and read the Secret `mine`, not `theirs`. Both Connectors exist, made by the
/// administrator.
async fn prepared() -> ControlPlane {
    let cluster = ControlPlane::start().await.unwrap();
    install(&cluster).await;
    printed(&cluster, &["create", "namespace", NAMESPACE]).await;
    for role in ["connectors-view", "connectors-edit"] {
        printed(
            &cluster,
            &["create", "rolebinding", role, "-n", NAMESPACE, "--clusterrole", role, "--user", EDITOR],
        )
        .await;
    }
    printed(
        &cluster,
        &[
            "create",
            "role",
            "mine",
            "-n",
            NAMESPACE,
            "--verb=get",
            "--resource=secrets",
            "--resource-name=mine",
        ],
    )
    .await;
    printed(&cluster, &["create", "rolebinding", "mine", "-n", NAMESPACE, "--role=mine", "--user", EDITOR])
        .await;
    for (name, secret) in [("uses-mine", "mine"), ("uses-theirs", "theirs")] {
        create(&cluster, None, &connector(name, json!({"auth": reference(json!({"name": secret}))})))
            .await
            .unwrap();
    }
    wait_until_enforced(&cluster).await;
    cluster
}

/// The API server compiles a new policy a moment after it was stored.
async fn wait_until_enforced(cluster: &ControlPlane) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let forbidden = connector("probe", json!({"auth": reference(json!({"name": "theirs"}))}));
    while create(cluster, Some(EDITOR), &forbidden).await.is_ok() {
        assert!(Instant::now() < deadline, "the policy is not enforced after 30 s");
        printed(cluster, &["delete", "connector", "probe", "-n", NAMESPACE]).await;
        sleep(Duration::from_millis(200)).await;
    }
}

fn reference(secret: Value) -> Value {
    json!({"name": "bearerTokenAuth", "secretRef": secret})
}

fn connector(name: &str, spec: Value) -> DynamicObject {
    let mut object = DynamicObject::new(name, &kind())
        .data(json!({"spec": {"connectorClassName": "k8s", "address": "https://target:6443"}}));
    let fields = spec.as_object().unwrap().clone();
    object.data["spec"].as_object_mut().unwrap().extend(fields);
    object
}

fn kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("connectors.alauda.io", "v1alpha1", "Connector"))
}

fn connectors(cluster: &ControlPlane, user: Option<&str>) -> Api<DynamicObject> {
    let client = user.map_or_else(|| cluster.client(), |user| cluster.client_for(user, &[]));
    Api::namespaced_with(client, NAMESPACE, &kind())
}

async fn create(
    cluster: &ControlPlane,
    user: Option<&str>,
    object: &DynamicObject,
) -> kube::Result<DynamicObject> {
    connectors(cluster, user).create(&PostParams::default(), object).await
}

#[tokio::test]
async fn naming_a_secret_takes_the_right_to_read_it() {
    let cluster = prepared().await;
    let cases = [
        ("own", json!({"auth": reference(json!({"name": "mine"}))}), None),
        ("none", json!({}), None),
        (
            "theirs",
            json!({"auth": reference(json!({"name": "theirs"}))}),
            Some(r#"Secret "theirs" in namespace "demo""#),
        ),
        (
            "elsewhere",
            json!({"auth": reference(json!({"name": "mine", "namespace": "kube-system"}))}),
            Some(r#"namespace "kube-system""#),
        ),
        ("authorities", json!({"caCertSecretRef": {"name": "theirs"}}), Some("spec.caCertSecretRef")),
        ("own-authorities", json!({"caCertSecretRef": {"name": "mine"}}), None),
    ];
    for (name, spec, refusal) in cases {
        let answer = create(&cluster, Some(EDITOR), &connector(name, spec)).await.map(|_| ());
        assert_refused(name, answer, refusal);
    }
}

#[tokio::test]
async fn moving_a_credential_takes_the_right_to_read_it_and_other_edits_do_not() {
    let cluster = prepared().await;
    let refusal = Some(r#"Secret "theirs" in namespace "demo" and you may not read it"#);
    let cases = [
        ("address", "uses-theirs", json!({"spec": {"address": "https://elsewhere"}}), refusal),
        (
            "extension",
            "uses-theirs",
            json!({"spec": {"addressExtensions": [{"name": "api", "value": "https://elsewhere"}]}}),
            refusal,
        ),
        ("class", "uses-theirs", json!({"spec": {"connectorClassName": "with-another-address"}}), refusal),
        (
            "another secret",
            "uses-mine",
            json!({"spec": {"auth": {"secretRef": {"name": "theirs"}}}}),
            refusal,
        ),
        ("authorities", "uses-theirs", json!({"spec": {"caCertSecretRef": {"name": "mine"}}}), refusal),
        (
            "certificate",
            "uses-theirs",
            json!({"metadata": {"annotations": {"connectors.cpaas.io/accept-certificate": "00"}}}),
            refusal,
        ),
        (
            "impersonation",
            "uses-theirs",
            json!({"metadata": {"annotations": {"connectors.cpaas.io/allow-impersonation": "true"}}}),
            refusal,
        ),
        (
            "server name",
            "uses-theirs",
            json!({"metadata": {"annotations": {"connectors.cpaas.io/tls-server-name": "mine.example"}}}),
            refusal,
        ),
        (
            "old TLS",
            "uses-theirs",
            json!({"metadata": {"annotations": {"connectors.cpaas.io/legacy-tls": "true"}}}),
            refusal,
        ),
        ("label", "uses-theirs", json!({"metadata": {"labels": {"team": "a"}}}), None),
        ("parameter", "uses-theirs", json!({"spec": {"params": [{"name": "a", "value": "b"}]}}), None),
        ("own address", "uses-mine", json!({"spec": {"address": "https://elsewhere"}}), None),
        ("letting go", "uses-theirs", json!({"spec": {"auth": null}}), None),
    ];
    let api = connectors(&cluster, Some(EDITOR));
    for (case, name, patch, refusal) in cases {
        let answer = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(|_| ());
        assert_refused(case, answer, refusal);
    }
}

#[tokio::test]
async fn the_controller_may_write_a_status_and_nothing_else() {
    let cluster = prepared().await;
    let api = connectors(&cluster, Some(CONTROLLER));
    let status = json!({"status": {"observedGeneration": 1}});
    api.patch_status("uses-theirs", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let spec = json!({"spec": {"address": "https://elsewhere"}});
    let answer = api.patch("uses-theirs", &PatchParams::default(), &Patch::Merge(&spec)).await.map(|_| ());
    assert_refused("spec", answer, Some("cannot patch resource"));
}

fn assert_refused(case: &str, answer: kube::Result<()>, refusal: Option<&str>) {
    match (answer, refusal) {
        (Ok(()), None) => {}
        (Err(kube::Error::Api(status)), Some(words)) => {
            assert_eq!(status.code, 403, "{case}: {}", status.message);
            assert!(status.message.contains(words), "{case}: {}", status.message);
        }
        (answer, refusal) => panic!("{case}: expected refusal {refusal:?}, got {answer:?}"),
    }
}
