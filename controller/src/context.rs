//! What every reconcile shares: the API server, caches of what was watched, the gateway's ear, and when to
//! look again.

mod by_namespace;

use std::sync::Arc;

use connectors_api::item::Item;
use connectors_api::places::{Place, Places};
use connectors_api::{Connector, ConnectorClass, names};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret, Service};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource};
use tokio::sync::Semaphore;

use by_namespace::ByNamespace;

use crate::events::Allowance;
use crate::foreign::Foreign;
use crate::lately::Lately;
use crate::metrics::Metrics;
use crate::prober::Prober;
use crate::reconcile::{ca_cert, class, secret};
use crate::schedule::Schedule;
use crate::settings::Settings;

/// Some milliseconds each.
const PATCHES: usize = 16;
const PATCHES_OF_ONE_NAMESPACE: usize = 2;

pub struct Context {
    pub client: Client,
    pub settings: Arc<Settings>,
    pub stores: Stores,
    pub prober: Arc<dyn Prober>,
    pub events: Allowance,
    pub metrics: Arc<Metrics>,
    pub schedule: Schedule,
    /// Whose Role the cache does not show, for others made it too large. Each walk would ask the API server for it.
    pub unseen_roles: Lately<String>,
    /// Whose Role has no room for more names: each walk would say so.
    pub full_roles: Lately<String>,
    pub foreign: Foreign,
    pub reader: secret::Reader,
    pub ca_verdicts: ca_cert::Verdicts,
    pub checked_classes: class::Checked,
    /// For writes of a status: the answer is the whole object, which its owner makes as large as etcd takes it.
    pub patches: Places,
    locks: Places,
}

/// Caches kept by `watch`. Connectors and classes also as what cannot be read, since their status must say
/// so. Secrets and namespaces: metadata only, so that no credential is ever held. Services, Roles and
/// RoleBindings: only what we may have made.
#[derive(Clone)]
pub struct Stores {
    pub connectors: Store<Item<Connector>>,
    /// Of these. Complete from the moment when all are asked for.
    pub by_namespace: ByNamespace,
    pub classes: Store<Item<ConnectorClass>>,
    pub secrets: Store<PartialObjectMeta<Secret>>,
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    pub services: Store<Service>,
    pub roles: Store<Role>,
    pub bindings: Store<RoleBinding>,
    pub nodes: Store<Node>,
    /// Of our own namespace, the bundle of the connector CA alone.
    pub bundles: Store<ConfigMap>,
}

impl Stores {
    /// All of a namespace, and no look at those of others.
    pub fn items_in(&self, namespace: &str) -> impl Iterator<Item = Arc<Item<Connector>>> {
        let names = self.by_namespace.names(namespace).into_iter();
        names.filter_map(move |name| self.connectors.get(&ObjectRef::new(&name).within(namespace)))
    }

    /// Those that can be read and are not being deleted. Looks at all of the namespace: for what is done once per
    /// change, not once per Connector.
    pub fn connectors_in(&self, namespace: &str) -> Vec<Arc<Connector>> {
        self.live_in(namespace).collect()
    }

    /// Whether there are any of these.
    pub fn is_used(&self, namespace: &str) -> bool {
        self.live_in(namespace).next().is_some()
    }

    fn live_in(&self, namespace: &str) -> impl Iterator<Item = Arc<Connector>> {
        let live = self.items_in(namespace).filter(|item| item.meta().deletion_timestamp.is_none());
        live.filter_map(|item| item.read().ok().cloned())
    }
}

impl Context {
    pub fn new(
        client: Client,
        settings: Arc<Settings>,
        stores: Stores,
        prober: Arc<dyn Prober>,
        metrics: Arc<Metrics>,
    ) -> Context {
        Context {
            events: Allowance::default(),
            schedule: Schedule::new(settings.recheck),
            unseen_roles: Lately::default(),
            full_roles: Lately::default(),
            foreign: Foreign::default(),
            reader: secret::Reader::new(client.clone()),
            ca_verdicts: ca_cert::Verdicts::default(),
            checked_classes: class::Checked::default(),
            patches: Places::new(PATCHES, PATCHES_OF_ONE_NAMESPACE),
            locks: Places::new(Semaphore::MAX_PERMITS, 1),
            client,
            settings,
            stores,
            prober,
            metrics,
        }
    }

    /// The certificates that clients trust, PEM; none before the connector CA is made.
    pub fn ca_bundle(&self) -> Option<String> {
        let name = ObjectRef::new(names::CA_BUNDLE_CONFIGMAP).within(&self.settings.namespace);
        let bundle = self.stores.bundles.get(&name)?;
        let text = bundle.data.as_ref()?.get(names::CA_BUNDLE_KEY)?;
        (!text.trim().is_empty()).then(|| text.clone())
    }

    /// Serialises writes of what a namespace's Connectors share: without it the older of two concurrent views
    /// could be written last. Namespaces do not wait for each other.
    pub async fn lock(&self, namespace: &str) -> Option<Place> {
        self.locks.take(namespace).await
    }
}
