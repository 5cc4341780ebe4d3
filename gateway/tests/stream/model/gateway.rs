//! The gateway of the walks, with everything around it that they change: an API server's answers, the table, two
//! targets that say which credential came over which connection, and clients.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use connectors_gateway::gateway::{Gateway, Parts};
use connectors_gateway::home::cluster::{
    Question, Reviews, SecretContent, SecretError, Secrets, SigningKeys, far_future,
};
use connectors_gateway::home::principal::Principal;
use connectors_gateway::home::remembered::Away;
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
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_openssl::SslStream;
use zeroize::Zeroizing;

use crate::http::H1;
use crate::target::{Target, Tls, field, read_body, read_head};
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

/// What the API server of these walks knows.
#[derive(Default)]
struct Home {
    /// PEM of the targets' CA.
    ca: String,
    secrets: Mutex<HashMap<String, (String, usize)>>,
    grants: Mutex<HashSet<(String, String)>>,
}

/// Each request that reached a target: which of its connections, and with which credential.
type Seen = Arc<Mutex<Vec<(usize, String)>>>;

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

fn user(number: usize) -> String {
    format!("system:serviceaccount:demo:user-{number}")
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

/// Answers with its number and the credential that it was shown.
async fn target(leaf: &Identity, seen: &Seen, h2: bool) -> Target {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    let seen = seen.clone();
    let alpn: &'static [u8] = if h2 { b"\x02h2" } else { b"\x08http/1.1" };
    Target::script(leaf, &[], alpn, move |tls, _| {
        let (seen, connection) = (seen.clone(), CONNECTIONS.fetch_add(1, Ordering::SeqCst));
        async move {
            if h2 { answer_h2(tls, connection, seen).await } else { answer_h1(tls, connection, seen).await }
        }
    })
    .await
}

async fn answer_h1(mut tls: Tls, connection: usize, seen: Seen) {
    loop {
        let head = read_head(&mut tls).await;
        if head.is_empty() {
            return;
        }
        let credential = field(&head, "authorization").unwrap_or("none").to_owned();
        let body = format!("0 {credential}");
        seen.lock().unwrap().push((connection, credential));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if tls.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn answer_h2(tls: Tls, connection: usize, seen: Seen) {
    let Ok(mut requests) = h2::server::handshake(tls).await else { return };
    while let Some(Ok((request, mut respond))) = requests.accept().await {
        let credential =
            request.headers().get("authorization").map_or("none", |value| value.to_str().unwrap());
        let body = Bytes::from(format!("1 {credential}"));
        seen.lock().unwrap().push((connection, credential.to_owned()));
        let head = http::Response::builder().header("content-length", body.len()).body(()).unwrap();
        if let Ok(mut stream) = respond.send_response(head, false) {
            let _ = stream.send_data(body, true);
        }
    }
}

#[async_trait]
impl Reviews for Home {
    async fn token(
        &self,
        token: &SecretString,
        _audience: &str,
        _expires: Option<SystemTime>,
    ) -> Result<Option<Principal>, Away> {
        let number = token.expose_secret().strip_prefix("token-").and_then(|number| number.parse().ok());
        Ok(number.map(|number| Principal {
            user: user(number).as_str().into(),
            uid: "".into(),
            groups: Arc::new([]),
            pod: None,
            expires: far_future(),
        }))
    }

    async fn access(&self, principal: &Principal, question: &Question) -> Result<bool, Away> {
        let pair = (principal.user.to_string(), question.connector.to_string());
        Ok(question.verb == "*" && self.grants.lock().unwrap().contains(&pair))
    }

    async fn signing_keys(&self) -> Result<Option<SigningKeys>, Away> {
        Ok(None)
    }
}

#[async_trait]
impl Secrets for Home {
    async fn get(&self, _namespace: &str, name: &str) -> Result<SecretContent, SecretError> {
        let content = |kind: &str, version: String, key: &str, value: &str| SecretContent {
            secret_type: kind.to_owned(),
            resource_version: version,
            data: [(key.to_owned(), Zeroizing::new(value.as_bytes().to_vec()))].into(),
        };
        if name == "ca" {
            return Ok(content("Opaque", "1".to_owned(), "ca.crt", &self.ca));
        }
        let secrets = self.secrets.lock().unwrap();
        let (credential, version) = secrets.get(name).ok_or(SecretError::NotFound)?;
        Ok(content("connectors.cpaas.io/bearer-token", version.to_string(), "token", credential))
    }
}
