//! What every test here stands on: a control plane with our CRDs and RBAC, and controllers that run in
//! process.

use std::fmt::Debug;
use std::sync::Arc;

use clap::Parser;
use connectors_api::conditions::{self, Condition};
use connectors_api::{Connector, ConnectorClass, names};
use connectors_controller::prober::Prober;
use connectors_controller::prober::fake::FakeProber;
use connectors_controller::settings::Settings;
use connectors_testenv::ControlPlane;
use connectors_testenv::eventually;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// As config/ installs it, without what a node would run. The class `k8s` is the shipped one, there from the
/// beginning.
const INSTALLED: [[&str; 2]; 3] = [["-k", "namespaces"], ["-k", "rbac"], ["-f", "classes/k8s.yaml"]];

pub const GATEWAY_SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: connectors-gateway, namespace: connectors-system}
spec: {ports: [{name: http, port: 80}]}
";

pub struct World {
    pub plane: ControlPlane,
    pub client: Client,
}

/// A controller that runs in this process until it is told to stop, or is dropped as if it had crashed.
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<Result<(), connectors_controller::Error>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    pub async fn stop(mut self) -> Result<(), connectors_controller::Error> {
        drop(self.stop.take());
        (&mut self.task).await.expect("the controller did not panic")
    }
}

pub fn settings(identity: &str) -> Settings {
    let mut arguments =
        vec!["connectors-controller", "--identity", identity, "--admin-address", "127.0.0.1:0"];
    arguments.extend([
        "--recheck",
        "1",
        "--lease-duration",
        "3",
        "--lease-deadline",
        "2",
        "--lease-retry",
        "0.2",
    ]);
    Settings::parse_from(arguments)
}

/// A file or folder of `config/`.
pub fn config(path: &str) -> String {
    format!("{}/../config/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// kubectl as administrator.
pub async fn done(plane: &ControlPlane, arguments: &[&str]) -> String {
    let output = plane.kubectl(arguments).await.expect("kubectl");
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "kubectl {arguments:?}: {said}");
    said
}

impl World {
    pub async fn new() -> World {
        let plane = ControlPlane::with_crds().await.expect("a control plane");
        for [how, path] in INSTALLED {
            done(&plane, &["apply", "--server-side", how, &config(path)]).await;
        }
        plane.apply(GATEWAY_SERVICE).await.expect("the gateway's Service");
        let client = plane.client();
        World { plane, client }
    }

    /// The usual start: one controller, and a gateway that finds every target in order.
    pub async fn with_controller() -> (World, Arc<FakeProber>, Running) {
        let world = World::new().await;
        let prober = Arc::new(FakeProber::healthy());
        let running = world.controller(settings("one"), prober.clone());
        (world, prober, running)
    }

    pub fn controller(&self, settings: Settings, prober: Arc<dyn Prober>) -> Running {
        self.controller_by(self.controllers_client(), settings, prober)
    }

    pub fn controllers_client(&self) -> Client {
        let user = names::service_account_user(names::SYSTEM_NAMESPACE, names::CONTROLLER);
        self.plane.client_for(&user, &[])
    }

    pub fn controller_by(&self, client: Client, settings: Settings, prober: Arc<dyn Prober>) -> Running {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        let task = tokio::spawn(connectors_controller::run(settings, client, prober, || 0, shutdown));
        Running { stop: Some(stop), task }
    }

    pub async fn namespace(&self, name: &str, labels: &str) {
        self.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}"
        ))
        .await;
    }

    pub async fn apply(&self, yaml: &str) {
        self.plane.apply(yaml).await.expect("applied");
    }

    /// Namespace, Secret and a Connector of class `k8s` that uses it.
    pub async fn demo(&self, namespace: &str, name: &str) {
        self.namespace(namespace, "").await;
        self.apply(&bearer_secret(namespace, "k8s-secret", "one")).await;
        self.apply(&connector(namespace, name, "{name: bearerTokenAuth, secretRef: {name: k8s-secret}}"))
            .await;
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub async fn connector(&self, namespace: &str, name: &str) -> Connector {
        self.api::<Connector>(namespace).get(name).await.expect("the Connector")
    }

    pub async fn merge(&self, namespace: &str, name: &str, patch: Value) {
        let connectors = self.api::<Connector>(namespace);
        connectors.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
    }

    pub async fn until_ready(&self, namespace: &str, name: &str) -> Connector {
        self.until_condition(namespace, name, conditions::READY, "True", "").await
    }

    /// The Connector once this condition has this status and reason, for its present generation.
    pub async fn until_condition(
        &self,
        namespace: &str,
        name: &str,
        type_: &str,
        status: &str,
        reason: &str,
    ) -> Connector {
        eventually(&format!("{namespace}/{name} {type_}={status} {reason}"), || async {
            let connector = self.connector(namespace, name).await;
            let observed = connector.status.as_ref().and_then(|status| status.observed_generation)
                == connector.metadata.generation;
            let found = condition(&connector, type_);
            let reached = found.as_ref().is_some_and(|found| {
                found.status == status && found.reason.as_deref().unwrap_or_default() == reason
            });
            if reached && observed { Ok(connector) } else { Err(connector.status) }
        })
        .await
    }

    pub async fn class(&self, name: &str) -> ConnectorClass {
        Api::<ConnectorClass>::all(self.client.clone()).get(name).await.expect("the class")
    }

    pub async fn until_gone<K>(&self, namespace: &str, name: &str)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api = self.api::<K>(namespace);
        eventually(&format!("{} {namespace}/{name} gone", K::kind(&())), || async {
            match api.get_opt(name).await.expect("an answer") {
                None => Ok(()),
                Some(there) => Err(there),
            }
        })
        .await;
    }

    pub async fn until_there<K>(&self, namespace: &str, name: &str, as_wanted: impl Fn(&K) -> bool) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api = self.api::<K>(namespace);
        eventually(&format!("{} {namespace}/{name}", K::kind(&())), || async {
            match api.get_opt(name).await.expect("an answer") {
                Some(there) if as_wanted(&there) => Ok(there),
                other => Err(other),
            }
        })
        .await
    }

    pub async fn delete<K>(&self, namespace: &str, name: &str)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.api::<K>(namespace).delete(name, &DeleteParams::default()).await.expect("deleted");
    }
}

pub fn condition(connector: &Connector, type_: &str) -> Option<Condition> {
    connector.status.iter().find_map(|status| conditions::find(&status.conditions, type_).cloned())
}

pub fn bearer_secret(namespace: &str, name: &str, token: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {namespace}}}, \
         type: connectors.cpaas.io/bearer-token, stringData: {{token: \"{token}\"}}}}"
    )
}

pub fn connector(namespace: &str, name: &str, auth: &str) -> String {
    format!(
        "{{apiVersion: connectors.alauda.io/v1alpha1, kind: Connector, metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{connectorClassName: k8s, address: 'https://target.example:6443', auth: {auth}}}}}"
    )
}
