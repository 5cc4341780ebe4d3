//! The real client of the gateway's /probe, against a server that answers as told.

use std::io::Write;

use connectors_api::probe::{ProbeReport, ProbeRequest};
use connectors_api::{Connector, ConnectorClass};
use connectors_controller::prober::fake::healthy;
use connectors_controller::prober::{GatewayProber, ProbeError, Prober};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Hangs up on the first `lost` connections, then answers one request with status and body; returns its
/// address and, later, the request's text.
async fn gateway(
    lost: usize,
    status: &'static str,
    body: String,
) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        for _ in 0..lost {
            drop(listener.accept().await.unwrap());
        }
        let (mut stream, _) = listener.accept().await.unwrap();
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
    (url, served)
}

async fn ask(url: &str) -> Result<ProbeReport, ProbeError> {
    let mut token = tempfile::NamedTempFile::new().unwrap();
    token.write_all(b"the-token").unwrap();
    let request = ProbeRequest {
        connector: Connector::default(),
        class: ConnectorClass::default(),
        pins: Vec::new(),
        accepted: Vec::new(),
    };
    GatewayProber::new(url, token.path()).unwrap().probe(&request).await
}

#[tokio::test]
async fn the_gateway_is_asked_with_the_projected_token_and_its_report_is_read() {
    let (url, served) = gateway(0, "200 OK", serde_json::to_string(&healthy()).unwrap()).await;
    assert_eq!(ask(&url).await.unwrap(), healthy());
    let request = served.await.unwrap();
    assert!(request.starts_with("POST /probe HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("\r\nauthorization: bearer the-token\r\n"), "{request}");
}

#[tokio::test]
async fn a_connection_lost_with_a_gateway_pod_is_no_missing_answer() {
    let (url, _served) = gateway(1, "200 OK", serde_json::to_string(&healthy()).unwrap()).await;
    assert_eq!(ask(&url).await.unwrap(), healthy());
}

#[tokio::test]
async fn refusals_failures_and_silence_are_told_apart_and_no_body_is_repeated() {
    for (status, sentence) in [
        ("401 Unauthorized", "refused the controller's token (status code 401)"),
        ("403 Forbidden", "refused the controller's token (status code 403)"),
        ("500 Internal Server Error", "answered the probe with status code 500"),
    ] {
        let (url, _served) = gateway(0, status, "{\"secret\":\"body\"}".into()).await;
        let error = ask(&url).await.unwrap_err().to_string();
        assert!(error.contains(sentence) && !error.contains("body"), "{error}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert!(matches!(ask(&url).await, Err(ProbeError::Silent)));
}
