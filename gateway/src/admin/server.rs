//! A small HTTP server with a bounded number of connections.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use openssl::ssl::{Ssl, SslContext};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::Answer;
use crate::error::Result;

/// Of a handshake, of a request's head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Open connections of one port.
const PLACES: usize = 256;

/// What comes when all places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits to be accepted.
    Wait,
    /// The oldest makes room: whoever holds connections open keeps nobody out.
    CloseOldest,
}

/// The context of each handshake; none: plain HTTP.
pub type Tls = Option<Arc<dyn Fn() -> Result<SslContext> + Send + Sync>>;

/// Serves until the task is dropped.
pub async fn serve<F>(
    listener: TcpListener,
    when_full: WhenFull,
    tls: Tls,
    answer: impl Fn(http::Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Answer> + Send,
{
    let places = Arc::new(Semaphore::new(PLACES));
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let place = match when_full {
            WhenFull::Wait => match places.clone().acquire_owned().await {
                Ok(place) => Some(place),
                Err(_) => return,
            },
            WhenFull::CloseOldest => None,
        };
        let stream = accepted(&listener).await;
        if place.is_none() {
            open.retain(|connection| !connection.is_finished());
            if open.len() >= PLACES
                && let Some(oldest) = open.pop_front()
            {
                oldest.abort();
            }
        }
        let (tls, answer) = (tls.clone(), answer.clone());
        let connection = tokio::spawn(async move {
            match tls {
                None => converse(stream, answer).await,
                Some(context) => match timeout(HEAD_TIMEOUT, secure(stream, &*context)).await {
                    Ok(Ok(stream)) => converse(stream, answer).await,
                    Ok(Err(error)) => tracing::debug!(%error, "no TLS on a port of the control plane"),
                    Err(_) => {}
                },
            }
            drop(place);
        });
        if when_full == WhenFull::CloseOldest {
            open.push_back(connection.abort_handle());
        }
    }
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                // Out of file descriptors, most likely: the next accept would fail at once, too.
                tracing::warn!(%error, "a port of the control plane did not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn secure(
    stream: TcpStream,
    context: &(dyn Fn() -> Result<SslContext> + Send + Sync),
) -> io::Result<SslStream<TcpStream>> {
    let context = context().map_err(io::Error::other)?;
    let mut stream = SslStream::new(Ssl::new(&context)?, stream)?;
    std::pin::Pin::new(&mut stream).accept().await.map_err(io::Error::other)?;
    Ok(stream)
}

/// A peer that goes away is no event here.
async fn converse<F: Future<Output = Answer> + Send>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    answer: impl Fn(http::Request<Incoming>) -> F,
) {
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    server.serve_connection(TokioIo::new(stream), service).await.ok();
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn port(when_full: WhenFull) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = |_| async { Answer::new(Full::new(Bytes::from_static(b"ok"))) };
        tokio::spawn(serve(listener, when_full, None, answer));
        address
    }

    async fn asked(address: std::net::SocketAddr) -> bool {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        timeout(Duration::from_secs(2), stream.read_to_string(&mut text)).await.is_ok_and(|read| read.is_ok())
            && text.ends_with("ok")
    }

    #[tokio::test]
    async fn whoever_holds_all_places_open_keeps_nobody_out_where_the_oldest_makes_room() {
        for (when_full, answered) in [(WhenFull::CloseOldest, true), (WhenFull::Wait, false)] {
            let address = port(when_full).await;
            let mut idle = Vec::new();
            for _ in 0..PLACES {
                idle.push(TcpStream::connect(address).await.unwrap());
            }
            for _ in 0..3 {
                assert_eq!(asked(address).await, answered, "{when_full:?}");
            }
            drop(idle);
            if !answered {
                tokio::time::sleep(Duration::from_millis(200)).await;
                assert!(asked(address).await, "places come back");
            }
        }
    }
}
