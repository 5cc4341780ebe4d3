//! The small HTTP port for kubelet and Prometheus: `/healthz`, `/readyz` (leader or not; a leader once it works),
//! `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use crate::metrics::Metrics;

/// A client that sends no head for this long is cut, so that idle connections cannot pile up.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// Pause after a failed accept (out of descriptors), instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(answer(stream, metrics.clone()))),
            Err(error) => {
                tracing::warn!("admin port: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, metrics: Arc<Metrics>) {
    let service = service_fn(|request| {
        let response = respond(&request, &metrics);
        async move { response }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("admin connection: {error}");
    }
}

/// A watch that fails later is told and does not make a replica unready: another would fail as well.
fn ready(metrics: &Metrics) -> (StatusCode, String) {
    match (metrics.waits_for(), metrics.watches.trouble()) {
        (Some(why), _) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        (None, Some(trouble)) => (StatusCode::OK, format!("ok, but watches fail: {trouble}\n")),
        (None, None) => (StatusCode::OK, "ok\n".to_owned()),
    }
}

fn respond(request: &Request<Incoming>, metrics: &Metrics) -> Result<Response<Full<Bytes>>, http::Error> {
    let (status, body) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, b"ok\n".to_vec()),
        "/readyz" => {
            let (status, text) = ready(metrics);
            (status, text.into_bytes())
        }
        "/metrics" => match metrics.text() {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
        },
        _ => (StatusCode::NOT_FOUND, b"try /healthz, /readyz or /metrics\n".to_vec()),
    };
    Response::builder()
        .status(status)
        .header("content-type", "text/plain; version=0.0.4")
        .body(Full::new(Bytes::from(body)))
}
