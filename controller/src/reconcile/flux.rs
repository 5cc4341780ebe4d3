//! After the Service, where operators want it (`--flux-configmaps`): a ConfigMap beside it, of the same name,
//! with what Flux needs to reach the target through the gateway, so that nobody keeps a copy of the connector
//! CA. Never somebody else's ConfigMap.

use std::collections::BTreeMap;
use std::sync::Arc;

use connectors_api::connector::Addressable;
use connectors_api::{Connector, names};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Resource, ResourceExt};

use super::role::labelled;
use super::service::belongs_to;
use crate::context::Context;
use crate::error::{Error, in_time};
use crate::keep::{self, Kept};
use crate::status::Findings;

/// As Flux reads them since 2.7: "Secret-less authentication" in docs/spec/v1/kustomizations.md of
/// github.com/fluxcd/kustomize-controller. `audiences` is one per line there, no list of YAML.
mod key {
    pub const PROVIDER: (&str, &str) = ("provider", "generic");
    pub const ADDRESS: &str = "address";
    pub const CA: &str = "ca.crt";
    pub const AUDIENCES: &str = "audiences";
}

/// By the address that the Service's step found: without one there is no proxy, or its name is taken.
pub async fn keep(context: &Context, connector: &Connector, findings: &mut Findings) -> Result<(), Error> {
    if !context.settings.flux_configmaps {
        return Ok(());
    }
    let namespace = connector.namespace().unwrap_or_default();
    let name = names::service_name(&connector.name_any());
    let configmaps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
    // Asked for by name each time: who follows the ConfigMaps of a cluster may read all of them.
    let live = in_time(configmaps.get_opt(&name)).await.attempt(|| format!("read ConfigMap {name:?}"))?;
    let Some(proxy) = &findings.proxy else {
        return match live.filter(|configmap| belongs_to(configmap, connector)) {
            Some(configmap) => keep::remove(&configmaps, &configmap).await,
            None => Ok(()),
        };
    };
    // The connector CA is still to come, and asks for this walk again.
    let Some(desired) = desired(connector, proxy) else { return Ok(()) };
    let ours = |configmap: &ConfigMap| belongs_to(configmap, connector);
    if keep::keep(&configmaps, live.map(Arc::new), &desired, ours).await? == Kept::Foreign {
        findings.warnings.push(format!(
            "ConfigMap {name:?} is not this Connector's and is left as it is: remove it, so that Flux can use this Connector by it"
        ));
    }
    Ok(())
}

/// `serviceAccountName` is the tenant's to add: what others add stays. A path of the Connector's address is
/// the gateway's to put in front.
fn desired(connector: &Connector, proxy: &Addressable) -> Option<ConfigMap> {
    let namespace = connector.namespace().unwrap_or_default();
    let name = names::service_name(&connector.name_any());
    let (provider, generic) = key::PROVIDER;
    let data = [
        (provider, generic.to_owned()),
        (key::ADDRESS, format!("https://{name}.{namespace}.svc")),
        (key::CA, proxy.ca_certs.clone()?),
        (key::AUDIENCES, proxy.audience.clone()?),
    ];
    let mut metadata = labelled(&name, &namespace);
    metadata.owner_references = connector.controller_owner_ref(&()).map(|owner| vec![owner]);
    let data: BTreeMap<String, String> =
        data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Some(ConfigMap { metadata, data: Some(data), ..ConfigMap::default() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made(name: &str, proxy: Value) -> Option<Value> {
        let connector: Connector = serde_json::from_value(json!({
            "apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector",
            "metadata": {"name": name, "namespace": "demo", "uid": "u-1"},
            "spec": {"connectorClassName": "k8s", "address": "https://target:6443/prefix"},
        }))
        .unwrap();
        let proxy: Addressable = serde_json::from_value(proxy).unwrap();
        desired(&connector, &proxy).map(|made| serde_json::to_value(made).unwrap())
    }

    fn proxy() -> Value {
        let url = "http://c-k8s.demo.svc.cluster.local/namespaces/demo/connectors/k8s";
        json!({"url": url, "audience": "connectors.alauda.io", "CACerts": "PEM"})
    }

    #[test]
    fn the_configmap_has_flux_s_keys_and_belongs_to_the_connector() {
        let made = made("k8s", proxy()).unwrap();
        let data = json!({
            "provider": "generic", "address": "https://c-k8s.demo.svc", "ca.crt": "PEM",
            "audiences": "connectors.alauda.io",
        });
        assert_eq!(made["data"], data, "no path, of neither the target nor the resolver");
        let metadata = &made["metadata"];
        assert_eq!((&metadata["name"], &metadata["namespace"]), (&json!("c-k8s"), &json!("demo")));
        assert_eq!(metadata["labels"], json!({"app.kubernetes.io/managed-by": "connectors-controller"}));
        let owner = &metadata["ownerReferences"][0];
        assert_eq!((&owner["kind"], &owner["uid"]), (&json!("Connector"), &json!("u-1")));
    }

    #[test]
    fn a_name_with_dots_is_shortened_as_that_of_the_service() {
        let made = made("git.example.com", proxy()).unwrap();
        let name = names::service_name("git.example.com");
        assert_eq!(made["metadata"]["name"], json!(name));
        assert_eq!(made["data"]["address"], json!(format!("https://{name}.demo.svc")));
    }

    #[test]
    fn without_the_connector_ca_there_is_none() {
        assert_eq!(made("k8s", json!({"url": "http://x", "audience": "connectors.alauda.io"})), None);
    }
}
