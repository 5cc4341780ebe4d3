//! Before the probe: the gateway may read exactly the Secrets that this namespace's Connectors name, by one
//! Role and its binding. Gone with the last Connector.

use std::collections::BTreeSet;
use std::sync::Arc;

use connectors_api::names;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::Api;
use kube::api::ObjectMeta;
use kube::runtime::reflector::ObjectRef;

use super::secret_names;
use crate::context::Context;
use crate::error::Error;
use crate::keep::{self, Kept};

const RBAC: &str = "rbac.authorization.k8s.io";

pub async fn keep(context: &Context, namespace: &str) -> Result<(), Error> {
    let _one_at_a_time = context.lock(namespace).await;
    let secrets = granted(context, namespace);
    let roles: Api<Role> = Api::namespaced(context.client.clone(), namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(context.client.clone(), namespace);
    let role = context.stores.roles.get(&ObjectRef::new(names::GATEWAY_SECRETS_ROLE).within(namespace));
    let binding = context.stores.bindings.get(&ObjectRef::new(names::GATEWAY_SECRETS_ROLE).within(namespace));
    if secrets.is_empty() {
        if let Some(binding) = binding {
            keep::remove(&bindings, &*binding).await?;
        }
        return match role {
            Some(role) => keep::remove(&roles, &*role).await,
            None => Ok(()),
        };
    }
    if keep::keep(&roles, role, &desired_role(namespace, secrets), keep::is_labelled).await? == Kept::Foreign
    {
        warn_of_foreign("Role", namespace, names::GATEWAY_SECRETS_ROLE);
        return Ok(());
    }
    keep_binding(&bindings, binding, &desired_binding(namespace, &context.settings.namespace)).await
}

/// The connector CA is no tool's credential: naming it in a Connector of our own namespace must not hand it
/// to the gateway.
fn granted(context: &Context, namespace: &str) -> BTreeSet<String> {
    let own = namespace == context.settings.namespace;
    let connectors = context.stores.connectors_in(namespace);
    let named = connectors.iter().flat_map(|connector| secret_names(connector));
    named
        .filter(|name| !own || ![names::ROOT_CA_SECRET, names::ISSUING_CA_SECRET].contains(name))
        .map(Into::into)
        .collect()
}

fn desired_role(namespace: &str, secrets: BTreeSet<String>) -> Role {
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["secrets".into()]),
        resource_names: Some(secrets.into_iter().collect()),
        verbs: vec!["get".into()],
        ..PolicyRule::default()
    };
    Role { metadata: labelled(names::GATEWAY_SECRETS_ROLE, namespace), rules: Some(vec![rule]) }
}

fn desired_binding(namespace: &str, system: &str) -> RoleBinding {
    let gateway = Subject {
        kind: "ServiceAccount".into(),
        name: names::GATEWAY.into(),
        namespace: Some(system.into()),
        api_group: None,
    };
    RoleBinding {
        metadata: labelled(names::GATEWAY_SECRETS_ROLE, namespace),
        role_ref: role_ref("Role", names::GATEWAY_SECRETS_ROLE),
        subjects: Some(vec![gateway]),
    }
}

pub fn labelled(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.into()),
        labels: Some([(names::MANAGED_BY_LABEL.to_owned(), names::CONTROLLER.to_owned())].into()),
        ..ObjectMeta::default()
    }
}

pub fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: Some(RBAC.into()), kind: kind.into(), name: name.into() }
}

/// As `keep::keep`; but a binding's role cannot be changed, so one that binds another role is made anew.
pub async fn keep_binding(
    api: &Api<RoleBinding>,
    mut cached: Option<Arc<RoleBinding>>,
    desired: &RoleBinding,
) -> Result<(), Error> {
    if let Some(wrong) = cached.take_if(|binding| binding.role_ref != desired.role_ref) {
        keep::remove(api, &*wrong).await?;
    }
    if keep::keep(api, cached, desired, keep::is_labelled).await? == Kept::Foreign {
        let namespace = desired.metadata.namespace.as_deref().unwrap_or_default();
        warn_of_foreign("RoleBinding", namespace, desired.metadata.name.as_deref().unwrap_or_default());
    }
    Ok(())
}

fn warn_of_foreign(kind: &str, namespace: &str, name: &str) {
    tracing::warn!(
        namespace,
        "{kind} {name:?} was not made by {} and is left as it is: remove it, or label it",
        names::CONTROLLER
    );
}
