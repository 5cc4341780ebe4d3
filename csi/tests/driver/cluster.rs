//! One API server for all tests, set up from config/: CRDs, class k8s, the driver's own permissions. Each
//! test has a namespace.

use connectors_api::Connector;
use connectors_api::item::Item;
use connectors_api::names::{AUDIENCE, CSI, CSI_NAMESPACE, service_account_user};
use connectors_testenv::ControlPlane;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

static CLUSTER: OnceCell<ControlPlane> = OnceCell::const_new();

pub async fn cluster() -> &'static ControlPlane {
    CLUSTER.get_or_init(start).await
}

/// The driver's own ServiceAccount, with the permissions of config/rbac and no others.
pub async fn drivers_client() -> kube::Client {
    cluster().await.client_for(&service_account_user(CSI_NAMESPACE, CSI), &[])
}

async fn start() -> ControlPlane {
    let cluster = ControlPlane::with_crds().await.unwrap();
    cluster.apply(include_str!("../../../config/namespaces/namespaces.yaml")).await.unwrap();
    cluster.apply(include_str!("../../../config/rbac/csi.yaml")).await.unwrap();
    cluster.apply(include_str!("../../../config/classes/k8s.yaml")).await.unwrap();
    let bundle = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "connectors-ca-bundle", "namespace": "connectors-system" },
        "data": { "ca.crt": CA },
    });
    cluster.apply(&bundle.to_string()).await.unwrap();
    cluster
}

/// A namespace whose ServiceAccounts may use its Connectors, as the controller sets it up.
pub struct Demo {
    pub namespace: &'static str,
}

impl Demo {
    /// With the Ready connector `k8s`.
    pub async fn new(namespace: &'static str) -> Demo {
        let demo = Demo { namespace };
        demo.apply(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }))
            .await;
        demo.allow(&format!("system:serviceaccounts:{namespace}")).await;
        demo.connector("k8s", "k8s").await;
        demo.ready("k8s", "True", "", "").await;
        demo
    }

    pub async fn apply(&self, object: Value) {
        cluster().await.apply(&object.to_string()).await.unwrap();
    }

    /// Lets this group use the connectors of the namespace.
    pub async fn allow(&self, group: &str) {
        self.bind("connectors-user", group, "connectors/proxy", "*").await;
    }

    /// A Role with one rule for Connectors, bound to a group.
    pub async fn bind(&self, name: &str, group: &str, resource: &str, verb: &str) {
        let (api, namespace) = ("rbac.authorization.k8s.io", self.namespace);
        let rules =
            json!([{ "apiGroups": ["connectors.alauda.io"], "resources": [resource], "verbs": [verb] }]);
        let role = json!({
            "apiVersion": format!("{api}/v1"), "kind": "Role",
            "metadata": { "name": name, "namespace": namespace }, "rules": rules,
        });
        let binding = json!({
            "apiVersion": format!("{api}/v1"), "kind": "RoleBinding",
            "metadata": { "name": format!("{name}-{}", group.replace(':', "-")), "namespace": namespace },
            "roleRef": { "apiGroup": api, "kind": "Role", "name": name },
            "subjects": [{ "apiGroup": api, "kind": "Group", "name": group }],
        });
        self.apply(role).await;
        self.apply(binding).await;
    }

    /// A Connector without a status.
    pub async fn connector(&self, name: &str, class: &str) {
        self.connector_at(name, class, "https://10.0.0.1:6443").await;
    }

    /// The same, or a change of its address.
    pub async fn connector_at(&self, name: &str, class: &str, address: &str) {
        let mut connector = json!({
            "apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector",
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": { "connectorClassName": class, "address": address },
        });
        if class == "k8s" {
            connector["spec"]["auth"] = json!({ "name": "bearerTokenAuth", "secretRef": { "name": "s" } });
        }
        self.apply(connector).await;
    }

    /// The status that the controller would write of the Connector as it is now.
    pub async fn ready(&self, name: &str, status: &str, reason: &str, message: &str) {
        let generation = self.connectors().await.get(name).await.unwrap().meta().generation;
        let url = format!("http://c-{name}.{}.svc.cluster.local", self.namespace);
        let ready = json!({ "type": "Ready", "status": status, "reason": reason, "message": message });
        let status = json!({ "status": { "observedGeneration": generation, "conditions": [ready], "proxy": { "httpAddress": { "url": url } } } });
        self.connectors()
            .await
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    /// A merge patch; the API server's words if it refuses.
    pub async fn patch(&self, name: &str, patch: Value) -> Result<(), String> {
        let patched =
            self.connectors().await.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map(drop).map_err(|error| error.to_string())
    }

    pub async fn delete_connector(&self, name: &str) {
        self.connectors().await.delete(name, &Default::default()).await.unwrap();
    }

    pub async fn token(&self) -> String {
        cluster().await.service_account_token(self.namespace, "default", AUDIENCE, 1800).await.unwrap()
    }

    async fn connectors(&self) -> Api<Item<Connector>> {
        Api::namespaced(cluster().await.client(), self.namespace)
    }
}
