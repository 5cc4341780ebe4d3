//! An API server that says to TokenReviews what a test wants, and the binary beside it.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use connectors_api::names::AUDIENCE;
use connectors_testenv::{eventually, kubeconfig_in_the_clear};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{Process, free_address, write};

/// It names a key of a kind which only itself can judge.
pub struct ApiServer {
    address: String,
    reviews: Arc<AtomicUsize>,
}

impl ApiServer {
    /// `status`: of its answer to each TokenReview, with what else belongs to its head.
    pub async fn start(status: &str, review: &str) -> ApiServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let reviews = Arc::<AtomicUsize>::default();
        let (answer, count) = ((status.to_owned(), review.to_owned()), reviews.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, answer.clone(), count.clone()));
            }
        });
        ApiServer { address, reviews }
    }

    /// TokenReviews so far.
    pub fn reviews(&self) -> usize {
        self.reviews.load(Ordering::SeqCst)
    }
}

async fn converse(mut stream: TcpStream, review: (String, String), reviews: Arc<AtomicUsize>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    let json =
        |status: &str, body: Value| (format!("{status}\r\nContent-Type: application/json"), body.to_string());
    let (status, body) = match head.split(' ').nth(1)? {
        "/.well-known/openid-configuration" => json("200 OK", json!({"issuer": "https://home"})),
        "/openid/v1/jwks" => json("200 OK", json!({"keys": [{"kty": "OKP", "kid": "k"}]})),
        path if path.contains("/tokenreviews") => {
            reviews.fetch_add(1, Ordering::SeqCst);
            review
        }
        _ => json("404 Not Found", json!({})),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await.ok()
}

/// Logs to the file `log` beside its settings.
pub async fn gateway(server: &ApiServer, rust_log: &str) -> Process {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig_in_the_clear(&format!("http://{}", server.address));
    let kubeconfig = write(folder.path(), "kubeconfig", &kubeconfig);
    let (http, admin) = (free_address().await, free_address().await);
    let settings = json!({"threads": 1, "listeners": {"http": http, "https": "127.0.0.1:0", "admin": admin, "health": "127.0.0.1:0", "probe": "127.0.0.1:0"}});
    write(folder.path(), "gateway.yaml", &settings.to_string());
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_connectors-gateway"));
    command.arg("--settings-dir").arg(folder.path()).env("KUBECONFIG", kubeconfig);
    let child = command.env("RUST_LOG", rust_log).stdin(Stdio::null()).stderr(log).spawn().unwrap();
    let gateway = Process { child, http, admin, probe: String::new(), files: folder };
    eventually("it listens", async || TcpStream::connect(&gateway.http).await.is_ok()).await;
    gateway
}

/// Of the API server's issuer, and signed by nobody.
pub fn token() -> String {
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let claims = json!({"iss": "https://home", "aud": [AUDIENCE], "exp": 4_000_000_000u32, "sub": "system:serviceaccount:a:b"});
    let signature = URL_SAFE_NO_PAD.encode("signature");
    format!("{}.{}.{signature}", encode(json!({"alg": "EdDSA", "kid": "k"})), encode(claims))
}

pub fn login(token: &str) -> String {
    STANDARD.encode(format!("demo/k8s:{token}"))
}

/// The gateway's answer.
pub async fn connect(gateway: &Process, token: &str) -> String {
    let mut stream = TcpStream::connect(&gateway.http).await.unwrap();
    let login = login(token);
    let head = format!(
        "CONNECT target:443 HTTP/1.1\r\nHost: target:443\r\nProxy-Authorization: Basic {login}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
