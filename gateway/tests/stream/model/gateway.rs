//! The gateway of the walks, with everything around it that they change: an API server's answers, the table, two
//! targets that say which credential came over which connection, and clients.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectors_gateway::gateway::{Gateway, Parts};
use connectors_gateway::listen::accept::Ports;
use connectors_gateway::metrics::Metrics;
use connectors_gateway::settings::{Settings, TargetRule};
use connectors_gateway::table::Builder;
use connectors_gateway::table::route::{Entry, Route, Table};
use connectors_gateway::upstream::policy;
use connectors_gateway::workers::Workers;
use connectors_testenv::pki::Identity;
use openssl::ssl::{Ssl, SslConnector, SslMethod};
use pingora_core::services::Service;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_openssl::SslStream;

use super::home::{Home, user};
use super::targets::{Seen, target};
use crate::http::H1;
use crate::target::{Tls, read_body, read_head};
use crate::world::issuer;

/// The target that no connector has.
pub const NOBODY: usize = 2;

/// What is wrong with the gateway on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    KeyWithoutConnector,
    KeyWithoutVersion,
    /// As if it took every host for somebody's.
    NoHostCheck,
}

#[derive(Debug)]
pub enum Outcome {
    /// By the target that says so.
    Served {
        target: usize,
        credential: String,
    },
    Refused(String),
}

struct Written {
    uid: usize,
    generation: usize,
    target: usize,
}

pub struct Harness {
    fault: Fault,
    home: Arc<Home>,
    gateway: Arc<Gateway>,
    builder: Builder,
    written: HashMap<String, Written>,
    seen: Seen,
    hosts: [String; 3],
    port: u16,
    root: Identity,
    tunnels: HashMap<(usize, String, usize), Tls>,
    count: usize,
    served: usize,
    _shutdown: watch::Sender<bool>,
}

impl Harness {
    pub async fn new(fault: Fault) -> Harness {
        let mut settings = Settings { threads: Some(1), ..Settings::default() };
        settings.targets.allow =
            vec![TargetRule { cidrs: vec!["127.0.0.0/8".parse().unwrap()], ..TargetRule::default() }];
        settings.authorization.fresh = std::time::Duration::from_nanos(1);
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let target_ca = Identity::root("target CA");
        let home = Arc::new(Home { ca: target_ca.pem(), ..Home::default() });
        let metrics = Arc::new(Metrics::new().unwrap());
        let parts = Parts::new(settings, home.clone(), home.clone(), metrics.clone()).unwrap();
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
            hosts,
            port: address.port(),
            root,
            tunnels: HashMap::new(),
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
        self.tunnels.clear();
        self.home.grants.lock().unwrap().clear();
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

    pub fn grant(&mut self, number: usize, name: &str, given: bool) {
        let pair = (user(number), format!("demo/{name}"));
        let mut grants = self.home.grants.lock().unwrap();
        if given {
            grants.insert(pair);
        } else {
            grants.remove(&pair);
        }
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
                    "connectorClassName": "k8s", "address": format!("https://{}", self.hosts[written.target]),
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
                "spec": {"connectorClassName": "k8s", "address": format!("https://{}", self.hosts[NOBODY])}}));
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
            Fault::None | Fault::NoHostCheck => route.pool_key,
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

    /// A request over a tunnel. An error is a certificate that must not be.
    pub async fn tunnel(
        &mut self,
        number: usize,
        name: &str,
        target: usize,
        kept: bool,
    ) -> Result<Outcome, String> {
        let key = (number, name.to_owned(), target);
        let request = format!("GET /api/v1/pods HTTP/1.1\r\nHost: {}\r\n\r\n", self.hosts[target]);
        if let Some(mut tls) = self.tunnels.remove(&key).filter(|_| kept)
            && let Some(outcome) = exchange(&mut tls, &request).await
        {
            self.tunnels.insert(key, tls);
            return Ok(outcome);
        }
        let mut tls = match self.open(number, name, target).await {
            Ok(tls) => tls,
            Err(why) => return Ok(Outcome::Refused(why)),
        };
        if target == NOBODY {
            return Err("there is a certificate for nobody's host".to_owned());
        }
        let Some(outcome) = exchange(&mut tls, &request).await else {
            return Ok(Outcome::Refused("closed".to_owned()));
        };
        self.tunnels.insert(key, tls);
        Ok(outcome)
    }

    async fn open(&self, number: usize, name: &str, target: usize) -> Result<Tls, String> {
        let authority = &self.hosts[target];
        let login = STANDARD.encode(format!("demo/{name}:token-{number}"));
        let head = format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: Basic {login}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_head(&mut stream).await;
        if !answer.starts_with("HTTP/1.1 200 ") {
            return Err(answer);
        }
        let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
        connector.cert_store_mut().add_cert(self.root.cert.clone()).unwrap();
        connector.set_alpn_protos(H1).unwrap();
        let host = authority.rsplit_once(':').unwrap().0;
        let ssl: Ssl = connector.build().configure().unwrap().into_ssl(host).unwrap();
        let mut tls = SslStream::new(ssl, stream).unwrap();
        Pin::new(&mut tls).connect().await.map_err(|error| error.to_string())?;
        Ok(tls)
    }

    pub async fn reverse(&self, number: usize, name: &str) -> Outcome {
        let request = format!(
            "GET /api/v1/pods HTTP/1.1\r\nHost: c-{name}.demo.svc\r\nAuthorization: Bearer token-{number}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        exchange(&mut stream, &request).await.unwrap_or_else(|| Outcome::Refused("closed".to_owned()))
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

/// None if the connection was closed instead.
async fn exchange(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    request: &str,
) -> Option<Outcome> {
    stream.write_all(request.as_bytes()).await.ok()?;
    let head = read_head(stream).await;
    if head.is_empty() {
        return None;
    }
    let body = String::from_utf8(read_body(stream, &head).await.ok()?).unwrap();
    match (head.starts_with("HTTP/1.1 200 "), body.split_once(' ')) {
        (true, Some((target, credential))) => Some(Outcome::Served {
            target: target.parse().unwrap(),
            credential: credential.strip_prefix("Bearer ").unwrap_or(credential).to_owned(),
        }),
        _ => Some(Outcome::Refused(format!("{} {body}", head.lines().next().unwrap_or_default()))),
    }
}
