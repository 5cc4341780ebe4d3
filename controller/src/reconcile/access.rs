//! After the Service, before the probe: who may use the Connectors of a namespace, by one RoleBinding to ClusterRole
//! connectors-user. A namespace's own ServiceAccounts; everybody's in kube-public; a project's in the inner
//! namespace of that project. Each kind is a setting.

use std::collections::BTreeSet;

use connectors_api::names;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::role::{keep_binding, labelled, role_ref};
use crate::context::Context;
use crate::error::Error;
use crate::keep;
use crate::settings::Settings;

const PUBLIC_NAMESPACE: &str = "kube-public";
const RBAC: &str = "rbac.authorization.k8s.io";
/// Group of all ServiceAccounts; with `:<namespace>` behind it, of that namespace's.
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// `used`: is there a Connector? Asked once nobody else writes, since it may have changed until then.
pub async fn keep(context: &Context, namespace: &str, used: impl FnOnce() -> bool) -> Result<(), Error> {
    let _one_at_a_time = context.lock(namespace).await;
    let bindings: Api<RoleBinding> = Api::namespaced(context.client.clone(), namespace);
    let binding = context.stores.bindings.get(&ObjectRef::new(names::USER_ROLE).within(namespace));
    let groups = match used() {
        false => BTreeSet::new(),
        true => groups(
            namespace,
            inner_of(context, namespace).map(|project| members(context, &project)),
            &context.settings,
        ),
    };
    match binding {
        Some(binding) if groups.is_empty() => keep::remove(&bindings, &*binding).await,
        None if groups.is_empty() => Ok(()),
        binding => keep_binding(context, &bindings, binding, &desired(namespace, groups)).await,
    }
}

/// `project`: names of the project's namespaces, if this is a project's inner namespace.
fn groups(namespace: &str, project: Option<Vec<String>>, settings: &Settings) -> BTreeSet<String> {
    let own = || format!("{SERVICE_ACCOUNTS}:{namespace}");
    let mut groups = BTreeSet::new();
    if settings.bind_namespace {
        groups.insert(own());
    }
    if settings.bind_public && namespace == PUBLIC_NAMESPACE {
        groups.insert(SERVICE_ACCOUNTS.into());
    }
    if let Some(members) = project.filter(|_| settings.bind_project) {
        groups.insert(own());
        groups.extend(members.iter().map(|member| format!("{SERVICE_ACCOUNTS}:{member}")));
    }
    groups
}

fn inner_of(context: &Context, namespace: &str) -> Option<String> {
    let namespace = context.stores.namespaces.get(&ObjectRef::new(namespace))?;
    namespace.labels().get(names::INNER_NAMESPACE_LABEL).filter(|project| !project.is_empty()).cloned()
}

fn members(context: &Context, project: &str) -> Vec<String> {
    let of_project = |namespace: &PartialObjectMeta<Namespace>| {
        namespace.labels().get(names::PROJECT_LABEL).is_some_and(|of| of == project)
    };
    context.stores.namespaces.state_filter(of_project).iter().map(|namespace| namespace.name_any()).collect()
}

fn desired(namespace: &str, groups: BTreeSet<String>) -> RoleBinding {
    let subject =
        |name| Subject { kind: "Group".into(), api_group: Some(RBAC.into()), name, namespace: None };
    RoleBinding {
        metadata: labelled(names::USER_ROLE, namespace),
        role_ref: role_ref("ClusterRole", names::USER_ROLE),
        subjects: Some(groups.into_iter().map(subject).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn each_scope_binds_its_groups_and_each_can_be_switched_off() {
        let project = || Some(vec!["team-a".to_owned(), "team-b".to_owned()]);
        for (namespace, project, off, expected) in [
            ("demo", None, "", vec!["system:serviceaccounts:demo"]),
            ("demo", None, "--bind-namespace=false", vec![]),
            ("kube-public", None, "", vec!["system:serviceaccounts", "system:serviceaccounts:kube-public"]),
            ("kube-public", None, "--bind-public=false", vec!["system:serviceaccounts:kube-public"]),
            (
                "inner",
                project(),
                "",
                vec![
                    "system:serviceaccounts:inner",
                    "system:serviceaccounts:team-a",
                    "system:serviceaccounts:team-b",
                ],
            ),
            ("inner", project(), "--bind-project=false", vec!["system:serviceaccounts:inner"]),
        ] {
            let settings = Settings::parse_from(
                ["controller"].into_iter().chain(Some(off).filter(|off| !off.is_empty())),
            );
            let groups = groups(namespace, project, &settings);
            assert_eq!(groups.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{namespace} {off}");
        }
    }
}
