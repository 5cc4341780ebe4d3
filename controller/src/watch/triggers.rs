//! Which change concerns whom: pure look-ups in the caches, ending in requests to reconcile.

use std::sync::Arc;

use connectors_api::item::Item;
use connectors_api::{Connector, ConnectorClass, names};
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret, Service};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use tokio::sync::Notify;

use super::kept::connector_of;
use crate::context::Stores;
use crate::reconcile::{names_secret, service};
use crate::settings::Settings;

type Meta<K> = PartialObjectMeta<K>;

/// Requests, one queue per kind of walk.
pub struct Queues {
    pub connectors: UnboundedReceiver<ObjectRef<Item<Connector>>>,
    pub classes: UnboundedReceiver<ObjectRef<Item<ConnectorClass>>>,
    pub namespaces: UnboundedReceiver<ObjectRef<Meta<Namespace>>>,
}

pub struct Triggers {
    stores: Stores,
    settings: Arc<Settings>,
    connectors: UnboundedSender<ObjectRef<Item<Connector>>>,
    classes: UnboundedSender<ObjectRef<Item<ConnectorClass>>>,
    namespaces: UnboundedSender<ObjectRef<Meta<Namespace>>>,
    /// Something of the connector CA changed.
    pub ca: Arc<Notify>,
    /// A node came, went or changed its addresses.
    pub ranges: Arc<Notify>,
}

impl Triggers {
    pub fn new(stores: Stores, settings: Arc<Settings>) -> (Triggers, Queues) {
        let (connectors, connectors_rx) = unbounded();
        let (classes, classes_rx) = unbounded();
        let (namespaces, namespaces_rx) = unbounded();
        let queues = Queues { connectors: connectors_rx, classes: classes_rx, namespaces: namespaces_rx };
        let (ca, ranges) = Default::default();
        (Triggers { stores, settings, connectors, classes, namespaces, ca, ranges }, queues)
    }

    pub fn ask_for_all(&self) {
        self.stores.classes.state().iter().for_each(|class| ask(&self.classes, &**class));
        for connector in self.stores.connectors.state() {
            // Nobody was told of the first ones.
            self.stores.by_namespace.add(&*connector);
            ask(&self.connectors, &*connector);
        }
        self.stores.namespaces.state().iter().for_each(|namespace| ask(&self.namespaces, &**namespace));
    }

    /// Our own status patches come back here too and change nothing that counts.
    pub fn connector(&self, old: Option<&Item<Connector>>, new: Option<&Item<Connector>>) {
        match (old, new) {
            (_, Some(there)) => self.stores.by_namespace.add(there),
            (Some(gone), None) => self.stores.by_namespace.remove(gone),
            (None, None) => {}
        }
        if !wanted_otherwise(old, new) && readable(old) == readable(new) {
            return;
        }
        new.into_iter().for_each(|connector| ask(&self.connectors, connector));
        old.or(new)
            .and_then(ResourceExt::namespace)
            .into_iter()
            .for_each(|namespace| self.ask_for_namespace(&namespace));
    }

    /// A class's own walk, and the Connectors of that class: they depend on its spec and on `ProxyReady` in
    /// its status.
    pub fn class(&self, old: Option<&Item<ConnectorClass>>, new: Option<&Item<ConnectorClass>>) {
        let status =
            |class: Option<&Item<ConnectorClass>>| class.and_then(|class| class.read().ok()?.status.clone());
        if wanted_otherwise(old, new) || readable(old) != readable(new) {
            new.into_iter().for_each(|class| ask(&self.classes, class));
        } else if status(old) == status(new) {
            return;
        }
        let Some(name) = old.or(new).map(ResourceExt::name_any) else { return };
        self.ask_where(|connector| connector.spec.connector_class_name == name);
    }

    pub fn secret(&self, old: Option<&Meta<Secret>>, new: Option<&Meta<Secret>>) {
        let Some(secret) = new.or(old) else { return };
        let (name, namespace) = (secret.name_any(), secret.namespace().unwrap_or_default());
        if namespace == self.settings.namespace
            && [names::ROOT_CA_SECRET, names::ISSUING_CA_SECRET].contains(&name.as_str())
        {
            self.ca.notify_one();
        }
        self.ask_in(&namespace, |connector| names_secret(connector, &name));
    }

    /// A label that came or went concerns the namespace itself and the inner namespaces of both groups, the
    /// old and the new.
    pub fn namespace(&self, old: Option<&Meta<Namespace>>, new: Option<&Meta<Namespace>>) {
        if old.map(ResourceExt::labels) == new.map(ResourceExt::labels) {
            return;
        }
        new.into_iter().for_each(|namespace| ask(&self.namespaces, namespace));
        for group in [old, new]
            .into_iter()
            .flatten()
            .filter_map(|namespace| namespace.labels().get(names::PROJECT_LABEL))
        {
            let inner = self.stores.namespaces.state_filter(|namespace| {
                namespace.labels().get(names::INNER_NAMESPACE_LABEL) == Some(group)
            });
            inner.iter().for_each(|namespace| ask(&self.namespaces, &**namespace));
        }
    }

    /// Only drift counts: what we just wrote ourselves would cost a probe each time.
    pub fn service(&self, old: Option<&Service>, new: Option<&Service>) {
        let Some(service) = new.or(old) else { return };
        let namespace = service.namespace().unwrap_or_default();
        // To look at all of them for each Service would take the square of their number.
        let Some(connector) = connector_of(service) else { return };
        let drifted = |connector: &Connector| {
            new.is_none_or(|live| !service::is_as_desired(live, connector, &self.settings))
        };
        let item = self.stores.connectors.get(&ObjectRef::new(connector).within(&namespace));
        item.filter(|item| item.read().is_ok_and(|connector| drifted(connector)))
            .into_iter()
            .for_each(|item| ask(&self.connectors, &*item));
    }

    /// Roles and RoleBindings belong to all Connectors of a namespace.
    pub fn shared<K: Resource>(&self, old: Option<&K>, new: Option<&K>) {
        new.or(old)
            .and_then(ResourceExt::namespace)
            .into_iter()
            .for_each(|namespace| self.ask_for_namespace(&namespace));
    }

    /// The first one concerns whoever was looked at before it. Another one is trusted for half an hour before
    /// anything is signed by it: the usual period is soon enough, and asks for no probe of all at once.
    pub fn bundle(&self, old: Option<&ConfigMap>, _new: Option<&ConfigMap>) {
        self.ca.notify_one();
        if old.is_none() {
            self.ask_where(|_| true);
        }
    }

    /// kubelet writes its node every few minutes, mostly about other things.
    pub fn node(&self, old: Option<&Node>, new: Option<&Node>) {
        let told = |node: Option<&Node>| node.map(|node| (node.spec.clone(), node.status.clone()));
        if told(old) != told(new) {
            self.ranges.notify_one();
        }
    }

    fn ask_for_namespace(&self, name: &str) {
        send(&self.namespaces, ObjectRef::new(name));
    }

    fn ask_in(&self, namespace: &str, concerns: impl Fn(&Connector) -> bool) {
        let concerned = self.stores.items_in(namespace);
        concerned
            .filter(|item| item.read().is_ok_and(|connector| concerns(connector)))
            .for_each(|item| ask(&self.connectors, &*item));
    }

    /// Looks at all of the cluster: for what operators do.
    fn ask_where(&self, concerns: impl Fn(&Connector) -> bool) {
        let concerned = self
            .stores
            .connectors
            .state_filter(|item| item.read().is_ok_and(|connector| concerns(connector)));
        concerned.iter().for_each(|connector| ask(&self.connectors, &**connector));
    }
}

fn ask<K: Resource<DynamicType = ()>>(queue: &UnboundedSender<ObjectRef<K>>, object: &K) {
    send(queue, ObjectRef::from_obj(object));
}

/// Fails only while everything is being dropped.
fn send<K: Resource<DynamicType = ()>>(queue: &UnboundedSender<ObjectRef<K>>, object: ObjectRef<K>) {
    drop(queue.unbounded_send(object));
}

fn readable<K>(item: Option<&Item<K>>) -> bool {
    item.is_some_and(|item| item.read().is_ok())
}

/// Did its owner change it: another object, another spec, other annotations, deletion? Status and
/// managedFields do not count.
fn wanted_otherwise<K: Resource>(old: Option<&K>, new: Option<&K>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    let (old, new) = (old.meta(), new.meta());
    (&old.uid, old.generation, &old.annotations, &old.deletion_timestamp)
        != (&new.uid, new.generation, &new.annotations, &new.deletion_timestamp)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use clap::Parser;
    use kube::runtime::reflector::store;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    fn connector(namespace: &str, name: &str, secret: &str) -> Item<Connector> {
        let spec = json!({
            "connectorClassName": "k8s", "address": "https://a",
            "auth": {"name": "bearerTokenAuth", "secretRef": {"name": secret}},
        });
        let mut connector = Connector::new(name, serde_json::from_value(spec).unwrap());
        connector.metadata.namespace = Some(namespace.into());
        Item::from(connector)
    }

    /// All of them asked for, and answered.
    fn triggers(connectors: impl Iterator<Item = Item<Connector>>) -> (Triggers, Queues) {
        let (store_of_connectors, mut writer) = store();
        writer.apply_watcher_event(&Event::Init);
        connectors.for_each(|connector| writer.apply_watcher_event(&Event::InitApply(connector)));
        writer.apply_watcher_event(&Event::InitDone);
        let stores = Stores {
            connectors: store_of_connectors,
            by_namespace: Default::default(),
            classes: store().0,
            secrets: store().0,
            namespaces: store().0,
            services: store().0,
            roles: store().0,
            bindings: store().0,
            nodes: store().0,
            bundles: store().0,
        };
        let (triggers, mut queues) =
            Triggers::new(stores, Arc::new(Settings::parse_from(["connectors-controller"])));
        triggers.ask_for_all();
        asked(&mut queues);
        (triggers, queues)
    }

    fn asked(queues: &mut Queues) -> Vec<String> {
        let mut asked = Vec::new();
        while let Ok(who) = queues.connectors.try_recv() {
            asked.push(format!("{}/{}", who.namespace.unwrap_or_default(), who.name));
        }
        asked
    }

    #[test]
    fn a_secret_of_a_namespace_costs_no_look_at_the_connectors_of_others() {
        let many = (0..10_000).map(|at| connector("many", &format!("c{at}"), &format!("s{at}")));
        let (triggers, mut queues) = triggers(many.chain([connector("demo", "k8s", "s7")]));
        let looked_at = |namespace| {
            let looks = Cell::new(0);
            triggers.ask_in(namespace, |_| {
                looks.set(looks.get() + 1);
                false
            });
            looks.get()
        };
        assert_eq!(["many", "demo", "without"].map(looked_at), [10_000, 1, 0]);
        let secret = |namespace: &str| {
            let mut secret = Meta::<Secret>::default();
            secret.metadata.name = Some("s7".into());
            secret.metadata.namespace = Some(namespace.into());
            triggers.secret(None, Some(&secret));
        };
        ["many", "without"].into_iter().for_each(secret);
        assert_eq!(asked(&mut queues), ["many/c7"]);
    }

    #[test]
    fn connectors_of_a_namespace_are_those_that_came_and_did_not_go() {
        let (triggers, _queues) =
            triggers([connector("demo", "a", "s"), connector("demo", "b", "s")].into_iter());
        let names = || triggers.stores.by_namespace.names("demo");
        triggers.connector(None, Some(&connector("demo", "c", "s")));
        triggers.connector(Some(&connector("demo", "a", "s")), Some(&connector("demo", "a", "t")));
        assert_eq!(names(), ["a", "b", "c"]);
        for gone in ["a", "b", "c"] {
            assert!(triggers.stores.by_namespace.names("demo").contains(&gone.to_owned()));
            triggers.connector(Some(&connector("demo", gone, "s")), None);
        }
        assert!(names().is_empty());
    }
}
