//! A target whose answers the path chooses: `/code/<status>`, `/bytes/<count>`, `/slow/<milliseconds>`; all else is 200. Each
//! answer is what a probe takes for a Kubernetes API. An upgrade gets its 101 and then everything back.

use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};

use super::client::{field, head};

const BODY: &str = r#"{"kind":"APIVersions"}"#;

/// Serves until the runtime ends; its URL.
pub async fn start() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(url)
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    loop {
        let head = head(&mut stream).await?;
        if field(&head, "upgrade").is_some() {
            return echo(stream).await;
        }
        if let Some(length) = field(&head, "content-length") {
            stream.read_exact(&mut vec![0; length.parse()?]).await?;
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (code, bytes) = match path.rsplit_once('/') {
            Some((kind, number)) if kind.ends_with("/code") => (number, 0),
            Some((kind, number)) if kind.ends_with("/bytes") => ("200", number.parse()?),
            Some((kind, number)) if kind.ends_with("/slow") => {
                tokio::time::sleep(Duration::from_millis(number.parse()?)).await;
                ("200", 0)
            }
            _ => ("200", 0),
        };
        let body = format!("{BODY:<bytes$}");
        let length = body.len();
        let answer = format!("HTTP/1.1 {code} as asked\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn echo(mut stream: TcpStream) -> Result<()> {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(answer.as_bytes()).await?;
    let (mut read, mut write) = split(stream);
    copy(&mut read, &mut write).await?;
    Ok(())
}
