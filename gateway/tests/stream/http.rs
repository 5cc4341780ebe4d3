//! A small HTTP client over an open tunnel, in both protocols.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use tokio::io::AsyncWriteExt;

use crate::target::{Tls, read_body, read_head};
use crate::world::World;

pub const H1: &[u8] = b"\x08http/1.1";
pub const H2: &[u8] = b"\x02h2";

/// One HTTP/1.1 exchange; gives the answer's head and body.
pub async fn exchange(tls: &mut Tls, request: &str) -> (String, Vec<u8>) {
    tls.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(tls).await;
    let body = read_body(tls, &head).await.unwrap();
    (head, body)
}

pub fn get(path: &str, authority: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer fake-token\r\n\r\n")
}

#[derive(Clone)]
pub struct H2Client(SendRequest<Bytes>);

impl From<SendRequest<Bytes>> for H2Client {
    fn from(send: SendRequest<Bytes>) -> H2Client {
        H2Client(send)
    }
}

impl H2Client {
    pub async fn open(world: &World, connector: &str, authority: &str) -> H2Client {
        H2Client::over(world.tunnel(connector, authority, H2).await).await
    }

    pub async fn over(tls: Tls) -> H2Client {
        assert_eq!(tls.ssl().selected_alpn_protocol(), Some(&b"h2"[..]));
        let (send, connection) =
            h2::client::Builder::new().initial_window_size(1 << 20).handshake(tls).await.unwrap();
        tokio::spawn(connection);
        H2Client(send)
    }

    /// Resolves when the connection takes no more requests.
    pub async fn refused(&mut self) -> h2::Error {
        loop {
            match self.0.clone().ready().await {
                Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                Err(error) => return error,
            }
        }
    }

    /// The answer's head and the stream of its body.
    pub async fn send(
        &mut self,
        request: Request<()>,
        body: Option<Bytes>,
    ) -> Result<(StatusCode, HeaderMap, h2::RecvStream), h2::Error> {
        self.0 = self.0.clone().ready().await?;
        let (response, mut stream) = self.0.send_request(request, body.is_none())?;
        if let Some(mut body) = body {
            tokio::spawn(async move {
                while !body.is_empty() {
                    stream.reserve_capacity(body.len());
                    let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else {
                        return;
                    };
                    let piece = body.split_to(room.min(body.len()));
                    if stream.send_data(piece, body.is_empty()).is_err() {
                        return;
                    }
                }
            });
        }
        let (parts, body) = response.await?.into_parts();
        Ok((parts.status, parts.headers, body))
    }
}

/// All of a body, and its trailers.
pub async fn collect(mut body: h2::RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}
