//! What clients do all the time: requests over kept connections, tunnels with a watch inside, upgrades, and each mistake
//! that the gateway refuses. A connection that breaks is made again: trouble is part of the course.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_openssl::SslStream;

use super::client;

/// The rates go up and down, so that a plot shows more than a line.
const WAVE: Duration = Duration::from_secs(40);
/// Requests of each kept connection per second, on average.
const RATE: f64 = 12.0;
/// How long a client keeps a tunnel or an upgraded connection.
const STAY: Duration = Duration::from_secs(4);

pub struct Clients {
    /// Of the gateway.
    pub http: String,
    /// Host and port of the API server that is a target.
    pub api_server: String,
    /// A ServiceAccount's token by namespace; the last may use nothing.
    pub tokens: [(&'static str, String); 3],
}

/// Ends with its value.
pub fn start(clients: Clients) -> JoinSet<()> {
    let clients = Arc::new(clients);
    let mut running = JoinSet::new();
    let reads = ["code/200", "code/200", "bytes/20000", "code/200", "slow/30", "code/404"];
    for (who, connector, paths) in [
        (0, "team-a/tool", &reads[..]),
        (0, "team-a/tool", &reads[..4]),
        (0, "team-a/second", &["code/200", "code/302"]),
        (1, "team-b/tool", &["code/200", "code/200", "code/500", "bytes/3000"]),
        (1, "team-b/gone", &["code/200"]),
        (1, "team-b/inside", &["code/200"]),
    ] {
        let (clients, paths) = (clients.clone(), paths.to_vec());
        running.spawn(again(move || clients.clone().repeat(who, connector, paths.clone())));
    }
    for _ in 0..3 {
        let clients = clients.clone();
        running.spawn(again(move || clients.clone().watch()));
    }
    for _ in 0..2 {
        let clients = clients.clone();
        running.spawn(again(move || clients.clone().upgrade()));
    }
    running.spawn(again(move || clients.clone().mistakes()));
    running
}

async fn again<F: Future<Output = Result<()>>>(mut act: impl FnMut() -> F) {
    loop {
        act().await.ok();
        sleep(Duration::from_millis(200)).await;
    }
}

impl Clients {
    /// A request whose record is long.
    pub fn long(&self) -> String {
        self.request(0, "team-a/tool", &"x".repeat(4000), "")
    }

    fn request(&self, who: usize, connector: &str, path: &str, more: &str) -> String {
        let (namespace, name) = connector.split_once('/').unwrap_or_default();
        let (path, token) =
            (format!("/namespaces/{namespace}/connectors/{name}/{path}"), &self.tokens[who].1);
        format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
    }

    /// One connection and its requests, one path after the other.
    async fn repeat(self: Arc<Self>, who: usize, connector: &str, paths: Vec<&str>) -> Result<()> {
        let mut stream = TcpStream::connect(&self.http).await?;
        let begun = Instant::now();
        for path in paths.iter().cycle() {
            let request = self.request(who, connector, path, "");
            timeout(Duration::from_secs(10), client::exchange(&mut stream, &request)).await??;
            let turn = begun.elapsed().as_secs_f64() / WAVE.as_secs_f64() * std::f64::consts::TAU;
            sleep(Duration::from_secs_f64(1.0 / (RATE * (1.0 + 0.7 * turn.sin())))).await;
        }
        Ok(())
    }

    /// As kubectl does: a tunnel, TLS inside, a list and a watch.
    async fn watch(self: Arc<Self>) -> Result<()> {
        let mut stream = self.tunnel(0, "team-a/api", &self.api_server).await?;
        let mut connector = SslConnector::builder(SslMethod::tls())?;
        connector.set_verify(SslVerifyMode::NONE);
        let host = self.api_server.split(':').next().unwrap_or_default();
        let ssl = connector.build().configure()?.verify_hostname(false).into_ssl(host)?;
        let mut tls = SslStream::new(ssl, &mut stream)?;
        Pin::new(&mut tls).connect().await?;
        let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.api_server);
        client::exchange(&mut tls, &ask("/api/v1/namespaces")).await?;
        tls.write_all(ask("/api/v1/namespaces?watch=1").as_bytes()).await?;
        timeout(STAY, tls.read_to_end(&mut Vec::new())).await??;
        Ok(())
    }

    /// The CONNECT alone.
    async fn tunnel(&self, who: usize, connector: &str, authority: &str) -> Result<TcpStream> {
        let login = STANDARD.encode(format!("{connector}:{}", self.tokens[who].1));
        let mut stream = TcpStream::connect(&self.http).await?;
        let connect = format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: Basic {login}\r\n\r\n"
        );
        stream.write_all(connect.as_bytes()).await?;
        let head = client::head(&mut stream).await?;
        ensure!(client::code(&head)? == 200, "{head}");
        Ok(stream)
    }

    async fn upgrade(self: Arc<Self>) -> Result<()> {
        let mut stream = TcpStream::connect(&self.http).await?;
        let more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        stream.write_all(self.request(1, "team-b/tool", "exec", more).as_bytes()).await?;
        client::head(&mut stream).await?;
        let begun = Instant::now();
        while begun.elapsed() < STAY {
            stream.write_all(&[7; 4096]).await?;
            stream.read_exact(&mut [0; 4096]).await?;
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// One of each that is refused.
    async fn mistakes(self: Arc<Self>) -> Result<()> {
        let unknown = "GET /namespaces/team-a/connectors/tool/x HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer nobody\r\n\r\n".to_owned();
        let large = format!("GET / HTTP/1.1\r\nHost: g\r\nX: {}\r\n\r\n", "x".repeat(70_000));
        for request in [
            unknown,
            self.request(2, "team-a/tool", "forbidden", ""),
            self.request(2, "team-c/missing-1", "unusable", ""),
            self.request(0, "team-a/tool", "trace", "").replacen("GET", "TRACE", 1),
            "no request\r\n\r\n".to_owned(),
            large,
            // Half a head, until the gateway's patience ends.
            "GET / HTTP/1.1\r\n".to_owned(),
        ] {
            let mut stream = TcpStream::connect(&self.http).await?;
            stream.write_all(request.as_bytes()).await.ok();
            timeout(Duration::from_secs(3), stream.read(&mut [0; 4096])).await.ok();
        }
        self.tunnel(0, "team-a/tool", "elsewhere.example:443").await.ok();
        let mut no_tls = self.tunnel(0, "team-a/api", &self.api_server).await?;
        no_tls.write_all(&[0x16, 3, 1, 0, 1, 0]).await?;
        timeout(Duration::from_secs(3), no_tls.read(&mut [0; 64])).await.ok();
        Ok(())
    }

    /// Requests with a token that nobody knows yet, as fast as they are answered.
    pub async fn unknown(http: &str, token: &str, count: usize) -> Result<()> {
        for _ in 0..count {
            let mut stream = TcpStream::connect(http).await?;
            let request = format!(
                "GET /namespaces/team-a/connectors/tool/x HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n\r\n"
            );
            client::exchange(&mut stream, &request).await?;
        }
        Ok(())
    }
}
