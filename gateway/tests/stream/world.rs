//! One gateway with its CA, its clients and as many connectors as a test describes.

use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectors_gateway::admit::authenticate::Authenticator;
use connectors_gateway::admit::authorize::Authorizer;
use connectors_gateway::gateway::Gateway;
use connectors_gateway::home::cluster::{Question, Reviews, SigningKeys};
use connectors_gateway::home::principal::Principal;
use connectors_gateway::home::remembered::Away;
use connectors_gateway::listen::accept::Ports;
use connectors_gateway::metrics::Metrics;
use connectors_gateway::settings::{Settings, TargetRule};
use connectors_gateway::standalone::{Client, Standalone};
use connectors_gateway::tls::issuer::Issuer;
use connectors_gateway::upstream::policy::{self, Surroundings};
use connectors_gateway::workers::Workers;
use connectors_testenv::pki::Identity;
use openssl::ssl::{Ssl, SslConnector, SslMethod};
use pingora_core::services::Service;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_openssl::SslStream;

use crate::records;
use crate::target::{Target, Tls};

/// May use every connector of namespace demo that is called `target`, `second` or `broken`.
pub const TOKEN: &str = "token-of-demo";
/// A known principal that may use nothing.
pub const STRANGER: &str = "token-of-a-stranger";
/// A principal that may see every connector and use none.
pub const VIEWER: &str = "token-of-a-viewer";
/// The API server does not answer what is asked of this one.
pub const UNANSWERED: &str = "token-in-an-outage";
/// A principal of another namespace, of whom the API server does not say what it may.
pub const WAITING: &str = "token-of-one-who-waits";
/// What the connectors hold; no client ever sees it.
pub const SECRET: &str = "the-real-credential";

pub struct World {
    /// The proxy ports, plain and TLS.
    pub port: u16,
    pub https: u16,
    pub gateway: Arc<Gateway>,
    pub surroundings: Surroundings,
    pub standalone: Standalone,
    pub api_server: Arc<ApiServerOfTest>,
    /// Vouches for the targets, given to connectors by `caCertSecretRef`.
    pub target_ca: Identity,
    pub root: Identity,
    root_file: tempfile::NamedTempFile,
    shutdown: watch::Sender<bool>,
}

impl World {
    pub async fn new() -> World {
        World::with(|_| {}).await
    }

    /// Its connections share those to the targets, and their records come in order.
    pub async fn of_one_worker() -> World {
        World::with(|settings| settings.threads = Some(1)).await
    }

    /// Another installation whose connector CA has the same root.
    pub async fn under_the_root_of(other: &World) -> World {
        World::of(other.root.clone(), |_| {}).await
    }

    /// Another replica of the same installation: with its own connectors, of the same connector CA.
    pub async fn beside(other: &World) -> World {
        let replica = World::of(other.root.clone(), |_| {}).await;
        replica.gateway.parts.issuer.store(other.gateway.parts.issuer.load_full());
        replica
    }

    /// Loopback is allowed, since the targets are there; `tune` may change that.
    pub async fn with(tune: impl FnOnce(&mut Settings)) -> World {
        World::of(Identity::root("connector root"), tune).await
    }

    async fn of(root: Identity, tune: impl FnOnce(&mut Settings)) -> World {
        let mut settings = Settings { threads: Some(workers()), ..Settings::default() };
        settings.targets.allow =
            vec![TargetRule { cidrs: vec!["127.0.0.0/8".parse().unwrap()], ..TargetRule::default() }];
        tune(&mut settings);
        let client = |token: &str, (namespace, name): (&str, &str), connectors: &[&str]| Client {
            token: token.into(),
            user: format!("system:serviceaccount:{namespace}:{name}"),
            pod: Some(format!("{namespace}/{name}-pod")),
            connectors: connectors.iter().map(|one| (*one).to_owned()).collect(),
        };
        let all = ["demo/target", "demo/second", "demo/broken", "next/target"];
        let clients = vec![
            client(TOKEN, ("demo", "default"), &all),
            client(STRANGER, ("demo", "stranger"), &[]),
            client(VIEWER, ("demo", "viewer"), &[]),
            client(WAITING, ("elsewhere", "waiting"), &[]),
        ];
        let metrics = Arc::new(Metrics::new().unwrap());
        let (mut parts, standalone) =
            Standalone::start(Arc::new(ArcSwap::from_pointee(settings)), metrics, clients).unwrap();
        let settings = parts.settings.load_full();
        let api_server = Arc::new(ApiServerOfTest {
            standalone: standalone.clone(),
            tokens: AtomicUsize::new(0),
            accesses: AtomicUsize::new(0),
        });
        let (authorization, caches) = (&settings.authorization, &parts.metrics.caches);
        let authenticator =
            Authenticator::new(api_server.clone(), &settings.tokens, authorization, caches.tokens.clone());
        parts.authenticator = Arc::new(authenticator.unwrap());
        parts.authorizer =
            Arc::new(Authorizer::new(api_server.clone(), authorization, caches.access.clone()));
        parts.issuer.store(Some(issuer(&root)));
        let surroundings = policy::alone();
        let gateway = Gateway::new(parts, surroundings.clone()).unwrap();
        let root_file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(root_file.path(), root.pem()).unwrap();
        let (shutdown, receiver) = watch::channel(false);
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let workers = Workers::start(settings.worker_threads(), &gateway.parts.metrics).unwrap();
        records::follow(&workers, settings.worker_threads());
        let mut ports = Ports::bind(&gateway, workers, here, here).unwrap();
        let [port, https] = ports.addresses().map(|address| address.port());
        tokio::spawn(async move { ports.start_service(None, receiver, 1).await });
        World {
            port,
            https,
            gateway,
            surroundings,
            standalone,
            api_server,
            target_ca: Identity::root("target CA"),
            root,
            root_file,
            shutdown,
        }
    }

    /// A world with one HTTP target behind connector `demo/target`.
    pub async fn with_target(h2: bool) -> (World, Target) {
        let world = World::new().await;
        let target = Target::http(&world.leaf(), h2).await;
        world.connect("target", &target.url());
        (world, target)
    }

    pub fn leaf(&self) -> Identity {
        self.target_ca.leaf(&["localhost", "127.0.0.1"])
    }

    /// Connector `demo/<name>`, or one with its namespace, for an address, with the credential and the targets' CA.
    pub fn connect(&self, name: &str, address: &str) {
        let (namespace, name) = name.split_once('/').unwrap_or(("demo", name));
        let ca = format!("caCertSecretRef: {{name: {name}-ca}}");
        let manifests = connector(name, address, &ca, SECRET, &self.target_ca.pem());
        self.apply(&manifests.replace("namespace: demo", &format!("namespace: {namespace}")));
    }

    pub fn apply(&self, manifests: &str) {
        self.standalone.apply(manifests).unwrap();
    }

    pub fn drain(&self) {
        self.shutdown.send(true).unwrap();
    }

    /// Sends bytes to the proxy port and reads until it closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        read.expect("the gateway neither answered nor closed").ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A tunnel through connector `demo/<connector>`, or one with its namespace, with TLS inside.
    pub async fn tunnel(&self, connector: &str, authority: &str, alpn: &[u8]) -> Tls {
        let stream = self.opened(connector, authority, TOKEN).await;
        let host = authority.rsplit_once(':').unwrap().0;
        self.tls(stream, host, alpn).await.expect("TLS inside of the tunnel")
    }

    /// The CONNECT alone.
    pub async fn opened(&self, connector: &str, authority: &str, token: &str) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        self.opened_over(stream, connector, authority, token).await
    }

    /// The same over a connection to the proxy port.
    pub async fn opened_over(
        &self,
        mut stream: TcpStream,
        connector: &str,
        authority: &str,
        token: &str,
    ) -> TcpStream {
        stream.set_nodelay(true).unwrap();
        stream.write_all(connect_head(connector, authority, token).as_bytes()).await.unwrap();
        let head = crate::target::read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        stream
    }

    pub async fn tls(&self, stream: TcpStream, name: &str, alpn: &[u8]) -> Result<Tls, openssl::ssl::Error> {
        let mut tls = SslStream::new(self.client_ssl(name, alpn), stream).unwrap();
        Pin::new(&mut tls).connect().await?;
        Ok(tls)
    }

    /// Trusts the connector root alone.
    pub fn client_ssl(&self, name: &str, alpn: &[u8]) -> Ssl {
        let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
        connector.set_ca_file(self.root_file.path()).unwrap();
        if !alpn.is_empty() {
            connector.set_alpn_protos(alpn).unwrap();
        }
        connector.build().configure().unwrap().into_ssl(name).unwrap()
    }

    /// Standard output of a curl that goes through connector `demo/target`.
    pub async fn curl(&self, arguments: &[&str]) -> Vec<u8> {
        self.curl_by(&format!("http://demo%2Ftarget:{TOKEN}@127.0.0.1:{}", self.port), arguments).await
    }

    /// The same by another proxy URL.
    pub async fn curl_by(&self, proxy: &str, arguments: &[&str]) -> Vec<u8> {
        self.run_curl(&[&["--proxy", proxy, "--noproxy", ""], arguments].concat()).await.0
    }

    /// Status and standard output of a curl without a proxy, for whatever host: `http` URLs go to the plain
    /// port, others to the TLS port.
    pub async fn direct(&self, url: &str, arguments: &[&str]) -> (u16, String) {
        let port = if url.starts_with("http:") { self.port } else { self.https };
        let here = format!("::127.0.0.1:{port}");
        let status = ["--noproxy", "*", "--connect-to", &here, "--write-out", "%{stderr}%{http_code}", url];
        let (text, status) = self.run_curl(&[&status, arguments].concat()).await;
        (status.trim().parse().unwrap_or(0), String::from_utf8(text).unwrap())
    }

    /// Both outputs.
    async fn run_curl(&self, arguments: &[&str]) -> (Vec<u8>, String) {
        let output = tokio::process::Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30", "--cacert"])
            .arg(self.root_file.path())
            .arg("--proxy-cacert")
            .arg(self.root_file.path())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await
            .expect("curl is missing: apt-get install curl");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        (output.stdout, errors)
    }
}

impl Target {
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub fn authority(&self) -> String {
        format!("localhost:{}", self.port)
    }
}

pub fn connect_head(connector: &str, authority: &str, token: &str) -> String {
    let first = connector.split(',').next().unwrap_or_default();
    let namespace = if first.contains('/') { "" } else { "demo/" };
    let login = STANDARD.encode(format!("{namespace}{connector}:{token}"));
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: Basic {login}\r\n\r\n")
}

/// Manifests of a connector, its class, its credential and a CA Secret.
pub fn connector(name: &str, address: &str, extra: &str, token: &str, ca: &str) -> String {
    let ca = STANDARD.encode(ca);
    format!(
        r#"
kind: ConnectorClass
apiVersion: connectors.alauda.io/v1alpha1
metadata: {{name: k8s}}
spec: {{auth: {{types: [{{name: bearerTokenAuth, secretType: connectors.cpaas.io/bearer-token}}]}}}}
---
kind: Secret
apiVersion: v1
metadata: {{namespace: demo, name: {name}}}
type: connectors.cpaas.io/bearer-token
stringData: {{token: {token}}}
---
kind: Secret
apiVersion: v1
metadata: {{namespace: demo, name: {name}-ca}}
data: {{ca.crt: "{ca}"}}
---
kind: Connector
apiVersion: connectors.alauda.io/v1alpha1
metadata: {{namespace: demo, name: {name}}}
spec:
  connectorClassName: k8s
  address: {address}
  auth: {{name: bearerTokenAuth, secretRef: {{name: {name}}}}}
  {extra}
"#
    )
}

/// An intermediate below the root, as the controller issues it.
pub fn issuer(root: &Identity) -> Arc<Issuer> {
    let issuing = root.intermediate("connector issuer");
    let chain = format!("{}{}", issuing.pem(), root.pem());
    Arc::new(Issuer::parse(chain.as_bytes(), issuing.key_pem().as_bytes()).unwrap())
}

/// Counts what it is asked. Turns `old-<token>` into the same client's token of a minute ago, just expired.
pub struct ApiServerOfTest {
    standalone: Standalone,
    pub tokens: AtomicUsize,
    pub accesses: AtomicUsize,
}

#[async_trait::async_trait]
impl Reviews for ApiServerOfTest {
    async fn token(
        &self,
        token: &SecretString,
        audience: &str,
        expires: Option<SystemTime>,
    ) -> Result<Option<Principal>, Away> {
        self.tokens.fetch_add(1, Ordering::SeqCst);
        let text = token.expose_secret();
        if text == UNANSWERED {
            return Err(Away);
        }
        let Some(young) = text.strip_prefix("old-") else {
            return self.standalone.token(token, audience, expires).await;
        };
        let principal = self.standalone.token(&young.into(), audience, expires).await?;
        Ok(principal
            .map(|principal| Principal { expires: SystemTime::now() - Duration::from_secs(60), ..principal }))
    }

    async fn access(&self, principal: &Principal, question: &Question) -> Result<bool, Away> {
        self.accesses.fetch_add(1, Ordering::SeqCst);
        if question.verb == "get" && principal.user.ends_with(":viewer") {
            return Ok(true);
        }
        if principal.user.ends_with(":waiting") {
            return std::future::pending().await;
        }
        self.standalone.access(principal, question).await
    }

    async fn signing_keys(&self) -> Result<Option<SigningKeys>, Away> {
        self.standalone.signing_keys().await
    }
}

/// Of the data plane in each world; `make test` runs all with one, too.
fn workers() -> usize {
    std::env::var("CONNECTORS_WORKERS").map_or(4, |count| count.parse().expect("CONNECTORS_WORKERS"))
}
