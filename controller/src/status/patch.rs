//! The one place that writes a status: a merge patch of what differs, guarded by the version that the walk
//! started from.

use std::fmt::Debug;

use connectors_api::item::Item;
use connectors_api::names;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::error::{Error, in_time};

/// Patches `object`'s status to `status`. The resourceVersion makes a walk that began from a stale copy fail:
/// a pin or credential version that the copy does not show yet must not be overwritten by a second "first
/// contact".
pub async fn write<K, S>(
    context: &Context,
    api: &Api<Item<K>>,
    kind: &str,
    object: &K,
    status: &S,
) -> Result<Item<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    S: Serialize,
{
    let live = serde_json::to_value(object)?.get_mut("status").map(Value::take).unwrap_or_default();
    let patch = json!({
        "metadata": {"resourceVersion": object.resource_version()},
        "status": difference(&live, &serde_json::to_value(status)?),
    });
    let name = object.name_any();
    let params = PatchParams { field_manager: Some(names::CONTROLLER.into()), ..PatchParams::default() };
    let patch = Patch::Merge(&patch);
    let namespace = object.namespace().unwrap_or_default();
    // Who has one has it for as long as a call may last: to wait for it ends, and is nobody's silence.
    let _place = context.patches.take(&namespace).await;
    let written = in_time(api.patch_status(&name, &params, &patch)).await;
    let written = written.attempt(|| format!("write the status of {kind} {name:?}"))?;
    context.metrics.walks.status_patches.with_label_values(&[kind]).inc();
    Ok(written)
}

/// JSON merge patch (RFC 7386) that turns `old` into `new`.
fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    let changed =
        changed.map(|(key, value)| (key.clone(), difference(old.get(key).unwrap_or(&Value::Null), value)));
    Value::Object(gone.chain(changed).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_holds_what_differs_and_removes_what_is_gone() {
        for (old, new, patch) in [
            (json!(null), json!({"a": 1}), json!({"a": 1})),
            (
                json!({"a": 1, "b": {"c": 1, "d": 2}}),
                json!({"a": 1, "b": {"c": 3}}),
                json!({"b": {"c": 3, "d": null}}),
            ),
            (json!({"credential": {"v": "1"}}), json!({}), json!({"credential": null})),
            (json!({"list": [1, 2]}), json!({"list": [2]}), json!({"list": [2]})),
            (json!({"a": 1}), json!({"a": 1}), json!({})),
        ] {
            assert_eq!(difference(&old, &new), patch, "{old} to {new}");
        }
    }
}
