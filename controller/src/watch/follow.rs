//! Follows one kind: keeps its cache and tells what changed, also what changed while the watch was
//! interrupted. Each object is read by itself.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;

use connectors_api::item::Item;
use connectors_api::watch_health::explain;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::metrics::Metrics;

/// One kind of objects, and what is kept of each.
pub struct Follow<K: Resource<DynamicType = ()> + Clone, S: Resource<DynamicType = ()> + Clone + 'static> {
    pub api: Api<Item<K>>,
    pub config: watcher::Config,
    pub writer: Writer<S>,
    /// None: as if it did not exist.
    pub keep: fn(Item<K>) -> Option<S>,
    pub metrics: Arc<Metrics>,
}

impl<K, S> Follow<K, S>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    S: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    /// `changed(old, new)` is called after the cache shows the change. The first listing is silent: `watch`
    /// asks for all objects itself.
    pub async fn run(mut self, changed: impl Fn(Option<&S>, Option<&S>) + Send + 'static) {
        let kind = K::kind(&());
        let store = self.writer.as_reader();
        let mut listed = false;
        let mut events = pin!(watcher::watcher(self.api.clone(), self.config.clone()).default_backoff());
        while let Some(event) = events.next().await {
            // However many there are: all that the leader does is one task, and others' walks come to their turn.
            tokio::task::yield_now().await;
            match event {
                Ok(event) => {
                    self.metrics.watched.health.works(&kind);
                    let Some(event) = self.kept(event, &store) else { continue };
                    listed = advance(event, &mut self.writer, &store, listed, &changed);
                }
                Err(error) => {
                    let error = explain::<K>(&error);
                    tracing::warn!(%kind, "watch interrupted: {error}");
                    self.metrics.watched.failed(&kind, error);
                }
            }
        }
    }

    /// The event of what is kept: an object that is no longer kept is as good as deleted.
    fn kept(&self, event: Event<Item<K>>, store: &Store<S>) -> Option<Event<S>> {
        match event {
            Event::Apply(item) => {
                let name = self.name(&item);
                self.keep(item)
                    .map(Event::Apply)
                    .or_else(|| store.get(&name).map(|gone| Event::Delete(Arc::unwrap_or_clone(gone))))
            }
            Event::Delete(item) => {
                store.get(&self.name(&item)).map(|gone| Event::Delete(Arc::unwrap_or_clone(gone)))
            }
            Event::InitApply(item) => self.keep(item).map(Event::InitApply),
            Event::Init => Some(Event::Init),
            Event::InitDone => Some(Event::InitDone),
        }
    }

    fn keep(&self, item: Item<K>) -> Option<S> {
        let kind = K::kind(&());
        // Of a Secret nothing is kept that cannot always be read.
        if let Err(unreadable) = item.read()
            && kind != Secret::kind(&())
        {
            let (name, namespace) = (&unreadable.metadata.name, &unreadable.metadata.namespace);
            tracing::warn!(%kind, ?namespace, ?name, error = unreadable.error, "an object cannot be read");
            self.metrics.watched.unreadable_objects.with_label_values(&[&kind]).inc();
        }
        (self.keep)(item)
    }

    fn name(&self, item: &Item<K>) -> ObjectRef<S> {
        let name = ObjectRef::new(&item.name_any());
        item.namespace().map_or_else(|| name.clone(), |namespace| name.clone().within(&namespace))
    }
}

fn advance<K>(
    event: Event<K>,
    writer: &mut Writer<K>,
    store: &Store<K>,
    listed: bool,
    changed: &impl Fn(Option<&K>, Option<&K>),
) -> bool
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    match &event {
        Event::Apply(new) => {
            let old = store.get(&ObjectRef::from_obj(new));
            writer.apply_watcher_event(&event);
            changed(old.as_deref(), Some(new));
        }
        Event::Delete(old) => {
            writer.apply_watcher_event(&event);
            changed(Some(old), None);
        }
        Event::Init | Event::InitApply(_) => writer.apply_watcher_event(&event),
        Event::InitDone => {
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
