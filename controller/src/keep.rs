//! Keeps an object of the cluster as it should be: made if missing, corrected if it drifted, never touched if
//! it is not ours. Used for Services, Roles and RoleBindings. Fields and labels that others add stay.

use std::fmt::Debug;
use std::sync::Arc;

use connectors_api::names;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{Error, in_time};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// As it should be, and was before.
    Ours,
    /// As it should be now.
    Written,
    /// An object of that name belongs to somebody else.
    Foreign,
}

/// Does it carry the label that we put on what we make?
pub fn is_labelled<K: ResourceExt>(object: &K) -> bool {
    object.labels().get(names::MANAGED_BY_LABEL).is_some_and(|by| by == names::CONTROLLER)
}

/// `cached` is what the watch last saw; a stale one fails with a conflict and is tried again.
pub async fn keep<K>(
    api: &Api<K>,
    cached: Option<Arc<K>>,
    desired: &K,
    ours: impl Fn(&K) -> bool,
) -> Result<Kept, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = desired.name_any();
    let live = match cached {
        Some(cached) => cached,
        None => match create(api, desired).await? {
            Created::New => return Ok(Kept::Written),
            // Not ours, or ours with the label taken off: the watch by label does not show either.
            Created::Exists => {
                Arc::new(in_time(api.get(&name)).await.attempt(|| describe::<K>("read", &name))?)
            }
        },
    };
    if !ours(&live) {
        return Ok(Kept::Foreign);
    }
    let mut wanted = serde_json::to_value(desired)?;
    if !holds(&serde_json::to_value(&*live)?, &wanted) {
        wanted["metadata"]["resourceVersion"] = json!(live.resource_version());
        let params = PatchParams { field_manager: Some(names::CONTROLLER.into()), ..PatchParams::default() };
        in_time(api.patch(&name, &params, &Patch::Merge(&wanted)))
            .await
            .attempt(|| describe::<K>("correct", &name))?;
        return Ok(Kept::Written);
    }
    Ok(Kept::Ours)
}

enum Created {
    New,
    Exists,
}

async fn create<K>(api: &Api<K>, desired: &K) -> Result<Created, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams { field_manager: Some(names::CONTROLLER.into()), ..PostParams::default() };
    let created = in_time(api.create(&params, desired)).await;
    match created.attempt(|| describe::<K>("create", &desired.name_any())) {
        Ok(_) => Ok(Created::New),
        Err(error) if error.is_already_exists() => Ok(Created::Exists),
        Err(error) => Err(error),
    }
}

/// Deletes exactly the object that was seen; gone already is fine.
pub async fn remove<K>(api: &Api<K>, seen: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let name = seen.name_any();
    let preconditions = Preconditions { uid: seen.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match in_time(api.delete(&name, &params)).await.attempt(|| describe::<K>("delete", &name)) {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

fn describe<K: Resource<DynamicType = ()>>(verb: &str, name: &str) -> String {
    format!("{verb} {} {name:?}", K::kind(&()))
}

/// Does the live object have everything that is wanted? Lists are compared as a whole, other fields may be
/// there besides.
pub fn holds(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| live.get(key).is_some_and(|live| holds(live, wanted)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| holds(live, wanted))
        }
        _ => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_of_others_are_no_drift_but_a_missing_or_changed_field_is() {
        let wanted = json!({"labels": {"a": "1"}, "ports": [{"port": 80}, {"port": 443}]});
        for (live, holds_) in [
            (
                json!({"labels": {"a": "1", "b": "2"}, "ports": [{"port": 80, "protocol": "TCP"}, {"port": 443}], "x": 1}),
                true,
            ),
            (json!({"labels": {}, "ports": [{"port": 80}, {"port": 443}]}), false),
            (json!({"labels": {"a": "2"}, "ports": [{"port": 80}, {"port": 443}]}), false),
            (json!({"labels": {"a": "1"}, "ports": [{"port": 80}]}), false),
            (json!({"labels": {"a": "1"}, "ports": [{"port": 80}, {"port": 443}, {"port": 22}]}), false),
        ] {
            assert_eq!(holds(&live, &wanted), holds_, "{live}");
        }
    }
}
