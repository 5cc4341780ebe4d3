//! May it? RBAC as users bind it, and how often the API server is asked.

use connectors_api::names::AUDIENCE;
use connectors_gateway::admit::authorize::Verdict;
use connectors_testenv::eventually;

use crate::world::{World, asked, connector, run};

#[test]
fn connectors_user_allows_and_a_missing_binding_is_seen_soon_after_it_is_made() {
    run(async {
        let world = World::new().await;
        let token = world.plane.service_account_token("grants-bind", "default", AUDIENCE, 600).await.unwrap();
        let principal = world.principal(&token).await;
        let k8s = connector("grants-bind", "k8s");
        let may_use = async || world.parts.authorizer.may_use(&principal, &k8s).await.unwrap();
        assert_eq!(may_use().await, Verdict::Denied { may_get: false });
        world.bind_user("grants-bind", "default").await;
        eventually("the binding counts", async || may_use().await == Verdict::Allowed).await;
        let elsewhere =
            world.parts.authorizer.may_use(&principal, &connector("default", "k8s")).await.unwrap();
        assert_eq!(elsewhere, Verdict::Denied { may_get: false });
    });
}

#[test]
fn whoever_may_see_a_connector_may_not_use_it_for_that_unless_migration_is_on() {
    run(async {
        for (get_is_use, verdict) in [(false, Verdict::Denied { may_get: true }), (true, Verdict::Allowed)] {
            let world = World::with(|settings| settings.authorization.get_is_use = get_is_use).await;
            let namespace = format!("grants-view-{get_is_use}");
            let token =
                world.plane.service_account_token(&namespace, "default", AUDIENCE, 600).await.unwrap();
            let subject = format!("--serviceaccount={namespace}:default");
            world
                .kubectl(&[
                    "create",
                    "rolebinding",
                    "view",
                    "-n",
                    &namespace,
                    "--clusterrole=connectors-view",
                    &subject,
                ])
                .await;
            let principal = world.principal(&token).await;
            let seen = async || {
                world.parts.authorizer.may_use(&principal, &connector(&namespace, "k8s")).await.unwrap()
            };
            eventually("the verdict follows get", async || seen().await == verdict).await;
        }
    });
}

#[test]
fn a_grant_for_one_pod_is_for_that_pod_alone() {
    run(async {
        let world = World::new().await;
        let mine = world.pod_token("grants-pod", "mine").await;
        let other = world.pod_token("grants-pod", "other").await;
        world.plane.apply(ROLE_OF_ONE_POD).await.unwrap();
        let k8s = connector("grants-pod", "k8s");
        let (mine, other) = (world.principal(&mine).await, world.principal(&other).await);
        eventually("the Pod's grant counts", async || {
            world.parts.authorizer.may_use(&mine, &k8s).await.unwrap() == Verdict::Allowed
        })
        .await;
        assert_eq!(
            world.parts.authorizer.may_use(&other, &k8s).await.unwrap(),
            Verdict::Denied { may_get: false }
        );
    });
}

const ROLE_OF_ONE_POD: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {namespace: grants-pod, name: one-pod}
rules:
  - {apiGroups: [connectors.alauda.io], resources: [connectors/proxy/v1/pod/grants-pod/mine], verbs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {namespace: grants-pod, name: one-pod}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: one-pod}
subjects: [{kind: ServiceAccount, namespace: grants-pod, name: default}]
"#;

#[test]
fn a_hundred_requests_of_one_principal_ask_once() {
    run(async {
        let world = World::new().await;
        let token = world.plane.service_account_token("grants-many", "default", AUDIENCE, 600).await.unwrap();
        world.bind_user("grants-many", "default").await;
        let principal = world.principal(&token).await;
        let k8s = connector("grants-many", "k8s");
        eventually("the binding counts", async || {
            world.parts.authorizer.may_use(&principal, &k8s).await.unwrap() == Verdict::Allowed
        })
        .await;
        // Another gateway that knows nothing yet.
        let fresh = World::new().await;
        let verdicts =
            futures::future::join_all((0..100).map(|_| fresh.parts.authorizer.may_use(&principal, &k8s)))
                .await;
        assert!(verdicts.iter().all(|verdict| *verdict == Ok(Verdict::Allowed)));
        assert_eq!(asked(&fresh.parts.metrics.home.access_reviews), 1);
    });
}
