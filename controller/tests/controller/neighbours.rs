//! One namespace makes, changes and deletes much: others, and its own next Connector, notice little.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use connectors_api::Connector;
use connectors_api::probe::{ProbeReport, ProbeRequest};
use connectors_controller::prober::fake::healthy;
use connectors_controller::prober::{ProbeError, Prober};
use connectors_controller::settings::Settings;
use connectors_testenv::eventually;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::world::{World, bearer_secret, done, settings};

/// As many requests at a time as an eager tenant has open.
const AT_ONCE: usize = 16;

/// The usual period: looking anew at all of them each second is no tenant's doing.
fn usual() -> Settings {
    Settings { recheck: Duration::from_mins(1), ..settings("one") }
}

async fn all<F: Future<Output = ()>>(count: usize, each: impl Fn(usize) -> F) {
    futures::stream::iter(0..count).map(each).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

fn connector(name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector", "metadata": {"name": name},
        "spec": {
            "connectorClassName": "k8s", "address": "https://target.example:6443",
            "auth": {"name": "bearerTokenAuth", "secretRef": {"name": secret}},
        },
    })
}

/// How long until the status names the new version.
async fn rotation(world: &World, token: usize) -> Duration {
    world.apply(&bearer_secret("demo", "k8s-secret", &token.to_string())).await;
    let begun = Instant::now();
    let version = world.api::<Secret>("demo").get("k8s-secret").await.unwrap().resource_version();
    eventually("the new version", async || {
        let status = world.connector("demo", "k8s").await.status.unwrap();
        let found = status.credential.map(|credential| credential.resource_version);
        if found == version { Ok(()) } else { Err(found) }
    })
    .await;
    begun.elapsed()
}

/// A gateway that is near, with targets that are not.
struct Far;

#[async_trait]
impl Prober for Far {
    async fn probe(&self, request: &ProbeRequest) -> Result<ProbeReport, ProbeError> {
        if request.namespace == "many" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(healthy())
    }

    fn trust(&self, _: Vec<Vec<u8>>) {}
}

/// Names as long as they may be: the Role that names all 400 Secrets has some 100 KiB.
fn long(at: usize) -> String {
    format!("s{at:03}{}", "x".repeat(246))
}

async fn connectors_with_secrets(world: &World, count: usize) {
    world.namespace("many", "").await;
    let (connectors, secrets) = (world.api::<Connector>("many"), world.api::<Secret>("many"));
    all(count, async |at| create(&connectors, connector(&format!("c{at}"), &long(at))).await).await;
    all(count, async |at| {
        let metadata = json!({"name": long(at)});
        let data = json!({"token": "one"});
        let made =
            json!({"metadata": metadata, "type": "connectors.cpaas.io/bearer-token", "stringData": data});
        create(&secrets, made).await;
    })
    .await;
}

/// How often the API server was asked to make a Role.
async fn roles_asked_for(world: &World) -> usize {
    let metrics = done(&world.plane, &["get", "--raw", "/metrics"]).await;
    let of_roles = metrics.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && line.contains(r#"resource="roles""#)
            && line.contains(r#"verb="POST""#)
    });
    let counts = of_roles.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    counts.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_secrets_that_change_at_once_delay_no_other_namespaces_rotation() {
    const MANY: usize = 400;
    const ROTATIONS: usize = 4;
    let world = World::new().await;
    let _running = world.controller(usual(), Arc::new(Far));
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    let roles = roles_asked_for(&world).await;
    connectors_with_secrets(&world, MANY).await;
    let secrets = world.api::<Secret>("many");
    let relabelled = all(3 * MANY, async |at| {
        let label = Patch::Merge(json!({"metadata": {"labels": {"x": at.to_string()}}}));
        secrets.patch(&long(at % MANY), &PatchParams::default(), &label).await.unwrap();
    });
    let rotations = async {
        let mut took = Vec::new();
        for token in 0..ROTATIONS {
            took.push(rotation(&world, token).await);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        took
    };
    let (took, ()) = tokio::join!(rotations, relabelled);
    let sum: Duration = took.iter().sum();
    assert!(sum < ROTATIONS as u32 * Duration::from_secs(1), "rotations took {took:?}");
    assert!(took.iter().all(|took| *took < Duration::from_secs(5)), "rotations took {took:?}");
    let roles = roles_asked_for(&world).await - roles;
    assert!(roles < 10, "the Role was asked for {roles} times");
    eventually("a Role with all names", async || {
        let role = world.api::<Role>("many").get("connectors-gateway-secrets").await.unwrap();
        let names = role.rules.and_then(|rules| rules.into_iter().next()?.resource_names).unwrap_or_default();
        names.len() == MANY
    })
    .await;
}

/// Answers as late as a gateway that never sees the Connector.
struct Late;

#[async_trait]
impl Prober for Late {
    async fn probe(&self, request: &ProbeRequest) -> Result<ProbeReport, ProbeError> {
        if request.name != "new" {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        Ok(healthy())
    }

    fn trust(&self, _: Vec<Vec<u8>>) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_deleted_connectors_keep_no_place_from_the_next_one_of_their_namespace() {
    let world = World::new().await;
    let _running = world.controller(usual(), Arc::new(Late));
    world.namespace("churn", "").await;
    world.apply(&bearer_secret("churn", "k8s-secret", "one")).await;
    let connectors = world.api::<Connector>("churn");
    let made = all(200, async |at| create(&connectors, connector(&format!("c{at}"), "k8s-secret")).await);
    made.await;
    all(200, async |at| {
        connectors.delete(&format!("c{at}"), &DeleteParams::default()).await.unwrap();
    })
    .await;
    let begun = Instant::now();
    create(&connectors, connector("new", "k8s-secret")).await;
    world.until_ready("churn", "new").await;
    assert!(begun.elapsed() < Duration::from_secs(8), "the first check took {:?}", begun.elapsed());
}
