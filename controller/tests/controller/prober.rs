//! The real client of the gateway's /probe, against a server that answers as told.

use std::io::Write;
use std::pin::Pin;

use connectors_api::probe::{ProbeReport, ProbeRequest};
use connectors_controller::prober::fake::healthy;
use connectors_controller::prober::{GatewayProber, ProbeError, Prober};
use connectors_testenv::pki::Identity;
use openssl::ssl::{Ssl, SslAcceptor, SslMethod};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_openssl::SslStream;

struct Gateway {
    url: String,
    /// Vouches for it.
    root: Vec<u8>,
    served: tokio::task::JoinHandle<String>,
}

/// Hangs up on the first `lost` connections, then answers one request with status and body and gives its text.
async fn gateway(lost: usize, status: &'static str, body: String) -> Gateway {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let root = Identity::root("connector root");
    let Identity { cert, key } = root.leaf(&["127.0.0.1"]);
    let served = tokio::spawn(async move {
        for _ in 0..lost {
            drop(listener.accept().await.unwrap());
        }
        let (stream, _) = listener.accept().await.unwrap();
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor.set_certificate(&cert).unwrap();
        acceptor.set_private_key(&key).unwrap();
        let mut stream = SslStream::new(Ssl::new(acceptor.build().context()).unwrap(), stream).unwrap();
        if Pin::new(&mut stream).accept().await.is_err() {
            return "no handshake".to_owned();
        }
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.ends_with("}") || !text.contains("\r\n\r\n") {
            let read = stream.read(&mut buffer).await.unwrap();
            text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        text
    });
    Gateway { url, root: root.cert.to_der().unwrap(), served }
}

async fn ask(url: &str, root: &[u8]) -> Result<ProbeReport, ProbeError> {
    let mut token = tempfile::NamedTempFile::new().unwrap();
    token.write_all(b"the-token").unwrap();
    let prober = GatewayProber::new(url, token.path()).unwrap();
    prober.trust(vec![root.to_vec()]);
    prober.probe(&ProbeRequest::default()).await
}

#[tokio::test]
async fn the_gateway_is_asked_with_the_projected_token_and_its_report_is_read() {
    let Gateway { url, root, served } =
        gateway(0, "200 OK", serde_json::to_string(&healthy()).unwrap()).await;
    assert_eq!(ask(&url, &root).await.unwrap(), healthy());
    let request = served.await.unwrap();
    assert!(request.starts_with("POST /probe HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("\r\nauthorization: bearer the-token\r\n"), "{request}");
}

#[tokio::test]
async fn a_connection_lost_with_a_gateway_pod_is_no_missing_answer() {
    let Gateway { url, root, .. } = gateway(1, "200 OK", serde_json::to_string(&healthy()).unwrap()).await;
    assert_eq!(ask(&url, &root).await.unwrap(), healthy());
}

/// The token opens `/probe` for an hour: it is shown to nobody else.
#[tokio::test]
async fn who_is_not_vouched_for_by_the_connector_ca_never_sees_the_token() {
    let Gateway { url, served, .. } = gateway(1, "200 OK", serde_json::to_string(&healthy()).unwrap()).await;
    let other = Identity::root("connector root").cert.to_der().unwrap();
    assert!(matches!(ask(&url, &other).await, Err(ProbeError::Silent)));
    assert_eq!(served.await.unwrap(), "no handshake");
    let token = tempfile::NamedTempFile::new().unwrap();
    let refused = GatewayProber::new(&url.replace("https", "http"), token.path()).err().unwrap().to_string();
    assert!(refused.contains("is not https"), "{refused}");
}

#[tokio::test]
async fn refusals_failures_and_silence_are_told_apart_and_no_body_is_repeated() {
    for (status, sentence) in [
        ("401 Unauthorized", "refused the controller's token (status code 401)"),
        ("403 Forbidden", "refused the controller's token (status code 403)"),
        ("500 Internal Server Error", "answered the probe with status code 500"),
    ] {
        let Gateway { url, root, .. } = gateway(0, status, "{\"secret\":\"body\"}".into()).await;
        let error = ask(&url, &root).await.unwrap_err().to_string();
        assert!(error.contains(sentence) && !error.contains("body"), "{error}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let root = Identity::root("connector root").cert.to_der().unwrap();
    assert!(matches!(ask(&url, &root).await, Err(ProbeError::Silent)));
}
