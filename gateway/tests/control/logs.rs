//! What the binary logs when the API server's answers cannot be read: kube would log them whole, and RUST_LOG
//! must not bring that back.

use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use connectors_api::names::AUDIENCE;
use connectors_testenv::{eventually, kubeconfig_in_the_clear};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{Process, ended, free_address, terminate, write};
use crate::world::run;

/// An API server that names a key of a kind which only itself can judge, and echoes a token in a review that
/// is none.
async fn api_server(token: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, token.clone()));
        }
    });
    address
}

async fn answer(mut stream: TcpStream, token: String) -> Option<()> {
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
    let (status, body) = match head.split(' ').nth(1)? {
        "/.well-known/openid-configuration" => (200, json!({"issuer": "https://home"})),
        "/openid/v1/jwks" => (200, json!({"keys": [{"kty": "OKP", "kid": "k"}]})),
        path if path.contains("/tokenreviews") => {
            (201, json!({"spec": {"token": token}, "status": "broken"}))
        }
        _ => (404, json!({})),
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.ok()
}

fn token() -> String {
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let claims = json!({"iss": "https://home", "aud": [AUDIENCE], "exp": 4_000_000_000u32, "sub": "system:serviceaccount:a:b"});
    let signature = URL_SAFE_NO_PAD.encode("signature");
    format!("{}.{}.{signature}", encode(json!({"alg": "EdDSA", "kid": "k"})), encode(claims))
}

#[test]
fn an_unreadable_answer_is_never_logged_whatever_rust_log_asks_for() {
    run(async {
        let token = token();
        let server = api_server(token.clone()).await;
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = kubeconfig_in_the_clear(&format!("http://{server}"));
        let kubeconfig = write(folder.path(), "kubeconfig", &kubeconfig);
        let (http, admin) = (free_address().await, free_address().await);
        let settings = json!({"threads": 1, "listeners": {"http": http, "https": "127.0.0.1:0", "admin": admin, "health": "127.0.0.1:0"}});
        write(folder.path(), "gateway.yaml", &settings.to_string());
        let log = folder.path().join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_connectors-gateway"));
        command.arg("--settings-dir").arg(folder.path()).env("KUBECONFIG", kubeconfig);
        command.env("RUST_LOG", "trace,kube_client::client=trace").stdin(Stdio::null());
        let child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let mut gateway = Process { child, http, admin, probe: String::new(), files: folder };
        eventually("it listens", async || TcpStream::connect(&gateway.http).await.is_ok()).await;
        let mut stream = TcpStream::connect(&gateway.http).await.unwrap();
        let login = STANDARD.encode(format!("demo/k8s:{token}"));
        let head = format!(
            "CONNECT target:443 HTTP/1.1\r\nHost: target:443\r\nProxy-Authorization: Basic {login}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        // Lines are written with a delay: only at the end is the log complete.
        terminate(&gateway);
        assert!(ended(&mut gateway).await.success());
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains("its answer cannot be read") && text.contains("TRACE"), "{text}");
        for secret in [token.as_str(), login.as_str(), token.split('.').nth(1).unwrap()] {
            assert!(!text.contains(secret), "{secret} is in the log");
        }
    });
}
