//! The target over HTTP/2.

use std::future::poll_fn;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::{Asked, BODY, CREDENTIAL, event};

/// Go's server gathers so many bytes of frames before it writes.
const GATHERED: usize = 4 << 10;

/// `gather`: frames that are ready together leave together, as with an API server. It costs each connection a
/// buffer, and a bare server has none.
pub async fn serve(tls: SslStream<TcpStream>, gather: bool) -> Result<()> {
    if gather { answer(BufWriter::with_capacity(GATHERED, tls)).await } else { answer(tls).await }
}

async fn answer(tls: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let mut connection = h2::server::handshake(tls).await?;
    let body = Bytes::from(vec![b'x'; BODY]);
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        if !authorized(request.headers()) {
            respond.send_response(http::Response::builder().status(401).body(())?, true)?;
            continue;
        }
        match Asked::parse(request.uri().path_and_query().map_or("/", |path| path.as_str())) {
            Asked::List => {
                let head = http::Response::builder()
                    .header("content-type", "application/json")
                    .header("content-length", BODY);
                respond.send_response(head.body(())?, false)?.send_data(body.clone(), true)?;
            }
            Asked::Events { count, every } => {
                tokio::spawn(events(respond, count, every));
            }
            Asked::Quiet => {
                tokio::spawn(events(respond, 1, Duration::ZERO));
            }
            Asked::Endless => {
                tokio::spawn(endless(respond));
            }
            Asked::Stream { .. } => respond.send_reset(h2::Reason::HTTP_1_1_REQUIRED),
        }
    }
    Ok(())
}

fn authorized(headers: &http::HeaderMap) -> bool {
    let value = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.strip_prefix("Bearer ")) == Some(CREDENTIAL)
}

/// Stays open after the last, until the client leaves.
async fn events(mut respond: SendResponse<Bytes>, count: u64, every: Duration) -> Result<()> {
    let mut stream: SendStream<Bytes> = respond.send_response(http::Response::new(()), false)?;
    for _ in 0..count {
        tokio::time::sleep(every).await;
        stream.send_data(event().into(), false)?;
    }
    poll_fn(|cx| stream.poll_reset(cx)).await?;
    Ok(())
}

async fn endless(mut respond: SendResponse<Bytes>) -> Result<()> {
    let piece = Bytes::from(vec![b'x'; 16 << 10]);
    let mut stream: SendStream<Bytes> = respond.send_response(http::Response::new(()), false)?;
    loop {
        stream.reserve_capacity(piece.len());
        let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return Ok(()) };
        stream.send_data(piece.slice(..room?.min(piece.len())), false)?;
    }
}
