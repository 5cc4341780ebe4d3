//! Before the probe: the gateway may read exactly the Secrets that this namespace's Connectors name, by one
//! Role and its binding. Gone with the last Connector.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use connectors_api::{Connector, names};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::ObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::secret_names;
use crate::context::Context;
use crate::error::Error;
use crate::foreign::{SECRETS_BINDING, SECRETS_ROLE, USERS_BINDING};
use crate::keep::{self, Kept};

/// Some ten thousand names. A Role of 512 KiB would no longer be read, and etcd takes none of 1.5 MiB.
const MAX_BYTES: usize = 384 << 10;
const RBAC: &str = "rbac.authorization.k8s.io";

/// For one Connector: written only if its names are not all there. Names that nobody needs any more are taken
/// out by the walk of the namespace, once for all who changed.
pub async fn cover(context: &Context, connector: &Connector) -> Result<(), Error> {
    let namespace = connector.namespace().unwrap_or_default();
    let covered = || {
        let names =
            secret_names(connector).into_iter().filter(|name| is_grantable(context, &namespace, name));
        has_names(context, &namespace, names)
            || context.unseen_roles.is_one(&*namespace)
            || context.foreign.is_one(SECRETS_ROLE, &namespace)
    };
    if covered() {
        return Ok(());
    }
    let _one_at_a_time = context.lock(&namespace).await;
    // Whoever was before us wrote the names of all.
    if covered() {
        return Ok(());
    }
    write(context, &namespace).await.map(drop)
}

/// For a namespace: exactly the names of its Connectors.
pub async fn keep(context: &Context, namespace: &str) -> Result<(), Error> {
    let _one_at_a_time = context.lock(namespace).await;
    let left_out = write(context, namespace).await?;
    if left_out > 0 && !context.full_roles.is_one(namespace) {
        context.full_roles.add(namespace.to_owned());
        tracing::warn!(
            namespace,
            "the gateway may not read {left_out} of the Secrets that Connectors name: a Role takes no more, delete Connectors"
        );
    }
    Ok(())
}

/// How many names there is no room for.
async fn write(context: &Context, namespace: &str) -> Result<usize, Error> {
    let (secrets, left_out) = granted(context, namespace);
    let roles: Api<Role> = Api::namespaced(context.client.clone(), namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(context.client.clone(), namespace);
    let name = ObjectRef::new(names::GATEWAY_SECRETS_ROLE).within(namespace);
    let role = context.stores.roles.get(&name);
    let binding = context.stores.bindings.get(&binding_of(namespace));
    if secrets.is_empty() {
        if let Some(binding) = binding {
            keep::remove(&bindings, &*binding).await?;
        }
        if let Some(role) = role {
            keep::remove(&roles, &*role).await?;
        }
        return Ok(0);
    }
    // The cache never shows it: each change of the namespace would ask the API server for it.
    if role.is_none() && context.foreign.is_one(SECRETS_ROLE, namespace) {
        return Ok(left_out);
    }
    let desired = desired_role(namespace, secrets);
    // By JSON, as `keep` compares, a thousand names take their time, and all others' walks wait for it.
    if role.as_ref().is_none_or(|role| role.rules != desired.rules) {
        let kept = keep::keep(&roles, role, &desired, keep::is_labelled).await?;
        match kept {
            Kept::Written => until_seen(context, &name, &desired).await,
            Kept::Ours => context.unseen_roles.add(namespace.to_owned()),
            Kept::Foreign => {
                context.foreign.add(SECRETS_ROLE, namespace);
                return Ok(left_out);
            }
        }
    }
    keep_binding(context, &bindings, binding, &desired_binding(namespace, &context.settings.namespace))
        .await?;
    Ok(left_out)
}

/// The watch is some milliseconds behind. Whoever comes next must see what was written, or would write it
/// again, against an old version.
async fn until_seen(context: &Context, name: &ObjectRef<Role>, written: &Role) {
    let seen = async {
        while context.stores.roles.get(name).is_none_or(|role| role.rules != written.rules) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // One that the cache does not keep is never seen.
    drop(tokio::time::timeout(Duration::from_millis(500), seen).await);
}

fn binding_of(namespace: &str) -> ObjectRef<RoleBinding> {
    ObjectRef::new(names::GATEWAY_SECRETS_ROLE).within(namespace)
}

/// Are these among the names that the gateway may read? Ours are sorted: others' are put right by the walk of
/// the namespace.
fn has_names<'a>(context: &Context, namespace: &str, mut names: impl Iterator<Item = &'a str>) -> bool {
    let stores = &context.stores;
    let role = stores.roles.get(&ObjectRef::new(names::GATEWAY_SECRETS_ROLE).within(namespace));
    let there = names_in(role.as_deref());
    let is_foreign = || context.foreign.is_one(SECRETS_BINDING, namespace);
    let bound = stores.bindings.get(&binding_of(namespace)).is_some() || is_foreign();
    let is_full = |name: &str| there.iter().map(|name| bytes(name)).sum::<usize>() + bytes(name) > MAX_BYTES;
    // Who finds no room must not look at all Connectors at each of its walks. That of the namespace fills up.
    names.all(|name| bound && (is_in(there, name) || is_full(name)))
}

fn names_in(role: Option<&Role>) -> &[String] {
    let rule = role.and_then(|role| role.rules.as_ref()?.first());
    rule.and_then(|rule| rule.resource_names.as_deref()).unwrap_or_default()
}

fn is_in(sorted: &[String], name: &str) -> bool {
    sorted.binary_search_by(|there| there.as_str().cmp(name)).is_ok()
}

/// Of a name in JSON, with quotes and comma.
fn bytes(name: &str) -> usize {
    name.len() + 3
}

/// Names for the Role, and the number of those that it has no room for.
fn granted(context: &Context, namespace: &str) -> (BTreeSet<String>, usize) {
    let connectors = context.stores.connectors_in(namespace);
    let named = connectors.iter().flat_map(|connector| secret_names(connector));
    let names: BTreeSet<_> = named.filter(|name| is_grantable(context, namespace, name)).collect();
    let role = context.stores.roles.get(&ObjectRef::new(names::GATEWAY_SECRETS_ROLE).within(namespace));
    let fitting = fitting(&names, names_in(role.as_deref()));
    let left_out = names.len() - fitting.len();
    (fitting, left_out)
}

/// Those that are in it already come first: no new name takes away one that is in use.
fn fitting(names: &BTreeSet<&str>, there: &[String]) -> BTreeSet<String> {
    let (used, new): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| is_in(there, name));
    let mut left = MAX_BYTES;
    let fits = |name: &&str| match left.checked_sub(bytes(name)) {
        Some(less) => {
            left = less;
            true
        }
        None => false,
    };
    used.into_iter().chain(new).filter(fits).map(Into::into).collect()
}

/// The connector CA is no tool's credential: naming it in a Connector of our own namespace must not hand it
/// to the gateway.
fn is_grantable(context: &Context, namespace: &str, name: &str) -> bool {
    namespace != context.settings.namespace
        || ![names::ROOT_CA_SECRET, names::ISSUING_CA_SECRET].contains(&name)
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
    context: &Context,
    api: &Api<RoleBinding>,
    mut cached: Option<Arc<RoleBinding>>,
    desired: &RoleBinding,
) -> Result<(), Error> {
    let namespace = desired.namespace().unwrap_or_default();
    let ours = if desired.name_any() == names::USER_ROLE { USERS_BINDING } else { SECRETS_BINDING };
    if cached.is_none() && context.foreign.is_one(ours, &namespace) {
        return Ok(());
    }
    if let Some(wrong) = cached.take_if(|binding| binding.role_ref != desired.role_ref) {
        keep::remove(api, &*wrong).await?;
    }
    if keep::keep(api, cached, desired, keep::is_labelled).await? == Kept::Foreign {
        context.foreign.add(ours, &namespace);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_takes_names_as_long_as_it_can_be_written_and_read() {
        let names: Vec<_> = (0..5_000).map(|at| format!("s{at:04}{}", "x".repeat(245))).collect();
        let names: BTreeSet<_> = names.iter().map(String::as_str).collect();
        let role = desired_role("demo", fitting(&names, &[]));
        let bytes = connectors_api::item::size(&role);
        assert!((300 << 10..450 << 10).contains(&bytes), "{bytes}");
        let few = names.iter().copied().take(900).collect();
        assert_eq!(fitting(&few, &[]).len(), 900);
    }

    #[test]
    fn new_names_take_none_out_that_are_there_however_early_they_come() {
        let named = |letter: char| move |at: usize| format!("{letter}{at:04}{}", "x".repeat(245));
        let there: Vec<_> = (0..1_500).map(named('s')).collect();
        let new: Vec<_> = (0..5_000).map(named('a')).collect();
        let names = there.iter().chain(&new).map(String::as_str).collect();
        let fitting = fitting(&names, &there);
        assert!(there.iter().all(|name| fitting.contains(name)));
        assert!(fitting.len() > there.len(), "what is left is for the new ones");
    }
}
