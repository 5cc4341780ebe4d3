//! The ports for health and probes as kubelet and the controller use them. The target of the probes is the control plane's
//! own API server.

use std::sync::Arc;

use connectors_api::connector::{Connector, Pin, PinKind};
use connectors_api::names::{ACCEPT_CERTIFICATE_ANNOTATION, AUDIENCE, PROBE_AUDIENCE};
use connectors_api::probe::{self, OutcomeStatus, ProbeReport, ProbeRequest};
use connectors_api::proxy_auth::ConnectorRef;
use connectors_gateway::admin::Admin;
use connectors_gateway::admin::probe::ProbeEndpoint;
use connectors_gateway::admin::server::{Tls, WhenFull, serve};
use connectors_gateway::admit::authenticate::Authenticator;
use connectors_gateway::gateway::Gateway;
use connectors_gateway::probe::Prober;
use connectors_gateway::settings::Tokens;
use connectors_gateway::tls::issuer::Issuer;
use connectors_gateway::upstream::policy;
use connectors_testenv::eventually;
use connectors_testenv::pki::Identity;
use kube::Api;
use openssl::ssl::{SslConnector, SslMethod};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

use crate::world::{World, connector, installed, manifests, run, secret_role};

pub const SERVICE: &str = "connectors-gateway-admin.connectors-system.svc";
const CONTROLLER: &str = "system:serviceaccount:connectors-system:connectors-controller";
/// Of the API server itself, which is the target here.
const TARGET_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// Starts the port for health and metrics; answers its address.
async fn admin(world: &World) -> String {
    let admin = Arc::new(Admin { readiness: world.readiness.clone(), metrics: world.parts.metrics.clone() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = move |request| {
        let admin = admin.clone();
        async move { admin.answer(request).await }
    };
    tokio::spawn(serve(listener, WhenFull::CloseOldest, None, answer));
    address
}

/// Starts the port for probes, under an issuing CA of its own; answers its address and the CA.
async fn probe_port(world: &World) -> (String, Identity) {
    let tokens = Tokens { audience: PROBE_AUDIENCE.to_owned(), ..Tokens::default() };
    let authorization = world.parts.settings.load().authorization.clone();
    let lookups = world.parts.metrics.caches.tokens.clone();
    let authenticator = Authenticator::new(world.cluster.clone(), &tokens, &authorization, lookups).unwrap();
    let gateway = Gateway::new(world.parts.clone(), policy::alone()).unwrap();
    let issuing = Identity::root("issuing");
    let issuer = Issuer::parse(issuing.pem().as_bytes(), issuing.key_pem().as_bytes()).unwrap();
    gateway.parts.issuer.store(Some(Arc::new(issuer)));
    let probe =
        Arc::new(ProbeEndpoint::new(authenticator, CONTROLLER.to_owned(), Prober::new(gateway.clone())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = move |request| {
        let probe = probe.clone();
        async move { probe.answer(request).await }
    };
    let tls: Tls = Some(Arc::new(move || gateway.leaves.own(SERVICE)));
    tokio::spawn(serve(listener, WhenFull::Wait, tls, answer));
    (address, issuing)
}

/// As the controller asks: over TLS, by the name of the Service.
pub async fn ask(address: &str, issuing: &Identity, token: Option<&str>, body: &str) -> (u16, String) {
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    connector.cert_store_mut().add_cert(issuing.cert.clone()).unwrap();
    let ssl = connector.build().configure().unwrap().into_ssl(SERVICE).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = SslStream::new(ssl, stream).unwrap();
    std::pin::Pin::new(&mut stream).connect().await.unwrap();
    exchange(stream, "POST", "/probe", token, body).await
}

/// Status code and body; 0 while nothing listens.
pub async fn http(address: &str, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
    match TcpStream::connect(address).await {
        Ok(stream) => exchange(stream, method, path, token, body).await,
        Err(_) => (0, String::new()),
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> (u16, String) {
    let login = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{login}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // Some servers end without TLS's own goodbye.
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.ok();
    answer.push_str(&String::from_utf8(bytes).unwrap());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

struct Probing {
    world: World,
    address: String,
    issuing: Identity,
    token: String,
}

impl Probing {
    async fn new() -> Probing {
        let world = World::new().await;
        let token = world
            .plane
            .service_account_token("connectors-system", "connectors-controller", PROBE_AUDIENCE, 600)
            .await
            .unwrap();
        let (address, issuing) = probe_port(&world).await;
        Probing { address, issuing, world, token }
    }

    /// Asks as the controller does, until the gateway has seen the connector; `accepted` is what its operator
    /// annotates it with.
    async fn report(&self, of: &ConnectorRef, pins: Vec<Pin>, accepted: Vec<String>) -> ProbeReport {
        let connectors: Api<Connector> = Api::namespaced(self.world.plane.client(), &of.namespace);
        if !accepted.is_empty() {
            let annotation = format!("{ACCEPT_CERTIFICATE_ANNOTATION}={}", accepted.join(","));
            self.world.kubectl(&["annotate", "connector", &of.name, "-n", &of.namespace, &annotation]).await;
        }
        let asked = request(&connectors.get(&of.name).await.unwrap(), pins);
        loop {
            let (code, body) = self.ask(&asked).await;
            match code {
                200 => return serde_json::from_str(&body).unwrap(),
                503 => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                _ => panic!("{code}: {body}"),
            }
        }
    }

    async fn ask(&self, asked: &ProbeRequest) -> (u16, String) {
        let body = serde_json::to_string(asked).unwrap();
        ask(&self.address, &self.issuing, Some(&self.token), &body).await
    }

    async fn connect(&self, namespace: &str, address: &str, token: &str) -> ConnectorRef {
        let k8s = connector(namespace, "k8s");
        self.world.plane.apply(&manifests(&k8s, address, token)).await.unwrap();
        self.world.plane.apply(&secret_role(&k8s)).await.unwrap();
        k8s
    }
}

/// What the controller would ask of this version of the connector.
pub fn request(connector: &Connector, pins: Vec<Pin>) -> ProbeRequest {
    ProbeRequest {
        namespace: connector.metadata.namespace.clone().unwrap(),
        name: connector.metadata.name.clone().unwrap(),
        uid: connector.metadata.uid.clone().unwrap(),
        generation: connector.metadata.generation.unwrap(),
        class_generation: 1,
        annotations: probe::annotations(connector),
        pins,
    }
}

/// Whoever has the controller's token names a connector; where it leads, nobody tells the gateway but the API server.
#[test]
fn only_what_the_gateway_itself_has_seen_is_probed() {
    run(async {
        let probing = Probing::new().await;
        let k8s = probing.connect("probe-seen", "https://127.0.0.1:1", "t").await;
        probing.report(&k8s, Vec::new(), Vec::new()).await;
        let connectors: Api<Connector> = Api::namespaced(probing.world.plane.client(), &k8s.namespace);
        let known = request(&connectors.get(&k8s.name).await.unwrap(), Vec::new());
        for (what, asked, code) in [
            ("itself", known.clone(), 200),
            ("another's uid", ProbeRequest { uid: "u".into(), ..known.clone() }, 503),
            ("a later spec", ProbeRequest { generation: known.generation + 1, ..known.clone() }, 503),
            ("a later class", ProbeRequest { class_generation: 99, ..known.clone() }, 503),
            ("other annotations", ProbeRequest { annotations: "a".into(), ..known.clone() }, 503),
            ("none", ProbeRequest { name: "absent".into(), ..known.clone() }, 503),
            ("no name", ProbeRequest { name: "../k8s".into(), ..known }, 503),
        ] {
            let (got, body) = probing.ask(&asked).await;
            assert_eq!(got, code, "{what}: {body}");
        }
    });
}

#[test]
fn only_the_controllers_own_token_may_ask_for_a_probe() {
    run(async {
        let probing = Probing::new().await;
        let plane = &probing.world.plane;
        let client = plane
            .service_account_token("connectors-system", "connectors-controller", AUDIENCE, 600)
            .await
            .unwrap();
        let other = plane.service_account_token("probe-other", "default", PROBE_AUDIENCE, 600).await.unwrap();
        for (token, code) in [
            (None, 401),
            (Some("garbage"), 401),
            (Some(client.as_str()), 401),
            (Some(&other), 403),
            (Some(&probing.token), 400),
        ] {
            let (got, body) = ask(&probing.address, &probing.issuing, token, "{}").await;
            assert_eq!(got, code, "{body}");
        }
    });
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs().cast_signed()
}

#[test]
fn a_first_contact_is_pinned_and_the_credential_is_tried() {
    run(async {
        let probing = Probing::new().await;
        let url = probing.world.plane.url().to_owned();
        let good = probing
            .world
            .plane
            .service_account_token("probe-first", "robot", TARGET_AUDIENCE, 600)
            .await
            .unwrap();
        let k8s = probing.connect("probe-first", &url, &good).await;
        let report = probing.report(&k8s, Vec::new(), Vec::new()).await;
        assert_eq!(
            (report.trust.status, report.trust.reason.as_str()),
            (OutcomeStatus::True, "Pinned"),
            "{report:?}"
        );
        assert_eq!(
            (report.liveness.status, report.auth.status),
            (OutcomeStatus::True, OutcomeStatus::True),
            "{report:?}"
        );
        assert_eq!(report.pins.len(), 1);
        assert_eq!(report.pins[0].origin, url);
        let again = probing.report(&k8s, report.pins.clone(), Vec::new()).await;
        assert_eq!(again.pins, report.pins);
        assert_eq!(again.auth.status, OutcomeStatus::True, "{again:?}");
        for report in [&report, &again] {
            let remarks = &report.remarks;
            assert_eq!(remarks.identity.as_deref(), Some("system:serviceaccount:probe-first:robot"));
            let left = remarks.expires.unwrap() - now();
            assert!((500..=4000).contains(&left), "the token ends in {left} s");
            assert!(remarks.warnings.is_empty(), "{remarks:?}");
        }
    });
}

#[test]
fn a_wrong_credential_is_told_by_its_status_code_alone() {
    run(async {
        let probing = Probing::new().await;
        let k8s = probing.connect("probe-wrong", probing.world.plane.url(), "not-a-token").await;
        let report = probing.report(&k8s, Vec::new(), Vec::new()).await;
        assert_eq!(report.liveness.status, OutcomeStatus::True, "{report:?}");
        assert_eq!(report.auth.reason, "AuthenticationFailed");
        assert_eq!(report.auth.message, "Authentication failed: status code 401");
    });
}

#[test]
fn a_changed_target_is_not_asked_anything_until_the_operator_accepts_it() {
    run(async {
        let probing = Probing::new().await;
        let url = probing.world.plane.url().to_owned();
        let good = probing
            .world
            .plane
            .service_account_token("probe-changed", "robot", TARGET_AUDIENCE, 600)
            .await
            .unwrap();
        let k8s = probing.connect("probe-changed", &url, &good).await;
        let stale = Pin { origin: url, kind: PinKind::PublicKey, sha256: "00".repeat(32), certificate: None };
        let report = probing.report(&k8s, vec![stale.clone()], Vec::new()).await;
        assert_eq!(
            (report.trust.status, report.trust.reason.as_str()),
            (OutcomeStatus::False, "TargetCertificateChanged")
        );
        assert_eq!(
            (report.liveness.status, report.auth.status),
            (OutcomeStatus::Unknown, OutcomeStatus::Unknown)
        );
        assert_eq!(report.pins, std::slice::from_ref(&stale), "what is pinned stays pinned");
        let fingerprint = report.trust.message.rsplit_once('=').unwrap().1.to_owned();
        let accepted = probing.report(&k8s, vec![stale], vec![fingerprint.clone()]).await;
        assert_eq!(accepted.auth.status, OutcomeStatus::True, "{accepted:?}");
        assert_eq!(
            accepted.pins.iter().map(|pin| pin.sha256.as_str()).collect::<Vec<_>>(),
            [fingerprint.as_str()]
        );
    });
}

#[test]
fn what_is_down_or_denied_is_named_and_nothing_after_it_is_tried() {
    run(async {
        let probing = Probing::new().await;
        for (namespace, address, reason) in [
            ("probe-down", "https://127.0.0.1:1", "ConnectionFailed"),
            ("probe-name", "https://no-such-host.invalid", "ConnectionFailed"),
            ("probe-denied", "https://169.254.169.254", "TargetDenied"),
        ] {
            let k8s = probing.connect(namespace, address, "t").await;
            let report = probing.report(&k8s, Vec::new(), Vec::new()).await;
            assert_eq!(
                (report.liveness.status, report.liveness.reason.as_str()),
                (OutcomeStatus::False, reason),
                "{report:?}"
            );
            assert_eq!(
                (report.trust.status, report.auth.status),
                (OutcomeStatus::Unknown, OutcomeStatus::Unknown)
            );
            let host = address.trim_start_matches("https://").split(':').next().unwrap();
            assert!(report.liveness.message.contains(host), "{}", report.liveness.message);
        }
    });
}

#[test]
fn it_is_ready_once_the_table_is_synced_and_the_issuing_ca_is_there() {
    run(async {
        // Of its own: other tests make the same Secret.
        let world = World::beside(Arc::new(installed().await), |_| {});
        let address = admin(&world).await;
        world.synced().await;
        let ready = async || {
            let (code, body) = http(&address, "GET", "/readyz", None, "").await;
            (code, serde_json::from_str::<Value>(&body).unwrap())
        };
        let (code, detail) = ready().await;
        assert_eq!((code, &detail["table"]), (503, &json!("synced")));
        assert!(detail["issuingCA"].as_str().unwrap().contains("connectors-gateway-ca"), "{detail}");

        let issuing = connectors_testenv::pki::Identity::root("issuing");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"namespace": "connectors-system", "name": "connectors-gateway-ca"},
            "stringData": {"tls.crt": issuing.pem(), "tls.key": issuing.key_pem()}});
        world.plane.apply(&secret.to_string()).await.unwrap();
        eventually("it is ready", async || ready().await.0 == 200).await;
        world.readiness.draining.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(ready().await.0, 503, "draining");
        assert_eq!(http(&address, "GET", "/healthz", None, "").await.0, 200);
        let (_, metrics) = http(&address, "GET", "/metrics", None, "").await;
        assert!(metrics.contains("connectors_gateway_routes_usable"), "{metrics}");
    });
}
