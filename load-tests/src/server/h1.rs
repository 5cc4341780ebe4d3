//! The target over HTTP/1.1.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::{Asked, BODY, CREDENTIAL, event};

type Tls = SslStream<TcpStream>;

/// Enough for the heads that are sent here; all that a waiting connection has.
const HEAD: usize = 512;

pub async fn serve(mut tls: Tls) -> Result<()> {
    let list = [
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {BODY}\r\n\r\n")
            .into_bytes(),
        vec![b'x'; BODY],
    ]
    .concat();
    let mut buf = Vec::with_capacity(HEAD);
    while tls.read_buf(&mut buf).await? > 0 {
        if !buf.ends_with(b"\r\n\r\n") {
            continue;
        }
        let head = std::str::from_utf8(&buf)?;
        if !authorized(head) {
            tls.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await?;
            bail!("without the credential");
        }
        match Asked::parse(head.split(' ').nth(1).unwrap_or_default()) {
            Asked::List => tls.write_all(&list).await?,
            Asked::Events { count, every } => events(&mut tls, count, every).await?,
            Asked::Quiet => {
                events(&mut tls, 1, Duration::ZERO).await?;
                return drained(tls).await;
            }
            Asked::Endless => bail!("an endless answer over HTTP/1.1"),
            Asked::Stream { bytes } => return Box::pin(stream(tls, bytes)).await,
        }
        buf.clear();
    }
    Ok(())
}

fn authorized(head: &str) -> bool {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("authorization").then_some(value)
    });
    value.is_some_and(|value| value.trim().strip_prefix("Bearer ") == Some(CREDENTIAL))
}

/// Never ends the body: a watch does not.
async fn events(tls: &mut Tls, count: u64, every: Duration) -> Result<()> {
    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    for _ in 0..count {
        tokio::time::sleep(every).await;
        let line = event();
        tls.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await?;
    }
    Ok(())
}

async fn drained(mut tls: Tls) -> Result<()> {
    let mut buf = [0; 16];
    while tls.read(&mut buf).await? > 0 {}
    Ok(())
}

/// 101, then the bytes; stays until the client leaves.
async fn stream(mut tls: Tls, bytes: u64) -> Result<()> {
    tls.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n",
    )
    .await?;
    let piece = vec![0x5a; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let n = left.min(piece.len() as u64);
        tls.write_all(&piece[..n as usize]).await?;
        left -= n;
    }
    drained(tls).await
}
