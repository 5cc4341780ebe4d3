//! The small HTTP port for kubelet and Prometheus: `/healthz`, `/readyz` (leader or not; a leader once it works),
//! `/metrics`.

use std::collections::VecDeque;
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
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::metrics::Metrics;

/// A client that sends no head for this long is cut, so that idle connections cannot pile up.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// Of a connection: one that does not read its answers must end, too.
const LONGEST: Duration = Duration::from_secs(30);
/// Open connections. The oldest makes room for another: whoever holds them open does not keep kubelet out.
const PLACES: usize = 256;
/// Pause after a failed accept (out of descriptors), instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> Infallible {
    serve_each(LONGEST, listener, metrics).await
}

async fn serve_each(longest: Duration, listener: TcpListener, metrics: Arc<Metrics>) -> Infallible {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= PLACES
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(tokio::spawn(answer(longest, stream, metrics.clone())).abort_handle());
            }
            Err(error) => {
                tracing::warn!("admin port: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(longest: Duration, stream: TcpStream, metrics: Arc<Metrics>) {
    let service = service_fn(|request| {
        let response = respond(&request, &metrics);
        async move { response }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(longest, served).await {
        tracing::debug!("admin connection: {error}");
    }
}

/// A watch that fails later is told and does not make a replica unready: another would fail as well.
fn ready(metrics: &Metrics) -> (StatusCode, String) {
    match (metrics.waits_for(), metrics.watched.health.trouble()) {
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn whoever_holds_connections_open_does_not_keep_kubelet_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(Metrics::new(|| 0).unwrap())));
        let begun = Instant::now();
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut idle = Vec::new();
        for _ in 0..PLACES {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        // Made room, long before it is cut for its silence.
        drop(first.read(&mut [0; 1]).await);
        assert!(begun.elapsed() < HEAD_DEADLINE, "{:?}", begun.elapsed());
        let mut kubelet = TcpStream::connect(address).await.unwrap();
        kubelet.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        kubelet.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }

    /// Neither of them is silent: a deadline for a head ends none.
    #[tokio::test]
    async fn a_connection_ends_in_time_whether_its_client_reads_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let longest = Duration::from_millis(300);
        tokio::spawn(serve_each(longest, listener, Arc::new(Metrics::new(|| 0).unwrap())));
        for reads in [true, false] {
            let begun = Instant::now();
            let mut client = TcpStream::connect(address).await.unwrap();
            let asks = async {
                while client.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok() {
                    if reads && !client.read(&mut [0; 16 << 10]).await.is_ok_and(|read| read > 0) {
                        break;
                    }
                }
            };
            timeout(HEAD_DEADLINE, asks).await.expect("it ends in time");
            assert!(begun.elapsed() >= longest, "{:?}", begun.elapsed());
        }
    }
}
