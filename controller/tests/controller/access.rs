//! Who may use the Connectors of a namespace: its own ServiceAccounts, everybody's in kube-public, a
//! project's in its inner namespace.

use std::sync::Arc;
use std::time::Duration;

use connectors_api::{Connector, names};
use connectors_controller::prober::fake::FakeProber;
use http::Method;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::between;
use crate::world::{World, settings};

fn groups(binding: &RoleBinding) -> Vec<&str> {
    binding.subjects.iter().flatten().map(|subject| subject.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scope_is_bound_and_follows_the_labels() {
    let (world, _prober, _running) = World::with_controller().await;
    world.namespace("team-a", "cpaas.io/project: blue").await;
    world.namespace("inner", "cpaas.io/inner-namespace: blue").await;
    for namespace in ["demo", "kube-public", "inner"] {
        world.demo(namespace, "k8s").await;
    }
    // `demo` applied the namespace anew, without labels.
    world.namespace("inner", "cpaas.io/inner-namespace: blue").await;
    let user = names::USER_ROLE;
    let own = world
        .until_there::<RoleBinding>("demo", user, |binding| {
            groups(binding) == ["system:serviceaccounts:demo"]
        })
        .await;
    assert_eq!((own.role_ref.kind.as_str(), own.role_ref.name.as_str()), ("ClusterRole", user));
    let public = ["system:serviceaccounts", "system:serviceaccounts:kube-public"];
    world.until_there::<RoleBinding>("kube-public", user, |binding| groups(binding) == public).await;
    let project = ["system:serviceaccounts:inner", "system:serviceaccounts:team-a"];
    world.until_there::<RoleBinding>("inner", user, |binding| groups(binding) == project).await;

    world.namespace("team-b", "cpaas.io/project: blue").await;
    let project =
        ["system:serviceaccounts:inner", "system:serviceaccounts:team-a", "system:serviceaccounts:team-b"];
    world.until_there::<RoleBinding>("inner", user, |binding| groups(binding) == project).await;
    world.namespace("team-a", "cpaas.io/project: red").await;
    let project = ["system:serviceaccounts:inner", "system:serviceaccounts:team-b"];
    world.until_there::<RoleBinding>("inner", user, |binding| groups(binding) == project).await;

    let may = async |who: &str| {
        let user = format!("--as=system:serviceaccount:{who}:default");
        let asked = [
            "auth",
            "can-i",
            "*",
            "connectors.connectors.alauda.io/k8s",
            "--subresource=proxy",
            "-n",
            "inner",
            &user,
        ];
        world.plane.kubectl(&asked).await.unwrap().status.success()
    };
    assert!(may("team-b").await && may("inner").await && !may("team-a").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_of_somebody_else_is_left_alone_and_drift_of_ours_is_corrected() {
    let (world, _prober, _running) = World::with_controller().await;
    world.namespace("theirs", "").await;
    let theirs = "
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: connectors-user, namespace: theirs}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: auditors}]
";
    world.apply(theirs).await;
    let before = world.api::<RoleBinding>("theirs").get(names::USER_ROLE).await.unwrap();
    world.demo("theirs", "k8s").await;
    world.demo("demo", "k8s").await;
    world.until_ready("theirs", "k8s").await;
    world.until_ready("demo", "k8s").await;

    let bindings = world.api::<RoleBinding>("demo");
    let widened = json!({"subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:authenticated"}]});
    bindings.patch(names::USER_ROLE, &PatchParams::default(), &Patch::Merge(&widened)).await.unwrap();
    let own = |binding: &RoleBinding| groups(binding) == ["system:serviceaccounts:demo"];
    world.until_there("demo", names::USER_ROLE, own).await;
    world.delete::<RoleBinding>("demo", names::USER_ROLE).await;
    world.until_there("demo", names::USER_ROLE, own).await;

    assert_eq!(world.api::<RoleBinding>("theirs").get(names::USER_ROLE).await.unwrap(), before);
    world.delete::<Connector>("theirs", "k8s").await;
    world.until_gone::<RoleBinding>("theirs", names::GATEWAY_SECRETS_ROLE).await;
    assert_eq!(world.api::<RoleBinding>("theirs").get(names::USER_ROLE).await.unwrap(), before);
}

/// One who deletes a Connector while the controller is about to make its Service.
#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_is_deleted_in_the_middle_of_its_walk_takes_nobodys_access() {
    let world = World::new().await;
    let connectors = world.api::<Connector>("demo");
    let client = between::client(world.controllers_client(), move |method, path| {
        let connectors = connectors.clone();
        async move {
            if method == Method::POST
                && path.ends_with("/demo/services")
                && connectors.delete("tmp", &DeleteParams::default()).await.is_ok()
            {
                // Until the controller's watch has told it.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            None
        }
    });
    let _running = world.controller_by(client, settings("one"), Arc::new(FakeProber::healthy()));
    world.demo("demo", "prod").await;
    world.until_ready("demo", "prod").await;
    let bound = world.api::<RoleBinding>("demo").get(names::USER_ROLE).await.unwrap();
    world.demo("demo", "tmp").await;
    world.until_gone::<Connector>("demo", "tmp").await;
    world.demo("demo", "later").await;
    world.until_ready("demo", "later").await;
    let still = world.api::<RoleBinding>("demo").get(names::USER_ROLE).await.unwrap();
    assert_eq!(still.uid(), bound.uid());
}
