//! Which Connectors are in a namespace: what concerns one namespace must not cost a look at those of all others,
//! or whoever writes many Secrets anywhere takes the time of everybody.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use kube::{Resource, ResourceExt};

/// Names by namespace.
#[derive(Clone, Default)]
pub struct ByNamespace(Arc<RwLock<HashMap<String, BTreeSet<String>>>>);

impl ByNamespace {
    /// Also one that is known.
    pub fn add<K: Resource>(&self, object: &K) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(object.namespace().unwrap_or_default()).or_default().insert(object.name_any());
    }

    pub fn remove<K: Resource>(&self, object: &K) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let namespace = object.namespace().unwrap_or_default();
        let Some(names) = all.get_mut(&namespace) else { return };
        names.remove(&object.name_any());
        if names.is_empty() {
            all.remove(&namespace);
        }
    }

    pub fn names(&self, namespace: &str) -> Vec<String> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(namespace).into_iter().flatten().cloned().collect()
    }
}
