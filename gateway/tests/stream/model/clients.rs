//! Clients of the walks: requests over tunnels, kept or new, and in reverse mode.

use std::collections::HashMap;
use std::pin::Pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectors_testenv::pki::Identity;
use openssl::ssl::{Ssl, SslConnector, SslMethod};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::http::H1;
use crate::target::{Tls, read_body, read_head};

/// The target that no connector has.
pub const NOBODY: usize = 2;

#[derive(Debug)]
pub enum Outcome {
    /// By the target that says so.
    Served {
        target: usize,
        credential: String,
    },
    Refused(String),
}

/// A request over a tunnel.
pub struct Call<'a> {
    pub user: usize,
    pub connector: &'a str,
    pub target: usize,
    /// The tunnel of the last such request will do.
    pub kept: bool,
    /// Number and text of the token that a new tunnel is opened with.
    pub token: (usize, &'a str),
    /// A token that the request itself brings.
    pub inside: Option<&'a str>,
}

/// The tunnel of a request: the number of the token that it was opened with, and whether that was for this request.
pub struct Opened {
    pub by: usize,
    pub now: bool,
}

pub struct Clients {
    port: u16,
    root: Identity,
    pub hosts: [String; 3],
    /// By user, connector and target; each with the number of its token.
    tunnels: HashMap<(usize, String, usize), (usize, Tls)>,
}

impl Clients {
    pub fn new(port: u16, root: Identity, hosts: [String; 3]) -> Clients {
        Clients { port, root, hosts, tunnels: HashMap::new() }
    }

    /// Forgets what earlier walks have opened.
    pub fn begin(&mut self) {
        self.tunnels.clear();
    }

    /// An error is a certificate that must not be.
    pub async fn tunnel(&mut self, call: &Call<'_>) -> Result<(Outcome, Opened), String> {
        let key = (call.user, call.connector.to_owned(), call.target);
        let login = call.inside.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request =
            format!("GET /api/v1/pods HTTP/1.1\r\nHost: {}\r\n{login}\r\n", self.hosts[call.target]);
        if let Some((by, mut tls)) = self.tunnels.remove(&key).filter(|_| call.kept)
            && let Some(outcome) = exchange(&mut tls, &request).await
        {
            self.tunnels.insert(key, (by, tls));
            return Ok((outcome, Opened { by, now: false }));
        }
        let opened = || Opened { by: call.token.0, now: true };
        let mut tls = match self.open(call).await {
            Ok(tls) => tls,
            Err(why) => return Ok((Outcome::Refused(why), opened())),
        };
        if call.target == NOBODY {
            return Err("there is a certificate for nobody's host".to_owned());
        }
        let Some(outcome) = exchange(&mut tls, &request).await else {
            return Ok((Outcome::Refused("closed".to_owned()), opened()));
        };
        self.tunnels.insert(key, (call.token.0, tls));
        Ok((outcome, opened()))
    }

    async fn open(&self, call: &Call<'_>) -> Result<Tls, String> {
        let authority = &self.hosts[call.target];
        let login = STANDARD.encode(format!("demo/{}:{}", call.connector, call.token.1));
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

    pub async fn reverse(&self, connector: &str, token: &str) -> Outcome {
        let request = format!(
            "GET /api/v1/pods HTTP/1.1\r\nHost: c-{connector}.demo.svc\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        exchange(&mut stream, &request).await.unwrap_or_else(|| Outcome::Refused("closed".to_owned()))
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
