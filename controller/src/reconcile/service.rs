//! The Service by which clients in the cluster find a Connector's proxy: ExternalName to the gateway. Sets
//! ProxyServiceReady and the proxy's address. A Service of that name that is not the Connector's is never
//! touched, and its name never published as a proxy.

use connectors_api::conditions::{self, reason};
use connectors_api::connector::Addressable;
use connectors_api::{Connector, ConnectorClass, names};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};

use super::role::labelled;
use crate::class_status;
use crate::context::Context;
use crate::error::Error;
use crate::keep::{self, Kept};
use crate::settings::Settings;
use crate::status::{Findings, no, unknown, yes};

const HTTP: i32 = 80;
const HTTPS: i32 = 443;

pub async fn keep(
    context: &Context,
    connector: &Connector,
    class: &ConnectorClass,
    findings: &mut Findings,
) -> Result<(), Error> {
    let namespace = connector.namespace().unwrap_or_default();
    let name = names::service_name(&connector.name_any());
    let services: Api<Service> = Api::namespaced(context.client.clone(), &namespace);
    let cached = context.stores.services.get(&ObjectRef::new(&name).within(&namespace));
    if !class_status::has_proxy(class) {
        findings.service = yes(reason::NON_PROXY, "");
        findings.proxy = None;
        return match cached.filter(|service| belongs_to(&**service, connector)) {
            Some(service) => keep::remove(&services, &*service).await,
            None => Ok(()),
        };
    }
    match keep::keep(&services, cached, &desired(connector, &context.settings), |service| {
        belongs_to(service, connector)
    })
    .await
    {
        Ok(Kept::Ours | Kept::Written) => {
            findings.service = proxy_of(class);
            findings.proxy = Some(address(context, connector, class));
            Ok(())
        }
        Ok(Kept::Foreign) => {
            let message = format!(
                "Service {name:?} exists in namespace {namespace:?} and is not this Connector's: remove it or rename the Connector"
            );
            findings.service = no(reason::NAME_TAKEN, message);
            findings.proxy = None;
            Ok(())
        }
        Err(error) => {
            findings.service = unknown(reason::NOT_CHECKED, error.to_string());
            Err(error)
        }
    }
}

/// As the class's own status has it: the proxy that it names may be missing.
fn proxy_of(class: &ConnectorClass) -> connectors_api::probe::Outcome {
    let conditions = class.status.iter().flat_map(|status| &status.conditions);
    match conditions
        .into_iter()
        .find(|condition| condition.type_ == conditions::PROXY_READY && condition.status == "False")
    {
        Some(condition) => {
            no(condition.reason.as_deref().unwrap_or_default(), condition.message.clone().unwrap_or_default())
        }
        None => yes("", ""),
    }
}

/// Ours by owner. One left over by an earlier Connector of the same name (not collected yet) is taken over.
pub fn belongs_to<K: ResourceExt>(object: &K, connector: &Connector) -> bool {
    let owners = object.owner_references();
    let same = |name: &str, kind: &str| name == connector.name_any() && kind == Connector::kind(&());
    let owned = owners.iter().any(|owner| Some(&owner.uid) == connector.metadata.uid.as_ref());
    owned || (keep::is_labelled(object) && owners.iter().any(|owner| same(&owner.name, &owner.kind)))
}

/// Whether nothing needs to be written.
pub fn is_as_desired(live: &Service, connector: &Connector, settings: &Settings) -> bool {
    let json = |service: &Service| serde_json::to_value(service).unwrap_or_default();
    keep::holds(&json(live), &json(&desired(connector, settings)))
}

fn desired(connector: &Connector, settings: &Settings) -> Service {
    let namespace = connector.namespace().unwrap_or_default();
    let mut metadata = labelled(&names::service_name(&connector.name_any()), &namespace);
    metadata.owner_references = connector.controller_owner_ref(&()).map(|owner| vec![owner]);
    let port = |name: &str, port| ServicePort {
        name: Some(name.into()),
        port,
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::Int(port)),
        ..ServicePort::default()
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("ExternalName".into()),
            external_name: Some(format!(
                "{}.{}.svc.{}",
                names::GATEWAY,
                settings.namespace,
                settings.cluster_domain
            )),
            ports: Some(vec![port("http", HTTP), port("https", HTTPS)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The published schema has one address: that of the proxy. By https the same host answers on port 443.
fn address(context: &Context, connector: &Connector, class: &ConnectorClass) -> Addressable {
    Addressable {
        name: None,
        url: Some(url(connector, class, &context.settings.cluster_domain)),
        audience: Some(names::AUDIENCE.into()),
        ca_certs: context.ca_bundle(),
    }
}

fn url(connector: &Connector, class: &ConnectorClass, domain: &str) -> String {
    let (name, namespace) = (connector.name_any(), connector.namespace().unwrap_or_default());
    let url = format!("http://{}", names::proxy_host(&name, &namespace, domain));
    match class.annotations().get(names::RESOLVER_ANNOTATION).map(String::as_str) {
        Some("path") => format!("{url}/namespaces/{namespace}/connectors/{name}"),
        _ => url,
    }
}
