//! What the caches hold of each kind: as little as is asked for, and of what others can make in our name next to
//! nothing.

use std::sync::Arc;

use connectors_api::item::{Item, MAX_CONNECTOR, size};
use connectors_api::{Connector, ConnectorClass, names};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Secret, Service, ServiceSpec};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::{Resource, ResourceExt};
use serde::Serialize;

/// JSON of a Service as we make it is a fifth of this.
const MAX_SERVICE: usize = 4 << 10;
/// A binding for a project names each of its namespaces, in a hundred bytes and more.
const MAX_BINDING: usize = 128 << 10;
/// Lists of ours are shorter, and compared as a whole: so much of a longer one shows that it is not as it should be.
const ENOUGH: usize = 3;

/// For kinds whose status is ours: also what cannot be read, or is too large to be kept.
pub fn connector(item: Item<Connector>) -> Option<Item<Connector>> {
    Some(item.bounded(MAX_CONNECTOR))
}

/// Who may write a class may do worse than make it large.
pub fn class(item: Item<ConnectorClass>) -> Option<Item<ConnectorClass>> {
    Some(item.bounded(usize::MAX))
}

/// Only what can be read.
pub fn readable<K: Resource<DynamicType = ()> + Clone>(item: Item<K>) -> Option<K> {
    Some(Arc::unwrap_or_clone(item.into_read().ok()?))
}

/// It grows with the names of Secrets in Connectors, which are in memory anyway, and is kept whole. No other Role of ours is asked for.
pub fn role(item: Item<Role>) -> Option<Role> {
    if item.name_any() != names::GATEWAY_SECRETS_ROLE {
        return None;
    }
    let Role { metadata, rules } = readable(item)?;
    Some(Role { metadata: own(metadata), rules })
}

/// One that names a Connector which it can be of: if that is not there, the API server soon collects it.
/// Whoever makes others in our name, or ours too large, costs us a question for each reconcile, not its memory.
pub fn service(item: Item<Service>) -> Option<Service> {
    let Service { metadata, spec, .. } = readable(item)?;
    let owner_references = metadata.owner_references.clone().filter(|owners| owners.len() <= ENOUGH);
    let metadata = ObjectMeta { owner_references, ..own(metadata) };
    let spec = spec.map(|ServiceSpec { type_, external_name, ports, .. }| {
        let ports = ports.map(|ports| ports.into_iter().take(ENOUGH).collect());
        ServiceSpec { type_, external_name, ports, ..ServiceSpec::default() }
    });
    let service = Service { metadata, spec, status: None };
    connector_of(&service)?;
    bounded(service, MAX_SERVICE)
}

/// Name of the Connector whose Service this says it is.
pub fn connector_of(service: &Service) -> Option<&str> {
    let is_connector =
        |kind: &str, version: &str| kind == Connector::kind(&()) && version == Connector::api_version(&());
    let owners = service.owner_references().iter();
    owners
        .filter(|owner| is_connector(&owner.kind, &owner.api_version))
        .find(|owner| names::service_name(&owner.name) == service.name_any())
        .map(|owner| owner.name.as_str())
}

/// The two that we make. That of the gateway has one subject.
pub fn binding(item: Item<RoleBinding>) -> Option<RoleBinding> {
    let subjects = match item.name_any().as_str() {
        names::GATEWAY_SECRETS_ROLE => ENOUGH,
        names::USER_ROLE => usize::MAX,
        _ => return None,
    };
    let mut binding = readable(item)?;
    binding.metadata = own(binding.metadata);
    binding.subjects = binding.subjects.map(|all| all.into_iter().take(subjects).collect());
    bounded(binding, MAX_BINDING)
}

/// Without what others put on it.
fn own(metadata: ObjectMeta) -> ObjectMeta {
    let labels = metadata.labels.unwrap_or_default();
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        labels: Some(labels.into_iter().filter(|(name, _)| name == names::MANAGED_BY_LABEL).collect()),
        ..ObjectMeta::default()
    }
}

fn bounded<K: Serialize>(object: K, most: usize) -> Option<K> {
    (size(&object) <= most).then_some(object)
}

/// Of a Secret only name and version stay: an annotation may hold its values, as kubectl's does. So one that is
/// too large to be read is as good as any.
pub fn without_credentials(item: Item<PartialObjectMeta<Secret>>) -> Option<PartialObjectMeta<Secret>> {
    let ObjectMeta { name, namespace, uid, resource_version, .. } = item.meta().clone();
    let metadata = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
    Some(PartialObjectMeta { metadata, ..PartialObjectMeta::default() })
}

/// Of a node: where it and its Pods are.
pub fn addresses_only(item: Item<Node>) -> Option<Node> {
    let Node { metadata, spec, status } = readable(item)?;
    let spec = spec.unwrap_or_default();
    Some(Node {
        metadata: ObjectMeta {
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec { pod_cidr: spec.pod_cidr, pod_cidrs: spec.pod_cidrs, ..NodeSpec::default() }),
        status: Some(NodeStatus { addresses: status.unwrap_or_default().addresses, ..NodeStatus::default() }),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service_of(edit: impl Fn(&mut Value)) -> Option<Service> {
        let mut service = json!({
            "metadata": {
                "name": "c-k8s", "namespace": "demo", "uid": "u", "resourceVersion": "7",
                "labels": {names::MANAGED_BY_LABEL: names::CONTROLLER},
                "ownerReferences": [owner("k8s")],
            },
            "spec": {
                "type": "ExternalName", "externalName": "connectors-gateway.connectors-system.svc.cluster.local",
                "ports": [{"port": 80}, {"port": 443}],
            },
        });
        edit(&mut service);
        super::service(Item::from(serde_json::from_value::<Service>(service).unwrap()))
    }

    fn owner(name: &str) -> Value {
        json!({"apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector", "name": name, "uid": "o"})
    }

    #[test]
    fn a_service_with_our_label_takes_little_memory_whatever_is_in_it() {
        let plain = service_of(|_| {}).unwrap();
        let stuffed = service_of(|service| {
            let many = || (0..500).map(|at| (format!("n{at}"), json!("x".repeat(50))));
            service["metadata"]["annotations"] = many().collect();
            service["metadata"]["labels"].as_object_mut().unwrap().extend(many());
            service["metadata"]["finalizers"] = (0..500).map(|at| format!("a.example/{at}")).collect();
            service["spec"]["ports"] = (1..500).map(|port| json!({"port": port})).collect();
            service["spec"]["externalIPs"] = (0..500).map(|_| "192.0.2.1").collect();
        })
        .unwrap();
        let ports = |service: &Service| service.spec.as_ref().unwrap().ports.as_ref().unwrap().len();
        assert_eq!((ports(&plain), ports(&stuffed)), (2, 3), "as many as it takes to be another list");
        assert_eq!(stuffed.metadata, plain.metadata);
        assert!(size(&stuffed) < 1 << 10, "{}", size(&stuffed));
    }

    #[test]
    fn a_service_that_cannot_be_ours_is_not_kept() {
        let none = |case: &str, edit: &dyn Fn(&mut Value)| assert_eq!(service_of(edit), None, "{case}");
        let owners = |owners: Value| {
            move |service: &mut Value| service["metadata"]["ownerReferences"] = owners.clone()
        };
        none("no owner", &owners(json!([])));
        none("of another Connector", &owners(json!([owner("other")])));
        none("many owners", &owners((0..500).map(|_| owner("k8s")).collect()));
        let mut unknown = owner("k8s");
        unknown["apiVersion"] = json!("connectors.alauda.io/v9");
        none("an owner that nobody can look up", &owners(json!([unknown])));
        let mut large = owner("k8s");
        large["uid"] = json!("x".repeat(MAX_SERVICE));
        none("a large owner", &owners(json!([large])));
        none("another name", &|service| service["metadata"]["name"] = json!("shop"));
        let also =
            owners(json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "a"}, owner("k8s")]));
        assert_eq!(
            service_of(also).unwrap().owner_references().len(),
            2,
            "what was added is seen and corrected"
        );
    }

    fn binding_of(name: &str, subjects: usize) -> Option<RoleBinding> {
        let subject = |at| json!({"kind": "Group", "name": format!("system:serviceaccounts:team-{at}")});
        let object = json!({
            "metadata": {"name": name, "namespace": "demo", "annotations": {"a": "x".repeat(100 << 10)}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": (0..subjects).map(subject).collect::<Value>(),
        });
        binding(Item::from(serde_json::from_value::<RoleBinding>(object).unwrap()))
    }

    #[test]
    fn of_bindings_with_our_label_only_ours_are_kept_and_not_more_than_they_need() {
        let subjects = |name, subjects| binding_of(name, subjects).map(|kept| kept.subjects.unwrap().len());
        assert_eq!(subjects("mine", 1), None);
        assert_eq!(subjects(names::GATEWAY_SECRETS_ROLE, 1), Some(1));
        assert_eq!(subjects(names::GATEWAY_SECRETS_ROLE, 5_000), Some(3));
        assert_eq!(subjects(names::USER_ROLE, 300), Some(300), "all namespaces of a project");
        assert_eq!(subjects(names::USER_ROLE, 5_000), None);
        let kept = binding_of(names::USER_ROLE, 1).unwrap();
        assert!(size(&kept) < 1 << 10, "{}", size(&kept));
    }
}
