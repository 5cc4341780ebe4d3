//! What may change, and what is then looked at: caches are filled, changes become requests, `reconcile`
//! answers them. Comes after `leader`. Everything runs inside one task, so that losing the Lease ends all of
//! it at once.

mod answer;
mod follow;
mod kept;
mod triggers;
mod turns;

use std::fmt::Debug;
use std::sync::Arc;

use connectors_api::item::Item;
use connectors_api::names;
use futures::future::{BoxFuture, FutureExt, select_all};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::reflector::store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::context::{Context, Stores};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::prober::Prober;
use crate::settings::Settings;
use crate::{ca, class_status, classes, namespace, ranges, reconcile};
use answer::answer;
use follow::Follow;
use kept::{addresses_only, readable, without_credentials};
use triggers::{Queues, Triggers};

/// All of the leader's work. Never ends well: only its being dropped ends it.
pub async fn work(
    client: Client,
    settings: Arc<Settings>,
    prober: Arc<dyn Prober>,
    metrics: Arc<Metrics>,
) -> Result<(), Error> {
    let (stores, triggers, queues, mut parts) = watch_all(&client, &settings, &metrics);
    let context = Arc::new(Context::new(client, settings, stores, prober, metrics));
    parts.push(ca::keep(context.clone(), triggers.ca.clone()).boxed());
    parts.push(ranges::keep(context.clone(), triggers.ranges.clone()).boxed());
    parts.push(classes::bring(context.clone()).boxed());
    parts.push(answer_all(context, triggers, queues).boxed());
    select_all(parts).await;
    Err(Error::Ended("a watch"))
}

/// Objects of a list that are in memory whole at a time: etcd takes each up to 1.5 MiB.
const PAGE: u32 = 20;

type Parts = Vec<BoxFuture<'static, ()>>;

/// One watch per kind. What is kept of an object is decided here: of Secrets and namespaces only metadata, which is
/// all that is asked for, of nodes only addresses, of Services, Roles and RoleBindings only what we may have made.
fn watch_all(
    client: &Client,
    settings: &Arc<Settings>,
    metrics: &Arc<Metrics>,
) -> (Stores, Arc<Triggers>, Queues, Parts) {
    let (connectors, connectors_w) = store();
    let (classes, classes_w) = store();
    let (secrets, secrets_w) = store();
    let (namespaces, namespaces_w) = store();
    let (services, services_w) = store();
    let (roles, roles_w) = store();
    let (bindings, bindings_w) = store();
    let (nodes, nodes_w) = store();
    let (bundles, bundles_w) = store::<ConfigMap>();
    let by_namespace = Default::default();
    let stores = Stores {
        connectors,
        by_namespace,
        classes,
        secrets,
        namespaces,
        services,
        roles,
        bindings,
        nodes,
        bundles,
    };
    let (triggers, queues) = Triggers::new(stores.clone(), settings.clone());
    let triggers = Arc::new(triggers);
    let all = watcher::Config::default().page_size(PAGE);
    let ours = all.clone().labels(&format!("{}={}", names::MANAGED_BY_LABEL, names::CONTROLLER));
    let bundle = all.clone().fields(&format!("metadata.name={}", names::CA_BUNDLE_CONFIGMAP));
    let own = Api::namespaced(client.clone(), &settings.namespace);
    let mut watches = Watches { triggers: &triggers, metrics, parts: Parts::new() };
    watches.add(Api::all(client.clone()), &all, connectors_w, kept::connector, Triggers::connector);
    watches.add(Api::all(client.clone()), &all, classes_w, kept::class, Triggers::class);
    watches.add(Api::all(client.clone()), &all, secrets_w, without_credentials, Triggers::secret);
    watches.add(Api::all(client.clone()), &all, namespaces_w, readable, Triggers::namespace);
    watches.add(Api::all(client.clone()), &ours, services_w, kept::service, Triggers::service);
    watches.add(Api::all(client.clone()), &ours, roles_w, kept::role, Triggers::shared);
    watches.add(Api::all(client.clone()), &ours, bindings_w, kept::binding, Triggers::shared);
    watches.add(Api::all(client.clone()), &all, nodes_w, addresses_only, Triggers::node);
    watches.add(own, &bundle, bundles_w, readable, Triggers::bundle);
    let parts = watches.parts;
    (stores, triggers, queues, parts)
}

struct Watches<'a> {
    triggers: &'a Arc<Triggers>,
    metrics: &'a Arc<Metrics>,
    parts: Parts,
}

impl Watches<'_> {
    /// `keep`: what the cache holds of an object. `tell`: whom a change concerns.
    fn add<K, S>(
        &mut self,
        api: Api<Item<K>>,
        config: &watcher::Config,
        writer: Writer<S>,
        keep: fn(Item<K>) -> Option<S>,
        tell: fn(&Triggers, Option<&S>, Option<&S>),
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        S: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    {
        let follow = Follow { api, config: config.clone(), writer, keep, metrics: self.metrics.clone() };
        let triggers = self.triggers.clone();
        self.parts.push(follow.run(move |old, new| tell(&triggers, old, new)).boxed());
    }
}

/// Once every cache is complete, each object is looked at once, and then whenever it is asked for.
async fn answer_all(context: Arc<Context>, triggers: Arc<Triggers>, queues: Queues) {
    if !complete(&context.stores).await {
        return;
    }
    context.metrics.all_listed();
    triggers.ask_for_all();
    let Queues { connectors, classes, namespaces } = queues;
    let stores = context.stores.clone();
    tokio::join!(
        answer(stores.connectors, connectors, context.clone(), "connector", reconcile::reconcile),
        answer(stores.classes, classes, context.clone(), "class", class_status::reconcile),
        answer(stores.namespaces, namespaces, context, "namespace", namespace::reconcile),
    );
}

async fn complete(stores: &Stores) -> bool {
    let ready = tokio::join!(
        stores.connectors.wait_until_ready(),
        stores.classes.wait_until_ready(),
        stores.secrets.wait_until_ready(),
        stores.namespaces.wait_until_ready(),
        stores.services.wait_until_ready(),
        stores.roles.wait_until_ready(),
        stores.bindings.wait_until_ready(),
        stores.bundles.wait_until_ready(),
    );
    matches!(ready, (Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Ok(())))
}
