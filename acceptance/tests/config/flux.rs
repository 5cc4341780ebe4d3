//! The policy of `config/rbac/flux`: of all ConfigMaps, which its role lets the controller write, it writes
//! those of Connectors.

use connectors_testenv::{ControlPlane, eventually};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{folder, install, printed};

const CONTROLLER: &str = "system:serviceaccount:connectors-system:connectors-controller";
const WORDS: &str = "Of ConfigMaps the controller of Connectors writes";

async fn prepared() -> (ControlPlane, Client) {
    let cluster = ControlPlane::start().await.unwrap();
    install(&cluster).await;
    printed(&cluster, &["create", "namespace", "demo"]).await;
    printed(&cluster, &["apply", "-k", &folder("config/rbac/flux")]).await;
    let controller = cluster.client_for(CONTROLLER, &[]);
    // Role and policy take effect a moment after they were stored, and the policy's words need both.
    eventually("the policy", async || match create(&controller, "demo", &configmap("any", None)).await {
        Err(kube::Error::Api(status)) if status.message.contains(WORDS) => Ok(()),
        other => Err(other),
    })
    .await;
    (cluster, controller)
}

fn configmap(name: &str, owner: Option<(&str, &str)>) -> ConfigMap {
    let owners: Vec<Value> = owner
        .into_iter()
        .map(|(version, kind)| json!({"apiVersion": version, "kind": kind, "name": "k8s", "uid": "u-1"}))
        .collect();
    serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": owners}})).unwrap()
}

/// Without effect: a policy judges a dry run as well.
async fn create(client: &Client, namespace: &str, object: &ConfigMap) -> Result<(), kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams { dry_run: true, ..PostParams::default() }, object).await.map(drop)
}

/// By the policy, and for no other reason.
fn is_refused(answer: Result<(), kube::Error>) -> bool {
    match answer {
        Ok(()) => false,
        Err(kube::Error::Api(status)) if status.message.contains(WORDS) => true,
        Err(other) => panic!("{other}"),
    }
}

const CONNECTOR: Option<(&str, &str)> = Some(("connectors.alauda.io/v1alpha1", "Connector"));

#[tokio::test]
async fn the_controller_makes_configmaps_of_connectors_and_its_own() {
    let (_cluster, controller) = prepared().await;
    for (namespace, name, owner, refused) in [
        ("demo", "c-k8s", CONNECTOR, false),
        ("connectors-system", "c-k8s", CONNECTOR, false),
        ("connectors-system", "connectors-ca-bundle", None, false),
        ("connectors-system", "connectors-cluster-ranges", None, false),
        ("demo", "connectors-ca-bundle", None, true),
        ("connectors-system", "connectors-gateway-more", None, true),
        ("kube-system", "aws-auth", None, true),
        ("kube-system", "aws-auth", CONNECTOR, true),
        ("demo", "c-k8s", None, true),
        ("demo", "c-k8s", Some(("apps/v1", "Connector")), true),
        ("demo", "c-k8s", Some(("connectors.alauda.io/v1alpha1", "ConnectorClass")), true),
    ] {
        let answer = create(&controller, namespace, &configmap(name, owner)).await;
        assert_eq!(is_refused(answer), refused, "{namespace}/{name} {owner:?}");
    }
}

#[tokio::test]
async fn the_controller_changes_and_deletes_no_configmap_of_somebody_else() {
    let (cluster, controller) = prepared().await;
    let admin: Api<ConfigMap> = Api::namespaced(cluster.client(), "demo");
    let configmaps: Api<ConfigMap> = Api::namespaced(controller, "demo");
    for (name, owner, refused) in [("c-ours", CONNECTOR, false), ("c-theirs", None, true)] {
        admin.create(&PostParams::default(), &configmap(name, owner)).await.unwrap();
        let taken = json!({"metadata": configmap(name, CONNECTOR).metadata, "data": {"address": "x"}});
        let patched = configmaps.patch(name, &PatchParams::default(), &Patch::Merge(&taken)).await;
        assert_eq!(is_refused(patched.map(drop)), refused, "patch {name}");
        let deleted = configmaps.delete(name, &DeleteParams::default()).await;
        assert_eq!(is_refused(deleted.map(drop)), refused, "delete {name}");
    }
}
