//! Watches Connectors and classes of the home cluster and swaps a new table in, at most every 50 ms. A watch that breaks is made again
//! with back-off while the last table stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use connectors_api::{Connector, ConnectorClass};
use futures::stream::{self, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use tokio::time::Instant;

use super::Builder;
use crate::metrics::Metrics;
use crate::route::{Entry, Table};

/// A restart of the controller touches thousands of objects at once; each rebuild costs milliseconds.
const COALESCE: Duration = Duration::from_millis(50);

type GuardedConnector = DeserializeGuard<Connector>;
type GuardedClass = DeserializeGuard<ConnectorClass>;

#[allow(clippy::large_enum_variant, reason = "one at a time, handed on at once")]
enum Change {
    Connector(Event<GuardedConnector>),
    Class(Event<GuardedClass>),
}

/// Where the table goes, and whether both lists have arrived (readiness).
#[derive(Clone)]
pub struct Sink {
    pub table: Arc<ArcSwap<Table>>,
    pub synced: Arc<AtomicBool>,
    pub metrics: Arc<Metrics>,
}

/// Runs for ever.
pub async fn follow(client: Client, cluster_domain: &str, namespace: &str, sink: Sink) {
    let connectors = watch(Api::<GuardedConnector>::all(client.clone()), watcher::Config::default()).default_backoff();
    let classes = watch(Api::<GuardedClass>::all(client), watcher::Config::default()).default_backoff();
    let connectors = connectors.map(|event| event.map(Change::Connector));
    let classes = classes.map(|event| event.map(Change::Class));
    let mut changes = std::pin::pin!(stream::select(connectors, classes));
    let mut observed = Observed::new(cluster_domain, namespace);
    let mut due: Option<Instant> = None;
    loop {
        let next = match due {
            Some(due) => tokio::time::timeout_at(due, changes.next()).await,
            None => Ok(changes.next().await),
        };
        match next {
            Ok(Some(Ok(change))) => {
                if observed.apply(change) && observed.listed() {
                    due.get_or_insert_with(|| Instant::now() + COALESCE);
                }
            }
            Err(_) => {}
            Ok(Some(Err(error))) => tracing::warn!(%error, "the watch of connectors or classes broke and is made again"),
            Ok(None) => return,
        }
        // Also when changes never pause.
        if due.is_some_and(|due| Instant::now() >= due) {
            due = None;
            sink.publish(observed.builder.build());
        }
    }
}

impl Sink {
    pub fn publish(&self, table: Table) {
        let usable = table.connectors.values().filter(|entry| matches!(entry, Entry::Usable(_))).count();
        self.metrics.routes_usable.set(i64::try_from(usable).unwrap_or(i64::MAX));
        self.metrics.routes_unusable.set(i64::try_from(table.connectors.len() - usable).unwrap_or(i64::MAX));
        self.metrics.table_builds.inc();
        self.table.store(Arc::new(table));
        self.synced.store(true, Ordering::Release);
    }
}

/// Objects, and the listings that are under way.
struct Observed {
    builder: Builder,
    connectors: Listing<GuardedConnector>,
    classes: Listing<GuardedClass>,
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
        Observed { builder: Builder::new(cluster_domain, namespace), connectors: Listing::default(), classes: Listing::default() }
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
