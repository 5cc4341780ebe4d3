//! The load: connections by each way, and requests over them.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use openssl::ssl::{SslConnector, SslMethod, SslMode};
use openssl::x509::X509;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::authorities::Authorities;
use crate::protocol::{BODY, CIPHERS, GROUPS, Protocol};

/// A list, as kubectl asks for it.
pub const LIST: &str = "/api/v1/namespaces/demo/pods?limit=500";
/// Most of an answer's head and body.
const ANSWER: usize = 4096;

pub type Tls = SslStream<TcpStream>;

/// How to reach a target.
#[derive(Clone)]
pub struct Way {
    pub name: &'static str,
    pub port: u16,
    /// The head of a CONNECT, if there is one.
    pub connect: Option<String>,
    /// Whom the certificate must vouch for.
    pub tls_name: String,
    pub authority: String,
    /// The target's own, or what a proxy replaces.
    pub token: &'static str,
}

impl Way {
    pub fn head(&self, path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: kubectl/v1.36.1 (linux/amd64)\r\naccept: application/json\r\nauthorization: Bearer {}\r\n",
            self.authority, self.token
        )
    }

    pub fn request(&self, path: &str) -> Result<http::Request<()>> {
        let request = http::Request::get(format!("https://{}{path}", self.authority))
            .header("user-agent", "kubectl/v1.36.1 (linux/amd64)")
            .header("accept", "application/json")
            .header("authorization", format!("Bearer {}", self.token));
        Ok(request.body(())?)
    }
}

pub struct Client(SslConnector);

impl Client {
    pub fn new(authorities: &Authorities) -> Result<Client> {
        let mut connector = SslConnector::builder(SslMethod::tls())?;
        connector.cert_store_mut().add_cert(X509::from_pem(authorities.root_pem.as_bytes())?)?;
        connector.set_groups_list(GROUPS)?;
        connector.set_ciphersuites(CIPHERS)?;
        // Thousands of connections idle here too.
        connector.set_mode(SslMode::RELEASE_BUFFERS);
        Ok(Client(connector.build()))
    }

    /// TCP, the CONNECT if there is one, and the handshake.
    pub async fn open(&self, way: &Way, protocol: Protocol) -> Result<Tls> {
        let mut stream = TcpStream::connect(("127.0.0.1", way.port)).await?;
        stream.set_nodelay(true)?;
        if let Some(head) = &way.connect {
            stream.write_all(head.as_bytes()).await?;
            let answer = head_of(&mut stream).await.context("no tunnel")?;
            ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        let mut configuration = self.0.configure()?;
        configuration.set_alpn_protos(protocol.alpn())?;
        let mut tls = SslStream::new(configuration.into_ssl(&way.tls_name)?, stream)?;
        Pin::new(&mut tls).connect().await.with_context(|| format!("handshake, {}", way.name))?;
        ensure!(
            tls.ssl().selected_alpn_protocol() == protocol.alpn().get(1..),
            "{} does not speak {protocol:?}",
            way.name
        );
        Ok(tls)
    }

    pub async fn connection(&self, way: &Way, protocol: Protocol) -> Result<Connection> {
        let tls = self.open(way, protocol).await?;
        match protocol {
            Protocol::H1 => Ok(Connection::H1 { tls, request: (way.head(LIST) + "\r\n").into_bytes() }),
            Protocol::H2 => {
                Ok(Connection::H2 { send: h2(tls).await?, request: Arc::new(way.request(LIST)?) })
            }
        }
    }
}

/// A connection with the request that is sent over it.
pub enum Connection {
    H1 { tls: Tls, request: Vec<u8> },
    H2 { send: SendRequest<Bytes>, request: Arc<http::Request<()>> },
}

impl Connection {
    /// One request, its answer read to the last byte.
    pub async fn exchange(&mut self) -> Result<()> {
        match self {
            Connection::H1 { tls, request } => exchange_h1(tls, request).await,
            Connection::H2 { send, request } => exchange_h2(send, http::Request::clone(request)).await,
        }
    }

    pub async fn repeat(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.exchange().await?;
        }
        Ok(())
    }

    /// Over the same connection, of which HTTP/1.1 has none.
    pub fn stream(&self) -> Option<Connection> {
        match self {
            Connection::H1 { .. } => None,
            Connection::H2 { send, request } => {
                Some(Connection::H2 { send: send.clone(), request: request.clone() })
            }
        }
    }
}

async fn exchange_h1(tls: &mut Tls, request: &[u8]) -> Result<()> {
    tls.write_all(request).await?;
    let mut answer = [0; ANSWER];
    let mut filled = 0;
    loop {
        let n = tls.read(&mut answer[filled..]).await?;
        if n == 0 {
            bail!("closed in an answer: {}", String::from_utf8_lossy(&answer[..filled]));
        }
        filled += n;
        let head = answer[..filled].windows(4).position(|window| window == b"\r\n\r\n");
        ensure!(
            head.is_none() || answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer[..filled])
        );
        if head.is_some_and(|head| filled >= head + 4 + BODY) {
            return Ok(());
        }
    }
}

pub async fn h2(tls: Tls) -> Result<SendRequest<Bytes>> {
    let (send, connection) = h2::client::handshake(tls).await?;
    // Its end is seen by the requests on it.
    tokio::spawn(connection);
    Ok(send)
}

async fn exchange_h2(send: &mut SendRequest<Bytes>, request: http::Request<()>) -> Result<()> {
    let mut body = ask_h2(send, request).await?;
    let mut received = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        received += data.len();
    }
    ensure!(received == BODY, "{received} bytes");
    Ok(())
}

/// A request whose answer is 200; gives its body.
pub async fn ask_h2(send: &mut SendRequest<Bytes>, request: http::Request<()>) -> Result<h2::RecvStream> {
    std::future::poll_fn(|cx| send.poll_ready(cx)).await?;
    let (response, _) = send.send_request(request, true)?;
    let (head, body) = response.await?.into_parts();
    ensure!(head.status == 200, "{}", head.status);
    Ok(body)
}

/// Reads up to and with the blank line, and no byte more.
pub async fn head_of(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(
            stream
                .read_u8()
                .await
                .with_context(|| format!("closed after {:?}", String::from_utf8_lossy(&head)))?,
        );
    }
    Ok(String::from_utf8(head)?)
}
