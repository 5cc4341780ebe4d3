//! Watches Connectors and classes of the home cluster and swaps a new table in, at most every 50 ms. A watch
//! that breaks is made again with back-off while the last table stays.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use connectors_api::conditions::reason;
use connectors_api::item::{Item, MAX_CONNECTOR};
use connectors_api::watch_health::{WatchHealth, explain};
use connectors_api::{Connector, ConnectorClass};
use futures::stream::{self, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource};
use tokio::time::Instant;

use super::Builder;
use crate::metrics::Metrics;
use crate::table::route::{Entry, Table};

/// A restart of the controller touches thousands of objects at once; each rebuild costs milliseconds.
const COALESCE: Duration = Duration::from_millis(50);

/// Objects of a list that are in memory whole at a time: etcd takes each up to 1.5 MiB.
const PAGE: u32 = 20;

enum Change {
    Connector(Event<Item<Connector>>),
    Class(Event<Item<ConnectorClass>>),
}

/// Where the table goes, and whether both lists have arrived (readiness).
#[derive(Clone)]
pub struct Publisher {
    pub table: Arc<ArcSwap<Table>>,
    pub synced: Arc<AtomicBool>,
    /// Whether more will arrive.
    pub watches: Arc<WatchHealth>,
    pub metrics: Arc<Metrics>,
    /// How many connectors have metrics of their own.
    pub connectors: usize,
}

/// Runs for ever.
pub async fn follow(client: Client, cluster_domain: &str, namespace: &str, publisher: Publisher) {
    let pages = watcher::Config::default().page_size(PAGE);
    let connectors = watch(Api::<Item<Connector>>::all(client.clone()), pages.clone()).default_backoff();
    let classes = watch(Api::<Item<ConnectorClass>>::all(client), pages).default_backoff();
    let connectors = connectors.map(|event| small(publisher.heard(event)).map(Change::Connector));
    let classes = classes.map(|event| publisher.heard(event).map(Change::Class));
    let mut changes = std::pin::pin!(stream::select(connectors, classes));
    let mut observed = Observed::new(cluster_domain, namespace);
    let mut due: Option<Instant> = None;
    loop {
        let next = match due {
            Some(due) => tokio::time::timeout_at(due, changes.next()).await,
            None => Ok(changes.next().await),
        };
        match next {
            Ok(Some(Some(change))) => {
                if observed.apply(change) && observed.listed() {
                    due.get_or_insert_with(|| Instant::now() + COALESCE);
                }
            }
            Ok(Some(None)) | Err(_) => {}
            Ok(None) => return,
        }
        // Also when changes never pause.
        if due.is_some_and(|due| Instant::now() >= due) {
            due = None;
            publisher.publish(&mut observed.builder);
        }
    }
}

/// While a list arrives, too, a large object is let go at once.
fn small(event: Option<Event<Item<Connector>>>) -> Option<Event<Item<Connector>>> {
    event.map(|event| match event {
        Event::InitApply(object) => Event::InitApply(object.bounded(MAX_CONNECTOR)),
        other => other,
    })
}

impl Publisher {
    /// What a watch brought; an error is told here, and the watch is made again.
    fn heard<K: Resource<DynamicType = ()>>(
        &self,
        event: Result<Event<K>, watcher::Error>,
    ) -> Option<Event<K>> {
        let kind = K::kind(&());
        match event {
            Ok(event) => {
                self.watches.works(&kind);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
                self.metrics.watches.last_event.with_label_values(&[&kind]).set(seconds);
                Some(event)
            }
            Err(error) => {
                let error = explain::<K>(&error);
                tracing::warn!(%kind, error, "the watch broke and is made again");
                self.metrics.watches.errors.with_label_values(&[&kind]).inc();
                self.watches.failed(&kind, error);
                None
            }
        }
    }

    /// A new table of what was observed. Metrics first: who finds a connector in the table finds its counters.
    pub fn publish(&self, builder: &mut Builder) {
        self.metrics.connectors.keep(builder.oldest(self.connectors));
        let table = builder.build();
        self.count(&table);
        self.table.store(Arc::new(table));
        self.synced.store(true, Ordering::Release);
    }

    fn count(&self, table: &Table) {
        let routes = &self.metrics.routes;
        let (mut usable, mut plain) = (0, 0);
        let mut unusable: HashMap<&str, i64> = HashMap::new();
        for entry in table.connectors.values() {
            match entry {
                Entry::Usable(route) => {
                    usable += 1;
                    plain += i64::from(route.targets.iter().any(|target| !target.tls));
                }
                Entry::Unusable { reason, .. } => *unusable.entry(reason).or_default() += 1,
            }
        }
        routes.plaintext.set(plain);
        routes.usable.set(usable);
        // Reasons are the controller's and ours: a short list.
        routes.unusable.reset();
        routes.unusable.with_label_values(&[reason::NOT_CHECKED]).set(0);
        for (reason, count) in unusable {
            routes.unusable.with_label_values(&[reason]).set(count);
        }
        routes.builds.inc();
    }
}

/// Objects, and the listings that are under way.
struct Observed {
    builder: Builder,
    connectors: Listing<Item<Connector>>,
    classes: Listing<Item<ConnectorClass>>,
}

struct Listing<K> {
    arriving: Vec<K>,
    complete: bool,
}

impl<K> Default for Listing<K> {
    fn default() -> Self {
        Listing { arriving: Vec::new(), complete: false }
    }
}

impl Observed {
    fn new(cluster_domain: &str, namespace: &str) -> Observed {
        Observed {
            builder: Builder::new(cluster_domain, namespace),
            connectors: Listing::default(),
            classes: Listing::default(),
        }
    }

    /// Before both lists are there, a table would say "not found" of what exists.
    fn listed(&self) -> bool {
        self.connectors.complete && self.classes.complete
    }

    /// True if the table must be built anew.
    fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Connector(Event::Apply(object)) => self.builder.put_connector(object),
            Change::Connector(Event::Delete(object)) => self.builder.remove_connector(&object),
            Change::Connector(Event::Init) => return self.connectors.start(),
            Change::Connector(Event::InitApply(object)) => return self.connectors.add(object),
            Change::Connector(Event::InitDone) => self.builder.replace_connectors(self.connectors.finish()),
            Change::Class(Event::Apply(object)) => self.builder.put_class(object),
            Change::Class(Event::Delete(object)) => self.builder.remove_class(&object),
            Change::Class(Event::Init) => return self.classes.start(),
            Change::Class(Event::InitApply(object)) => return self.classes.add(object),
            Change::Class(Event::InitDone) => self.builder.replace_classes(self.classes.finish()),
        }
        true
    }
}

impl<K> Listing<K> {
    fn start(&mut self) -> bool {
        self.arriving.clear();
        false
    }

    fn add(&mut self, object: K) -> bool {
        self.arriving.push(object);
        false
    }

    fn finish(&mut self) -> Vec<K> {
        self.complete = true;
        std::mem::take(&mut self.arriving)
    }
}
