//! Watched objects → routing snapshot. `table/watch` (or `standalone`) puts objects in, `table/compile` turns
//! one connector and its class into a route, `build` makes the immutable table that requests read. Nothing
//! here is on the path of a request.

pub mod compile;
pub mod hosts;
pub mod route;
pub mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use connectors_api::conditions::reason::NOT_CHECKED;
use connectors_api::item::{Item, MAX_CONNECTOR};
use connectors_api::probe::annotations;
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::target::Target;
use connectors_api::{Connector, ConnectorClass};
use kube::core::ObjectMeta;
use kube::{Resource, ResourceExt};

use crate::table::route::{Entry, Route, Source, Table, TableParts};
use compile::{ClassState, Unusable};
use hosts::Claim;

/// Of one connector, while nobody knows which its class declares.
const EXTENSIONS: usize = 16;

/// All observed objects and what was compiled of them last.
pub struct Builder {
    cluster_domain: String,
    /// The gateway's own.
    namespace: String,
    connectors: HashMap<ConnectorRef, Item<Connector>>,
    classes: HashMap<String, ClassState>,
    compiled: HashMap<ConnectorRef, Compiled>,
}

/// An entry, the versions of the objects that it was made of, and the last route that was good.
struct Compiled {
    connector_version: Option<String>,
    class_version: Option<String>,
    entry: Entry,
    good: Option<Good>,
}

#[derive(Clone)]
struct Good {
    route: Arc<Route>,
    /// Of the spec that it was compiled from.
    generation: Option<i64>,
    /// Those that it was compiled from: they have no generation.
    annotations: String,
}

impl Builder {
    pub fn new(cluster_domain: &str, namespace: &str) -> Builder {
        Builder {
            cluster_domain: cluster_domain.to_owned(),
            namespace: namespace.to_owned(),
            connectors: HashMap::new(),
            classes: HashMap::new(),
            compiled: HashMap::new(),
        }
    }

    /// An object that cannot be read is kept as such: it rejects itself, not the others.
    pub fn put_connector(&mut self, object: Item<Connector>) {
        self.connectors.insert(ConnectorRef::of(object.meta()), object.bounded(MAX_CONNECTOR));
    }

    pub fn remove_connector(&mut self, object: &Item<Connector>) {
        self.connectors.remove(&ConnectorRef::of(object.meta()));
    }

    pub fn put_class(&mut self, object: Item<ConnectorClass>) {
        self.classes.insert(object.name_any(), ClassState::new(object));
    }

    pub fn remove_class(&mut self, object: &Item<ConnectorClass>) {
        self.classes.remove(&object.name_any());
    }

    /// After a new listing: what is not in it is gone.
    pub fn replace_connectors(&mut self, objects: Vec<Item<Connector>>) {
        self.connectors.clear();
        objects.into_iter().for_each(|object| self.put_connector(object));
    }

    pub fn replace_classes(&mut self, objects: Vec<Item<ConnectorClass>>) {
        self.classes.clear();
        objects.into_iter().for_each(|object| self.put_class(object));
    }

    /// The connectors that were made first, at most so many: the same in every gateway, and none of them loses its
    /// place to one that is made later. Of those that cannot be read, the age is not known: they come last.
    pub fn oldest(&self, most: usize) -> Vec<ConnectorRef> {
        let aged = self.connectors.iter().map(|(name, item)| {
            let made = &item.meta().creation_timestamp;
            (made.is_none(), made, name)
        });
        let mut aged: Vec<_> = aged.collect();
        aged.sort_unstable();
        aged.into_iter().take(most).map(|(_, _, name)| name.clone()).collect()
    }

    /// Compiles what changed and makes a new snapshot.
    pub fn build(&mut self) -> Table {
        let mut before = std::mem::take(&mut self.compiled);
        for (name, connector) in &self.connectors {
            let compiled = self.compile(name, connector, before.remove(name));
            self.compiled.insert(name.clone(), compiled);
        }
        let entries = self.compiled.iter().map(|(name, compiled)| (name.clone(), compiled.entry.clone()));
        let claims = self.connectors.iter().map(|(name, connector)| (name, Claim::of(connector)));
        let parts = TableParts {
            connectors: entries.collect(),
            hosts: hosts::hosts(claims),
            target_hosts: self.target_hosts(),
            sources: self.sources(),
        };
        Table::new(&self.cluster_domain, &self.namespace, parts)
    }

    fn sources(&self) -> HashMap<ConnectorRef, Source> {
        let source = |item: &Item<Connector>| {
            let connector = item.read().ok()?.clone();
            let class = self.classes.get(&connector.spec.connector_class_name)?.good()?;
            Some(Source { connector, class })
        };
        self.connectors.iter().filter_map(|(name, item)| Some((name.clone(), source(item)?))).collect()
    }

    /// Of what the connectors say now, and of the routes that are still in force.
    fn target_hosts(&self) -> HashSet<String> {
        let written = self.connectors.values().filter_map(|item| item.read().ok());
        let written = written.flat_map(|connector| {
            let spec = &connector.spec;
            // Those that its class declares, or a few while that is away: any other may be any host of the world's.
            let class = self.classes.get(&spec.connector_class_name).and_then(ClassState::good);
            let declared = |name: &str| {
                class
                    .as_ref()
                    .is_none_or(|class| class.spec.address_extensions.iter().any(|known| known.name == name))
            };
            let given = spec.address_extensions.iter().filter(|extension| declared(&extension.name));
            let extensions: Vec<&str> =
                given.take(EXTENSIONS).filter_map(|extension| extension.value.as_str()).collect();
            std::iter::once(spec.address.as_str())
                .chain(extensions)
                .filter_map(|address| Target::parse(address).ok())
        });
        let routed = self.compiled.values().filter_map(|compiled| match &compiled.entry {
            Entry::Usable(route) => Some(&route.targets),
            Entry::Unusable { .. } => None,
        });
        written.map(|target| target.host).chain(routed.flatten().map(|target| target.host.clone())).collect()
    }

    fn compile(&self, name: &ConnectorRef, item: &Item<Connector>, before: Option<Compiled>) -> Compiled {
        let class =
            item.read().ok().and_then(|connector| self.classes.get(&connector.spec.connector_class_name));
        let class_version = class.and_then(|class| class.version.clone());
        let meta = item.meta();
        let connector_version = meta.resource_version.clone();
        let before = match before {
            Some(same)
                if same.connector_version == connector_version && same.class_version == class_version =>
            {
                return same;
            }
            other => other,
        };
        let route = match item.read() {
            Ok(connector) => compile::route(connector, class),
            Err(unreadable) => Err(compile::unreadable(unreadable)),
        };
        let (entry, good) = match route {
            Ok(route) => {
                let route = Arc::new(route);
                let good = Good {
                    route: route.clone(),
                    generation: meta.generation,
                    annotations: annotations(meta),
                };
                (Entry::Usable(route), Some(good))
            }
            Err(unusable) => fall_back(name, meta, unusable, before.and_then(|before| before.good)),
        };
        Compiled { connector_version, class_version, entry, good }
    }
}

/// The last good route stays only if the fault is not the connector's own and its spec is still the one the
/// route was made of, with the same annotations: one may have been a leave that is withdrawn.
fn fall_back(
    name: &ConnectorRef,
    meta: &ObjectMeta,
    unusable: Unusable,
    good: Option<Good>,
) -> (Entry, Option<Good>) {
    let same = |good: &Good| {
        Some(&good.route.uid) == meta.uid.as_ref()
            && good.generation == meta.generation
            && good.annotations == annotations(meta)
    };
    let good = good.filter(|good| unusable.keep_last_good && same(good));
    let Unusable { reason, message, .. } = unusable;
    match reason == NOT_CHECKED {
        // Each new one, for the second that the controller takes.
        true => tracing::debug!(connector = %name, %message, "connector not checked yet"),
        false => {
            tracing::warn!(connector = %name, %reason, %message, kept = good.is_some(), "connector rejected");
        }
    }
    match &good {
        Some(good) => (Entry::Usable(good.route.clone()), Some(good.clone())),
        None => (Entry::Unusable { reason, message }, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: &str = r#"{
        "metadata": {"name": "k8s", "uid": "c", "resourceVersion": "1"},
        "spec": {"auth": {"types": [{"name": "bearerTokenAuth", "secretType": "connectors.cpaas.io/bearer-token"}]},
                 "livenessProbe": {"http": {"path": "/livez"}}}}"#;
    const CONNECTOR: &str = r#"{
        "metadata": {"namespace": "demo", "name": "k8s", "uid": "u", "generation": 1, "resourceVersion": "1"},
        "spec": {"connectorClassName": "k8s", "address": "https://target:6443",
                 "auth": {"name": "bearerTokenAuth", "secretRef": {"name": "s"}}},
        "status": {"credential": {"secretName": "s", "resourceVersion": "7"}}}"#;

    fn edited(json: &str, edits: &[(&str, &str)]) -> String {
        edits.iter().fold(json.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        })
    }

    fn connector(edits: &[(&str, &str)]) -> Item<Connector> {
        serde_json::from_str(&edited(CONNECTOR, edits)).unwrap()
    }

    fn class(edits: &[(&str, &str)]) -> Item<ConnectorClass> {
        serde_json::from_str(&edited(CLASS, edits)).unwrap()
    }

    fn builder() -> Builder {
        let mut builder = Builder::new("cluster.local", "connectors-system");
        builder.put_class(class(&[]));
        builder.put_connector(connector(&[]));
        builder
    }

    fn entry(table: &Table) -> Entry {
        table.lookup(&ConnectorRef { namespace: "demo".into(), name: "k8s".into() }).unwrap().clone()
    }

    fn usable(table: &Table) -> Arc<Route> {
        match entry(table) {
            Entry::Usable(route) => route,
            Entry::Unusable { message, .. } => panic!("{message}"),
        }
    }

    fn reason(table: &Table) -> String {
        match entry(table) {
            Entry::Usable(_) => String::new(),
            Entry::Unusable { reason, .. } => reason,
        }
    }

    const BROKEN: (&str, &str) = (r#""/livez""#, r#""{{ .Broken""#);

    #[test]
    fn an_unchanged_connector_keeps_its_very_route_when_others_change() {
        let mut builder = builder();
        let first = usable(&builder.build());
        builder.put_connector(connector(&[(r#""name": "k8s", "uid""#, r#""name": "other", "uid""#)]));
        let table = builder.build();
        assert!(Arc::ptr_eq(&first, &usable(&table)));
        assert_eq!(table.connectors.len(), 2);
    }

    #[test]
    fn a_class_that_breaks_leaves_running_connectors_alone_and_refuses_new_ones() {
        let mut builder = builder();
        let first = usable(&builder.build());
        builder.put_class(class(&[(r#""resourceVersion": "1""#, r#""resourceVersion": "2""#), BROKEN]));
        builder.put_connector(connector(&[(r#""name": "k8s", "uid""#, r#""name": "new", "uid""#)]));
        let table = builder.build();
        assert!(Arc::ptr_eq(&first, &usable(&table)));
        let new = table.lookup(&ConnectorRef { namespace: "demo".into(), name: "new".into() }).unwrap();
        assert!(matches!(new, Entry::Unusable { reason, .. } if reason == "ConnectorClassInvalid"));
    }

    #[test]
    fn the_hosts_of_all_connectors_are_known_whether_they_are_usable_or_not_and_no_other() {
        let mut builder = builder();
        assert!(builder.build().has_host("target"));
        builder.put_connector(connector(&[(r#""https://target:6443""#, r#""https://other:6443""#)]));
        builder.remove_class(&class(&[]));
        let table = builder.build();
        assert!(table.has_host("other"));
        assert!(!table.has_host("target") && !table.has_host("other:6443") && !table.has_host(""));
        builder.remove_connector(&connector(&[]));
        assert!(!builder.build().has_host("other"));
    }

    #[test]
    fn an_edited_spec_under_a_broken_class_loses_its_old_route() {
        let mut builder = builder();
        builder.build();
        builder.put_class(class(&[(r#""resourceVersion": "1""#, r#""resourceVersion": "2""#), BROKEN]));
        let edit =
            [(r#""generation": 1, "resourceVersion": "1""#, r#""generation": 2, "resourceVersion": "2""#)];
        builder.put_connector(connector(&edit));
        assert_eq!(reason(&builder.build()), "ConnectorClassInvalid");
    }

    #[test]
    fn what_an_annotation_allowed_ends_with_it_although_the_class_is_broken() {
        let allowing = (
            r#""generation": 1, "#,
            r#""generation": 1, "annotations": {"connectors.cpaas.io/allow-impersonation": "true"}, "#,
        );
        let mut builder = builder();
        builder.put_connector(connector(&[
            allowing,
            (r#""resourceVersion": "1""#, r#""resourceVersion": "2""#),
        ]));
        let first = usable(&builder.build());
        builder.put_class(class(&[(r#""resourceVersion": "1""#, r#""resourceVersion": "2""#), BROKEN]));
        assert!(Arc::ptr_eq(&first, &usable(&builder.build())));
        builder.put_connector(connector(&[(r#""resourceVersion": "1""#, r#""resourceVersion": "3""#)]));
        assert_eq!(reason(&builder.build()), "ConnectorClassInvalid");
    }

    #[test]
    fn a_connector_recreated_under_its_name_inherits_nothing() {
        let mut builder = builder();
        builder.build();
        builder.put_class(class(&[(r#""resourceVersion": "1""#, r#""resourceVersion": "2""#), BROKEN]));
        builder.put_connector(connector(&[(r#""uid": "u""#, r#""uid": "v""#)]));
        assert_eq!(reason(&builder.build()), "ConnectorClassInvalid");
    }

    #[test]
    fn the_oldest_come_first_then_the_first_names_and_last_whose_age_is_unknown() {
        let mut builder = Builder::new("cluster.local", "connectors-system");
        for (name, made) in
            [("c", "2026-01-01"), ("b", "2026-01-02"), ("d", "2026-01-02"), ("a", "2026-01-03")]
        {
            let made = format!(r#""name": "{name}", "creationTimestamp": "{made}T00:00:00Z", "uid""#);
            builder.put_connector(connector(&[(r#""name": "k8s", "uid""#, &made)]));
        }
        builder.put_connector(connector(&[
            (r#""name": "k8s", "uid""#, r#""name": "unreadable", "uid""#),
            (r#""https://target:6443""#, "[]"),
        ]));
        let oldest = |most: usize| {
            builder.oldest(most).into_iter().map(|connector| connector.name).collect::<Vec<_>>()
        };
        assert_eq!(oldest(0), Vec::<String>::new());
        assert_eq!(oldest(2), ["c", "b"]);
        assert_eq!(oldest(9), ["c", "b", "d", "a", "unreadable"]);
    }

    #[test]
    fn an_object_that_cannot_be_read_rejects_only_itself() {
        let mut builder = builder();
        let edits =
            [(r#""name": "k8s", "uid""#, r#""name": "bad", "uid""#), (r#""https://target:6443""#, "[]")];
        builder.put_connector(connector(&edits));
        let table = builder.build();
        usable(&table);
        let bad = table.lookup(&ConnectorRef { namespace: "demo".into(), name: "bad".into() }).unwrap();
        assert!(matches!(bad, Entry::Unusable { .. }));
    }

    #[test]
    fn what_is_wrong_is_warned_of_and_a_connector_that_nobody_has_checked_yet_is_not_wrong() {
        for (edit, wrong) in [
            ((r#""secretName": "s""#, r#""secretName": "of another""#), false),
            (("target:6443", "a b"), true),
        ] {
            let log = tempfile::NamedTempFile::new().unwrap();
            let lines = std::sync::Arc::new(log.reopen().unwrap());
            let subscriber = tracing_subscriber::fmt().with_writer(lines).finish();
            tracing::subscriber::with_default(subscriber, || {
                let mut builder = builder();
                builder.put_connector(connector(&[edit]));
                assert_eq!(reason(&builder.build()) == NOT_CHECKED, !wrong);
            });
            let said = std::fs::read_to_string(log.path()).unwrap();
            assert_eq!(said.contains("WARN"), wrong, "{said}");
            assert_eq!(said.is_empty(), !wrong, "{said}");
        }
    }

    #[test]
    fn a_missing_class_is_named() {
        let mut builder = builder();
        builder.remove_class(&class(&[]));
        let table = builder.build();
        let Entry::Unusable { reason, message } = entry(&table) else { panic!("usable") };
        assert_eq!(reason, "ConnectorClassNotFound");
        assert_eq!(message, r#"connectorclass.connectors.alauda.io "k8s" not found"#);
    }
}
