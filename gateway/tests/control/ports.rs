//! The ports for health and probes: served here, and asked as kubelet and the controller do.

use std::sync::Arc;

use connectors_api::names::PROBE_AUDIENCE;
use connectors_gateway::admin::Admin;
use connectors_gateway::admin::probe::ProbeEndpoint;
use connectors_gateway::admin::server::{Tls, WhenFull, serve};
use connectors_gateway::admit::authenticate::Authenticator;
use connectors_gateway::gateway::Gateway;
use connectors_gateway::probe::Prober;
use connectors_gateway::settings::Tokens;
use connectors_gateway::tls::issuer::Issuer;
use connectors_gateway::upstream::policy;
use connectors_testenv::pki::Identity;
use openssl::ssl::{SslConnector, SslMethod};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

use crate::world::World;

const SERVICE: &str = "connectors-gateway-admin.connectors-system.svc";
const CONTROLLER: &str = "system:serviceaccount:connectors-system:connectors-controller";

/// Starts the port for health and metrics; answers its address.
pub async fn admin(world: &World) -> String {
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
pub async fn probe_port(world: &World) -> (String, Identity) {
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
