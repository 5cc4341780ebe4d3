//! What a template of a configuration sees: maps in lower camel case.
//! `render` makes one per configuration.

use std::collections::BTreeMap;

use connectors_api::{ConnectorClass, names, rules};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::inputs::{Inputs, VolumeConnector};

/// Where in the data the token is.
pub const TOKEN: &str = "/context/token";

/// `.connector` is `current`, `.connectors` all of the volume, `.configurations` the parameters of this
/// configuration.
pub fn data(
    current: &VolumeConnector,
    inputs: &Inputs,
    token: &SecretString,
    params: Map<String, Value>,
) -> Value {
    json!({
        "connector": connector(current),
        "connectors": inputs.connectors.iter().map(connector).collect::<Vec<_>>(),
        "connectorclass": class(&current.class, &inputs.cluster_domain),
        "context": { "token": token.expose_secret(), "proxy": { "caCert": inputs.ca_bundle } },
        "configurations": params,
    })
}

/// `.name` and `.metadata.name` are the same: published classes use either.
fn connector(mounted: &VolumeConnector) -> Value {
    let metadata = &mounted.connector.metadata;
    let mut status = Map::new();
    if let Some(address) = mounted.proxy_address() {
        status.insert("proxyAddress".into(), address.into());
    }
    let service = names::service_name(&mounted.reference.name);
    status.insert("host".into(), format!("{service}.{}.svc", mounted.reference.namespace).into());
    json!({
        "name": mounted.reference.name,
        "namespace": mounted.reference.namespace,
        "metadata": {
            "name": mounted.reference.name,
            "namespace": mounted.reference.namespace,
            "labels": metadata.labels.clone().unwrap_or_default(),
            "annotations": printable(metadata.annotations.as_ref()),
        },
        "spec": mounted.connector.spec,
        "status": status,
    })
}

/// Whoever edits annotations needs no right to the connector's Secret, and nobody checks them: what would end
/// its line in a file is left out, so that a template that asks for it fails.
fn printable(annotations: Option<&BTreeMap<String, String>>) -> BTreeMap<&str, &str> {
    let all = annotations.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()));
    all.filter(|(_, value)| rules::is_printable(value)).collect()
}

fn class(class: &ConnectorClass, cluster_domain: &str) -> Value {
    let mut data = json!({ "metadata": { "name": class.metadata.name } });
    if let (Some(address), Some(data)) = (class_proxy_address(class, cluster_domain), data.as_object_mut()) {
        data.insert("proxyAddress".into(), address.into());
    }
    data
}

/// The status where it is set, else what the spec says: an absolute `uri`, or the Service of `ref`.
fn class_proxy_address(class: &ConnectorClass, cluster_domain: &str) -> Option<String> {
    let status =
        class.status.as_ref().and_then(|status| status.proxy.as_ref()?.http_address.as_ref()?.url.clone());
    status.or_else(|| {
        let proxy = class.spec.proxy.as_ref()?;
        let absolute = proxy.uri.as_ref().filter(|uri| uri.contains("://"));
        let service = proxy.ref_.as_ref().and_then(|service| {
            Some(format!("http://{}.{}.svc.{cluster_domain}", service.name, service.namespace.as_ref()?))
        });
        absolute.cloned().or(service)
    })
}
