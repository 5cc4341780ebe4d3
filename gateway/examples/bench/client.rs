//! The load: one CONNECT, then requests as fast as their answers come.

use std::pin::Pin;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use h2::client::SendRequest;
use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::X509;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::process::TOKEN;
use crate::target::{BODY, Certificates};

pub const H1_ALPN: &[u8] = b"\x08http/1.1";
pub const H2_ALPN: &[u8] = b"\x02h2";

pub type Tls = SslStream<TcpStream>;

pub struct Client {
    connector: SslConnector,
    port: u16,
}

impl Client {
    pub fn new(certificates: &Certificates, port: u16) -> Result<Client> {
        let mut connector = SslConnector::builder(SslMethod::tls())?;
        connector.cert_store_mut().add_cert(X509::from_pem(certificates.root_pem.as_bytes())?)?;
        connector.set_groups_list("X25519")?;
        Ok(Client { connector: connector.build(), port })
    }

    async fn tls(&self, stream: TcpStream, alpn: &[u8]) -> Result<Tls> {
        let mut configuration = self.connector.configure()?;
        configuration.set_alpn_protos(alpn)?;
        let mut tls = SslStream::new(configuration.into_ssl("127.0.0.1")?, stream)?;
        Pin::new(&mut tls).connect().await?;
        Ok(tls)
    }

    pub async fn direct(&self, port: u16) -> Result<Tls> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        self.tls(stream, H1_ALPN).await
    }

    pub async fn tunnel(&self, connector: &str, port: u16, alpn: &[u8]) -> Result<Tls> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let login = STANDARD.encode(format!("demo/{connector}:{TOKEN}"));
        let head =
            format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nProxy-Authorization: Basic {login}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.with_context(|| format!("no tunnel: {}", String::from_utf8_lossy(&answer)))?);
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        self.tls(stream, alpn).await
    }
}

/// One request, its answer read to the last byte.
pub async fn exchange(tls: &mut Tls, port: u16) -> Result<()> {
    let request = format!(
        "GET /api/v1/namespaces/demo/pods?limit=500 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: kubectl/v1.36.1 (linux/amd64)\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\nAuthorization: Bearer fake-token\r\n\r\n"
    );
    tls.write_all(request.as_bytes()).await?;
    let mut answer = [0; 4096];
    let mut filled = 0;
    loop {
        let n = tls.read(&mut answer[filled..]).await?;
        if n == 0 {
            bail!("closed in an answer");
        }
        filled += n;
        let head = answer[..filled].windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|head| filled >= head + 4 + BODY) {
            ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..filled]));
            return Ok(());
        }
    }
}

#[derive(Clone)]
pub struct H2(SendRequest<Bytes>);

impl H2 {
    pub async fn open(tls: Tls) -> Result<H2> {
        let (send, connection) = h2::client::handshake(tls).await?;
        tokio::spawn(connection);
        Ok(H2(send))
    }

    pub async fn exchange(&mut self, port: u16) -> Result<()> {
        self.0 = self.0.clone().ready().await?;
        let request = http::Request::get(format!("https://127.0.0.1:{port}/api/v1/namespaces/demo/pods?limit=500"))
            .header("user-agent", "kubectl/v1.36.1 (linux/amd64)")
            .header("accept", "application/json")
            .header("authorization", "Bearer fake-token")
            .body(())?;
        let (response, _) = self.0.send_request(request, true)?;
        let (head, mut body) = response.await?.into_parts();
        ensure!(head.status == 200, "{}", head.status);
        let mut received = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            received += data.len();
        }
        ensure!(received == BODY, "{received} bytes");
        Ok(())
    }
}
