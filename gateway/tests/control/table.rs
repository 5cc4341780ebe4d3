//! Watched objects become routes, rotated Secrets become credentials, and RBAC decides which Secrets can be
//! read.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use connectors_gateway::admit::credential::CredentialError;
use connectors_gateway::table::route::Entry;
use connectors_testenv::{ControlPlane, deep, eventually};
use kube::Api;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use serde_json::json;

use crate::world::{World, config, connector, installed, manifests, run, secret_role};

fn reason(entry: Option<Entry>) -> Option<String> {
    match entry? {
        Entry::Usable(_) => Some(String::new()),
        Entry::Unusable { reason, .. } => Some(reason),
    }
}

#[test]
fn a_connector_gets_its_route_from_its_status_and_loses_it_when_deleted() {
    run(async {
        let world = World::new().await;
        let k8s = connector("table-follow", "k8s");
        world.plane.apply(&manifests(&k8s, "https://127.0.0.1:6443/base", "t")).await.unwrap();
        eventually("it is known", async || reason(world.entry(&k8s)).as_deref() == Some("NotChecked")).await;
        let condition = json!({"type": "SecretReady", "status": "False", "reason": "SecretNotFound", "message": "secrets \"k8s\" not found"});
        world.patch_status(&k8s, json!({"conditions": [condition]})).await;
        eventually("its own words", async || reason(world.entry(&k8s)).as_deref() == Some("SecretNotFound"))
            .await;
        world
            .patch_status(
                &k8s,
                json!({"conditions": [], "credential": {"secretName": "k8s", "resourceVersion": "7"}}),
            )
            .await;
        eventually("it is usable", async || world.route(&k8s).is_some()).await;
        let table = world.parts.table.load();
        assert_eq!(table.lookup_host("c-k8s.table-follow.svc.cluster.local"), Some(&k8s));
        world.kubectl(&["delete", "connector", "k8s", "-n", "table-follow"]).await;
        eventually("it is gone", async || world.entry(&k8s).is_none()).await;
    });
}

#[test]
fn without_the_crds_a_gateway_says_so_and_has_its_table_once_they_are_there() {
    run(async {
        let plane = ControlPlane::start().await.unwrap();
        for file in ["namespaces/namespaces.yaml", "rbac/gateway.yaml"] {
            plane.apply(&std::fs::read_to_string(config(file)).unwrap()).await.unwrap();
        }
        let world = World::beside(Arc::new(plane), |_| {});
        let told = eventually("both watches tell", async || {
            world
                .readiness
                .watches
                .trouble()
                .filter(|trouble| trouble.matches("install the CRDs").count() == 2)
        })
        .await;
        assert!(!told.contains("404"), "{told}");
        assert!(!world.readiness.synced.load(Ordering::Acquire), "it must not be ready");

        world.kubectl(&["apply", "--server-side", "-k", &config("crd")]).await;
        world.synced().await;
        assert_eq!(world.readiness.watches.trouble(), None);
    });
}

#[test]
fn a_broken_class_refuses_its_own_connectors_and_no_others() {
    run(async {
        let world = World::new().await;
        let (good, bad) = (connector("table-broken", "good"), connector("table-broken", "bad"));
        let broken = r#"
apiVersion: connectors.alauda.io/v1alpha1
kind: ConnectorClass
metadata: {name: broken}
spec: {livenessProbe: {http: {path: "{{ .Unclosed"}}}
"#;
        world.plane.apply(broken).await.unwrap();
        let of_broken = manifests(&bad, "https://127.0.0.1:1", "t")
            .replace("connectorClassName: k8s", "connectorClassName: broken");
        world.plane.apply(&of_broken).await.unwrap();
        world.plane.apply(&manifests(&good, "https://127.0.0.1:1", "t")).await.unwrap();
        for one in [&good, &bad] {
            world
                .patch_status(one, json!({"credential": {"secretName": one.name, "resourceVersion": "1"}}))
                .await;
        }
        eventually("the good one has a route", async || world.route(&good).is_some()).await;
        eventually("the bad one says why", async || {
            reason(world.entry(&bad)).as_deref() == Some("ConnectorClassInvalid")
        })
        .await;
    });
}

#[test]
fn an_object_that_is_nested_too_deep_takes_only_itself_out_also_after_a_restart() {
    run(async {
        let world = World::new().await;
        let sound = connector("table-deep", "sound");
        let observed = json!({"credential": {"secretName": "k8s-secret", "resourceVersion": "1"}});
        world.plane.apply(&manifests(&sound, "https://127.0.0.1:1", "t")).await.unwrap();
        world
            .patch_status(&sound, json!({"credential": {"secretName": "sound", "resourceVersion": "1"}}))
            .await;
        let mut unread = Vec::new();
        for depth in [200, 5_000] {
            for place in deep::UNREAD.iter().chain([&deep::READ]) {
                deep::create(&world.plane, "table-deep", place, depth).await.unwrap();
                let one = connector("table-deep", &format!("{place}-{depth}"));
                world.patch_status(&one, observed.clone()).await;
                unread.extend((*place != deep::READ).then_some(one));
            }
        }
        for world in [&world, &World::beside(world.plane.clone(), |_| ())] {
            world.synced().await;
            eventually("the sound one has a route", async || world.route(&sound).is_some()).await;
            for one in &unread {
                eventually(&format!("{one} has a route"), async || world.route(one).is_some()).await;
            }
            for depth in [200, 5_000] {
                let deep = connector("table-deep", &format!("{}-{depth}", deep::READ));
                eventually("the deep one says why", async || match world.entry(&deep) {
                    Some(Entry::Unusable { message, .. }) => {
                        message.ends_with("it is nested deeper than 128 levels")
                    }
                    _ => false,
                })
                .await;
            }
        }
    });
}

#[test]
fn a_secret_is_read_only_under_the_role_that_names_it_and_as_soon_as_that_is_there() {
    run(async {
        let world = World::new().await;
        let k8s = connector("table-secret", "k8s");
        world.plane.apply(&manifests(&k8s, "https://127.0.0.1:1", "REAL")).await.unwrap();
        world.patch_status(&k8s, json!({"credential": {"secretName": "k8s", "resourceVersion": "1"}})).await;
        eventually("the route is there", async || world.route(&k8s).is_some()).await;
        let route = world.route(&k8s).unwrap();
        let refused = world.parts.credentials.get(&route).await;
        assert!(
            matches!(&refused, Err(CredentialError::Unusable(why)) if why.contains("may not read")),
            "{:?}",
            refused.err()
        );

        // The Role comes while a request waits.
        let role = secret_role(&k8s);
        let (credential, granted) =
            tokio::join!(world.parts.credentials.get(&route), world.plane.apply(&role));
        granted.unwrap();
        assert_eq!(credential.unwrap().authorization().unwrap(), "Bearer REAL");
    });
}

#[test]
fn a_rotated_secret_is_used_as_soon_as_the_status_names_its_version() {
    run(async {
        let world = World::new().await;
        let k8s = connector("table-rotate", "k8s");
        world.plane.apply(&manifests(&k8s, "https://127.0.0.1:1", "OLD")).await.unwrap();
        world.plane.apply(&secret_role(&k8s)).await.unwrap();
        world.patch_status(&k8s, json!({"credential": {"secretName": "k8s", "resourceVersion": "1"}})).await;
        eventually("the route is there", async || world.route(&k8s).is_some()).await;
        let old = world.route(&k8s).unwrap();
        let sent = async |route: &_| {
            let credential = world.parts.credentials.get(route).await.unwrap();
            String::from_utf8(credential.authorization().unwrap().as_bytes().to_vec()).unwrap()
        };
        assert_eq!(sent(&old).await, "Bearer OLD");
        world.plane.apply(&manifests(&k8s, "https://127.0.0.1:1", "NEW")).await.unwrap();
        assert_eq!(sent(&old).await, "Bearer OLD", "nothing is read again before the status says so");
        world.patch_status(&k8s, json!({"credential": {"secretName": "k8s", "resourceVersion": "2"}})).await;
        eventually("the new version is routed", async || {
            world.route(&k8s).is_some_and(|new| new.pool_key != old.pool_key)
        })
        .await;
        assert_eq!(sent(&world.route(&k8s).unwrap()).await, "Bearer NEW");
    });
}

#[test]
fn a_targets_refusal_makes_the_secret_be_read_once_more_and_not_again_soon() {
    run(async {
        let world = World::new().await;
        let k8s = connector("table-reread", "k8s");
        world.plane.apply(&manifests(&k8s, "https://127.0.0.1:1", "OLD")).await.unwrap();
        world.plane.apply(&secret_role(&k8s)).await.unwrap();
        world.patch_status(&k8s, json!({"credential": {"secretName": "k8s", "resourceVersion": "1"}})).await;
        eventually("the route is there", async || world.route(&k8s).is_some()).await;
        let route = world.route(&k8s).unwrap();
        let credentials = &world.parts.credentials;
        let old = credentials.get(&route).await.unwrap();
        world.plane.apply(&manifests(&k8s, "https://127.0.0.1:1", "NEW")).await.unwrap();
        assert!(credentials.reread(&route, &old).await, "the Secret differs");
        let new = credentials.get(&route).await.unwrap();
        assert_eq!(new.authorization().unwrap(), "Bearer NEW");
        let reads = world.parts.metrics.home.secret_reads.ok.get();
        for _ in 0..20 {
            assert!(!credentials.reread(&route, &new).await, "what was refused is sent again");
            assert!(credentials.reread(&route, &old).await, "whoever sent the old one has another by now");
        }
        assert_eq!(world.parts.metrics.home.secret_reads.ok.get(), reads);
    });
}

/// A tenant's quota of objects is not one of bytes: etcd takes each up to 1.5 MiB.
#[test]
fn connectors_as_large_as_they_may_be_do_not_take_the_memory_of_the_gateway() {
    const NUMBER: usize = 250;
    run(async {
        let world = World::beside(std::sync::Arc::new(installed().await), |_| {});
        let before = peak();
        let text = "x".repeat(1_300_000);
        // Of eight bytes each, which were hundreds in memory.
        let values = json!(vec![json!({"a": 0}); 10_000]);
        let connectors: Api<DynamicObject> = Api::namespaced_with(
            world.plane.client(),
            "large",
            &ApiResource::erase::<connectors_api::Connector>(&()),
        );
        world.plane.apply("{apiVersion: v1, kind: Namespace, metadata: {name: large}}").await.unwrap();
        for number in 0..NUMBER {
            let value = if number % 2 == 0 { json!(text) } else { values.clone() };
            let object = json!({
                "apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector",
                "metadata": {"namespace": "large", "name": format!("large-{number}")},
                "spec": {"connectorClassName": "k8s", "address": "https://a",
                         "auth": {"name": "bearerTokenAuth", "secretRef": {"name": "k8s"}},
                         "params": [{"name": "a", "value": value}]}});
            connectors
                .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
                .await
                .unwrap();
        }
        // Those that are watched, and those that a new process lists.
        let again = World::beside(world.plane.clone(), |_| {});
        for world in [&world, &again] {
            eventually("all are there", async || world.parts.table.load().connectors.len() == NUMBER).await;
            let large = |number: usize| reason(world.entry(&connector("large", &format!("large-{number}"))));
            assert_eq!(large(0).as_deref(), Some("InvalidParameters"), "it could not be told");
            assert!(large(1).is_some(), "it is a route");
        }
        let (grown, written) = (peak() - before, (NUMBER * (text.len() + 80_000) / 2) >> 10);
        assert!(grown < 256 << 10, "{} MiB for connectors of {} MiB", grown >> 10, written >> 10);
    });
}

/// The most memory that this process has had, KiB; with all that its other tests hold.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
