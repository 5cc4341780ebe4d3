//! Follows one kind: keeps its cache and tells what changed, also what changed while the watch was interrupted.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// Holds a copy of the whole object as it was applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// `changed(old, new)` is called after the cache shows the change. The first listing is silent: `watch` asks for all objects itself.
pub async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    mut writer: Writer<K>,
    trim: impl Fn(&mut K) + Send + 'static,
    changed: impl Fn(Option<&K>, Option<&K>) + Send + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let store = writer.as_reader();
    let mut listed = false;
    let mut events = pin!(watcher::watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => listed = advance(event.modify(&trim), &mut writer, &store, listed, &changed),
            Err(error) => tracing::warn!(kind = %K::kind(&()), "watch interrupted: {error}"),
        }
    }
}

fn advance<K>(
    event: watcher::Event<K>,
    writer: &mut Writer<K>,
    store: &Store<K>,
    listed: bool,
    changed: &impl Fn(Option<&K>, Option<&K>),
) -> bool
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    match &event {
        watcher::Event::Apply(new) => {
            let old = store.get(&ObjectRef::from_obj(new));
            writer.apply_watcher_event(&event);
            changed(old.as_deref(), Some(new));
        }
        watcher::Event::Delete(old) => {
            writer.apply_watcher_event(&event);
            changed(Some(old), None);
        }
        watcher::Event::Init | watcher::Event::InitApply(_) => writer.apply_watcher_event(&event),
        watcher::Event::InitDone => {
            let before = by_name(store);
            writer.apply_watcher_event(&event);
            if listed {
                tell_differences(before, &by_name(store), changed);
            }
            return true;
        }
    }
    listed
}

type ByName<K> = HashMap<ObjectRef<K>, Arc<K>>;

fn by_name<K: Resource<DynamicType = ()> + Clone + 'static>(store: &Store<K>) -> ByName<K>
where
    ObjectRef<K>: Hash + Eq,
{
    store.state().into_iter().map(|object| (ObjectRef::from_obj(&*object), object)).collect()
}

/// After an interrupted watch nobody reports the deletions: they are what is no longer listed.
fn tell_differences<K: Resource<DynamicType = ()>>(
    mut before: ByName<K>,
    after: &ByName<K>,
    changed: &impl Fn(Option<&K>, Option<&K>),
) {
    for (name, new) in after {
        let old = before.remove(name);
        if old.as_ref().is_none_or(|old| old.resource_version() != new.resource_version()) {
            changed(old.as_deref(), Some(new));
        }
    }
    for gone in before.values() {
        changed(Some(gone), None);
    }
}

/// What nobody here reads.
pub fn drop_noise<K: ResourceExt>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove(LAST_APPLIED);
}

/// Of a Secret only name and version stay: an annotation may hold its values, as kubectl's does.
pub fn drop_credentials<K: Resource>(object: &mut K) {
    let meta = object.meta_mut();
    meta.annotations = None;
    meta.labels = None;
    meta.managed_fields = None;
}
