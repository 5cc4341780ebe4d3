//! The gateway of the walks, with everything around it that they change: an API server's answers, the table, and two
//! targets that say which credential came over which connection.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use connectors_gateway::admit::authenticate::Authenticator;
use connectors_gateway::gateway::{Gateway, Parts};
use connectors_gateway::listen::accept::Ports;
use connectors_gateway::metrics::Metrics;
use connectors_gateway::settings::{Authorization, Settings, TargetRule};
use connectors_gateway::table::Builder;
use connectors_gateway::table::route::{Entry, Route, Table};
use connectors_gateway::upstream::policy;
use connectors_gateway::workers::Workers;
use connectors_testenv::pki::Identity;
use pingora_core::services::Service;
use serde_json::json;
use tokio::sync::watch;

use super::clients::{Clients, NOBODY};
use super::home::Home;
use super::targets::{Seen, target};
use super::truth::REMEMBERED;
use crate::world::issuer;

/// What is wrong with the gateway on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    KeyWithoutConnector,
    KeyWithoutVersion,
    /// As if it took every host for somebody's.
    NoHostCheck,
    /// It goes by its first answer about a token for an hour.
    TokensKept,
}

struct Written {
    uid: usize,
    generation: usize,
    target: usize,
}

pub struct Harness {
    fault: Fault,
    pub home: Arc<Home>,
    pub clients: Clients,
    gateway: Arc<Gateway>,
    builder: Builder,
    written: HashMap<String, Written>,
    seen: Seen,
    count: usize,
    served: usize,
    _shutdown: watch::Sender<bool>,
}

impl Harness {
    pub async fn new(fault: Fault) -> Harness {
        let mut settings = Settings { threads: Some(1), ..Settings::default() };
        settings.targets.allow =
            vec![TargetRule { cidrs: vec!["127.0.0.0/8".parse().unwrap()], ..TargetRule::default() }];
        settings.authorization.fresh = Duration::from_nanos(1);
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let target_ca = Identity::root("target CA");
        let home = Arc::new(Home::new(target_ca.pem()));
        let metrics = Arc::new(Metrics::new().unwrap());
        let tokens = authenticator(fault, &home, &settings.load(), &metrics);
        let mut parts = Parts::new(settings, home.clone(), home.clone(), metrics.clone()).unwrap();
        parts.authenticator = Arc::new(tokens);
        let root = Identity::root("connector root");
        parts.issuer.store(Some(issuer(&root)));
        let gateway = Gateway::new(parts, policy::alone()).unwrap();
        let workers = Workers::start(1, &metrics).unwrap();
        let here = ([127, 0, 0, 1], 0).into();
        let mut ports = Ports::bind(&gateway, workers, here, here).unwrap();
        let [address, _] = ports.addresses();
        let (shutdown, receiver) = watch::channel(false);
        tokio::spawn(async move { ports.start_service(None, receiver, 1).await });
        let leaf = target_ca.leaf(&["localhost", "127.0.0.1"]);
        let seen = Seen::default();
        let (first, second) = (target(&leaf, &seen, false).await, target(&leaf, &seen, true).await);
        let hosts = [
            format!("localhost:{}", first.port),
            format!("127.0.0.1:{}", second.port),
            "nobody.example:443".to_owned(),
        ];
        let mut harness = Harness {
            fault,
            home,
            gateway,
            builder: Builder::new("cluster.local", "connectors-system"),
            written: HashMap::new(),
            seen,
            clients: Clients::new(address.port(), root, hosts),
            count: 0,
            served: 0,
            _shutdown: shutdown,
        };
        harness.class(false);
        harness
    }

    /// Forgets what earlier walks have made.
    pub fn begin(&mut self) {
        self.written.clear();
        self.clients.begin();
        self.home.begin();
        self.served += self.seen.lock().unwrap().drain(..).count();
        self.class(false);
    }

    pub fn served(&self) -> usize {
        self.served
    }

    fn next(&mut self) -> usize {
        self.count += 1;
        self.count
    }

    /// The connector's first credential, if it is new.
    pub fn write(&mut self, name: &str, target: usize) -> String {
        let number = self.next();
        match self.written.get_mut(name) {
            Some(known) => {
                known.target = target;
                known.generation += 1;
            }
            None => {
                self.written.insert(name.to_owned(), Written { uid: number, generation: 1, target });
                self.rotate(name);
            }
        }
        self.publish();
        self.home.secrets.lock().unwrap()[name].0.clone()
    }

    pub fn rotate(&mut self, name: &str) -> String {
        let number = self.next();
        let credential = format!("credential-{number}-of-{name}");
        self.home.secrets.lock().unwrap().insert(name.to_owned(), (credential.clone(), number));
        self.publish();
        credential
    }

    pub fn delete(&mut self, name: &str) {
        self.written.remove(name);
        self.publish();
    }

    pub fn class(&mut self, broken: bool) {
        let path = if broken { "{{ .Broken" } else { "/livez" };
        let class = json!({
            "metadata": {"name": "k8s", "uid": "class", "resourceVersion": self.next().to_string()},
            "spec": {
                "auth": {"types": [{"name": "bearerTokenAuth", "secretType": "connectors.cpaas.io/bearer-token"}]},
                "livenessProbe": {"http": {"path": path}}}});
        self.builder.put_class(serde_json::from_value(class).unwrap());
        self.publish();
    }

    /// What the controller would have written, as the gateway's watch would bring it.
    fn publish(&mut self) {
        let secrets = self.home.secrets.lock().unwrap().clone();
        let object = |(name, written): (&String, &Written)| {
            let version = secrets[name].1.to_string();
            json!({
                "metadata": {
                    "namespace": "demo", "name": name, "uid": written.uid.to_string(), "generation": written.generation,
                    "resourceVersion": format!("{}-{}-{version}", written.uid, written.generation)},
                "spec": {
                    "connectorClassName": "k8s", "address": format!("https://{}", self.clients.hosts[written.target]),
                    "auth": {"name": "bearerTokenAuth", "secretRef": {"name": name}},
                    "caCertSecretRef": {"name": "ca"}},
                "status": {
                    "credential": {"secretName": name, "resourceVersion": version},
                    "trust": {"caResourceVersion": "1"}}})
        };
        let mut objects: Vec<_> =
            self.written.iter().filter(|(name, _)| secrets.contains_key(*name)).map(object).collect();
        if self.fault == Fault::NoHostCheck {
            objects.push(json!({
                "metadata": {"namespace": "hidden", "name": "nobody", "uid": "nobody", "generation": 1, "resourceVersion": "1"},
                "spec": {"connectorClassName": "k8s", "address": format!("https://{}", self.clients.hosts[NOBODY])}}));
        }
        self.builder.replace_connectors(
            objects.into_iter().map(|object| serde_json::from_value(object).unwrap()).collect(),
        );
        let table = self.builder.build();
        let table = self.planted(table);
        self.gateway.parts.table.store(Arc::new(table));
    }

    fn planted(&self, mut table: Table) -> Table {
        let key = |route: &Route| match self.fault {
            Fault::KeyWithoutConnector => 1,
            Fault::KeyWithoutVersion => {
                let mut hasher = DefaultHasher::new();
                route.uid.hash(&mut hasher);
                hasher.finish()
            }
            Fault::None | Fault::NoHostCheck | Fault::TokensKept => route.pool_key,
        };
        for entry in table.connectors.values_mut() {
            if let Entry::Usable(route) = entry
                && key(route) != route.pool_key
            {
                *entry = Entry::Usable(Arc::new(Route {
                    connector: route.connector.clone(),
                    uid: route.uid.clone(),
                    class: route.class.clone(),
                    targets: route.targets.clone(),
                    credential: route.credential.clone(),
                    trust: route.trust.clone(),
                    impersonation: route.impersonation.clone(),
                    pool_key: key(route),
                }));
            }
        }
        table
    }

    /// No connection to a target has carried two credentials: neither two connectors' nor two versions of one.
    pub fn connections_of_two(&self) -> Result<(), String> {
        let mut by_connection: HashMap<usize, HashSet<String>> = HashMap::new();
        for (connection, credential) in self.seen.lock().unwrap().iter() {
            by_connection.entry(*connection).or_default().insert(credential.clone());
        }
        match by_connection.values().find(|credentials| credentials.len() > 1) {
            Some(credentials) => Err(format!("one connection to a target has carried {credentials:?}")),
            None => Ok(()),
        }
    }
}

/// What a user may do is asked for anew each time, so that a grant is in force at once; who a user is, is remembered.
fn authenticator(fault: Fault, home: &Arc<Home>, settings: &Settings, metrics: &Metrics) -> Authenticator {
    let fresh = if fault == Fault::TokensKept { Duration::from_secs(3600) } else { REMEMBERED };
    let authorization = Authorization { fresh, ..settings.authorization.clone() };
    let lookups = metrics.caches.tokens.clone();
    Authenticator::new(home.clone(), &settings.tokens, &authorization, lookups).unwrap()
}
