//! One control plane for all tests of the process (the last one to end stops it), and for each test a gateway
//! of its own beside it.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use connectors_api::names;
use connectors_api::proxy_auth::ConnectorRef;
use connectors_gateway::admin::Readiness;
use connectors_gateway::admit::authenticate::{Identity, Rejection};
use connectors_gateway::gateway::Parts;
use connectors_gateway::home::cluster::Cluster;
use connectors_gateway::home::principal::Principal;
use connectors_gateway::metrics::{Metrics, Outcomes};
use connectors_gateway::settings::{Settings, TargetRule};
use connectors_gateway::table;
use connectors_gateway::table::route::{Entry, Route};
use connectors_gateway::table::watch::Publisher;
use connectors_gateway::tls::issuer;
use connectors_gateway::upstream::policy;
use connectors_testenv::ControlPlane;
use connectors_testenv::eventually;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

/// Of the process, not of a test: clients of the shared control plane live in it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SHARED: LazyLock<Mutex<Weak<ControlPlane>>> = LazyLock::new(|| Mutex::new(Weak::new()));

pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(test: impl Future<Output = ()>) {
    RUNTIME.block_on(test);
}

pub struct World {
    pub plane: Arc<ControlPlane>,
    pub cluster: Arc<Cluster>,
    pub parts: Parts,
    pub readiness: Readiness,
    watches: Vec<AbortHandle>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.watches.iter().for_each(AbortHandle::abort);
    }
}

async fn shared() -> Arc<ControlPlane> {
    let mut shared = SHARED.lock().await;
    if let Some(plane) = shared.upgrade() {
        return plane;
    }
    let plane = Arc::new(installed().await);
    *shared = Arc::downgrade(&plane);
    plane
}

/// A file or folder of `config/`.
pub fn config(path: &str) -> String {
    format!("{}/../config/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// With what `config/` gives the gateway and the users.
pub async fn installed() -> ControlPlane {
    let plane = ControlPlane::with_crds().await.unwrap();
    for file in ["namespaces/namespaces.yaml", "rbac/gateway.yaml", "rbac/users.yaml", "classes/k8s.yaml"] {
        plane
            .apply(&std::fs::read_to_string(config(file)).unwrap())
            .await
            .unwrap_or_else(|error| panic!("{file}: {error:#}"));
    }
    plane
}

impl World {
    pub async fn new() -> World {
        World::with(|_| {}).await
    }

    pub async fn with(tune: impl FnOnce(&mut Settings)) -> World {
        World::beside(shared().await, tune)
    }

    /// The gateway's own ServiceAccount asks: what `config/rbac/gateway.yaml` does not grant, fails here.
    pub fn beside(plane: Arc<ControlPlane>, tune: impl FnOnce(&mut Settings)) -> World {
        let mut settings = Settings::default();
        settings.targets.allow =
            vec![TargetRule { cidrs: vec!["127.0.0.0/8".parse().unwrap()], ..TargetRule::default() }];
        tune(&mut settings);
        let client =
            plane.client_for(&names::service_account_user(names::SYSTEM_NAMESPACE, names::GATEWAY), &[]);
        let metrics = Arc::new(Metrics::new().unwrap());
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let cluster =
            Arc::new(Cluster::new(client.clone(), Handle::current(), settings.clone(), metrics.clone()));
        let parts = Parts::new(settings, cluster.clone(), cluster.clone(), metrics.clone()).unwrap();
        let readiness =
            Readiness { issuer: parts.issuer.clone(), surroundings: policy::alone(), ..Readiness::default() };
        let (synced, watches) = (readiness.synced.clone(), readiness.watches.clone());
        let publisher = Publisher {
            table: parts.table.clone(),
            synced,
            watches,
            metrics: metrics.clone(),
            connectors: 100,
        };
        let (objects, issuer) = (client.clone(), parts.issuer.clone());
        let watches = vec![
            tokio::spawn(async move {
                table::watch::follow(objects, "cluster.local", "connectors-system", publisher).await
            })
            .abort_handle(),
            tokio::spawn(
                async move { issuer::follow(client, names::SYSTEM_NAMESPACE, issuer, metrics).await },
            )
            .abort_handle(),
        ];
        World { plane, cluster, parts, readiness, watches }
    }

    pub async fn synced(&self) {
        eventually("the table is there", async || self.readiness.synced.load(Ordering::Acquire)).await;
    }

    /// A token as the CSI driver gets it, bound to a Pod that exists.
    pub async fn pod_token(&self, namespace: &str, pod: &str) -> String {
        self.plane.service_account_token(namespace, "default", names::AUDIENCE, 600).await.unwrap();
        let spec = "{containers: [{name: c, image: i}]}";
        let manifest = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{namespace: {namespace}, name: {pod}}}, spec: {spec}}}"
        );
        self.plane.apply(&manifest).await.unwrap();
        let audience = format!("--audience={}", names::AUDIENCE);
        let bound = format!("--bound-object-name={pod}");
        self.kubectl(&[
            "create",
            "token",
            "default",
            "-n",
            namespace,
            &audience,
            "--bound-object-kind=Pod",
            &bound,
        ])
        .await
    }

    pub async fn kubectl(&self, args: &[&str]) -> String {
        let output = self.plane.kubectl(args).await.unwrap();
        assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub async fn identity(&self, token: &str) -> Result<Identity, Rejection> {
        self.parts.authenticator.authenticate(&token.into()).await
    }

    pub async fn principal(&self, token: &str) -> Arc<Principal> {
        match self.identity(token).await {
            Ok(Identity::Valid(principal)) => principal,
            other => panic!("not a valid token: {other:?}"),
        }
    }

    /// Binds ClusterRole connectors-user in the namespace to one of its ServiceAccounts.
    pub async fn bind_user(&self, namespace: &str, account: &str) {
        let subject = format!("--serviceaccount={namespace}:{account}");
        self.kubectl(&[
            "create",
            "rolebinding",
            &format!("use-{account}"),
            "-n",
            namespace,
            "--clusterrole=connectors-user",
            &subject,
        ])
        .await;
    }

    pub fn entry(&self, connector: &ConnectorRef) -> Option<Entry> {
        self.parts.table.load().lookup(connector).cloned()
    }

    pub fn route(&self, connector: &ConnectorRef) -> Option<Arc<Route>> {
        match self.entry(connector)? {
            Entry::Usable(route) => Some(route),
            Entry::Unusable { .. } => None,
        }
    }

    /// Writes the status as the controller does.
    pub async fn patch_status(&self, connector: &ConnectorRef, status: serde_json::Value) {
        let (name, namespace) = (&connector.name, &connector.namespace);
        let patch = serde_json::json!({ "status": status }).to_string();
        self.kubectl(&[
            "patch",
            "connector",
            name,
            "-n",
            namespace,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ])
        .await;
    }
}

/// Questions that have reached the API server.
pub fn asked(outcomes: &Outcomes) -> u64 {
    outcomes.ok.get() + outcomes.refused.get() + outcomes.failed.get()
}

pub fn connector(namespace: &str, name: &str) -> ConnectorRef {
    ConnectorRef { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// A Connector of class k8s and its Secret `<name>`.
pub fn manifests(connector: &ConnectorRef, address: &str, token: &str) -> String {
    let (namespace, name) = (&connector.namespace, &connector.name);
    format!(
        r#"
{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}
---
apiVersion: v1
kind: Secret
metadata: {{namespace: {namespace}, name: {name}}}
type: connectors.cpaas.io/bearer-token
stringData: {{token: "{token}"}}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {{namespace: {namespace}, name: {name}}}
spec:
  connectorClassName: k8s
  address: "{address}"
  auth: {{name: bearerTokenAuth, secretRef: {{name: {name}}}}}
"#
    )
}

/// The Role that the controller keeps, for one Secret.
pub fn secret_role(connector: &ConnectorRef) -> String {
    let (namespace, secret, name) = (&connector.namespace, &connector.name, names::GATEWAY_SECRETS_ROLE);
    format!(
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{namespace: {namespace}, name: {name}}}
rules: [{{apiGroups: [""], resources: [secrets], resourceNames: [{secret}], verbs: [get]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{namespace: {namespace}, name: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}
subjects: [{{kind: ServiceAccount, namespace: connectors-system, name: connectors-gateway}}]
"#
    )
}
