//! As much of an HTTP/1.1 client as the traffic needs: one request after the other over one connection.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Answer {
    pub code: u16,
    pub body: String,
}

/// An address of loopback on which nobody listens.
pub async fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string())
}

/// A request on a connection of its own.
pub async fn get(address: &str, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without a head")?;
    Ok(Answer { code: code(head)?, body: body.to_owned() })
}

/// Sends a request and reads its answer to the end; the connection may be used again.
pub async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> Result<Answer> {
    stream.write_all(request.as_bytes()).await?;
    let head = head(stream).await?;
    let code = code(&head)?;
    let length = field(&head, "content-length").and_then(|length| length.parse().ok());
    let mut body = Vec::new();
    if let Some(length) = length {
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
    } else if field(&head, "transfer-encoding").is_some() {
        until(stream, &mut body, b"0\r\n\r\n").await?;
    }
    Ok(Answer { code, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The head of a message, its last line end included.
pub async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    let mut bytes = Vec::new();
    until(stream, &mut bytes, b"\r\n\r\n").await?;
    Ok(String::from_utf8(bytes)?)
}

/// Byte by byte, so that nothing behind the end is taken.
async fn until(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>, end: &[u8]) -> Result<()> {
    while !bytes.ends_with(end) {
        bytes.push(stream.read_u8().await?);
    }
    Ok(())
}

pub fn code(head: &str) -> Result<u16> {
    match head.split(' ').nth(1).and_then(|code| code.parse().ok()) {
        Some(code) => Ok(code),
        None => bail!("no status line: {head:?}"),
    }
}

/// The value of a field, by its name in lower case.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}
