//! Targets of the walks: they say which of them they are and which credential they were shown.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use connectors_testenv::pki::Identity;
use tokio::io::AsyncWriteExt;

use crate::target::{Target, Tls, field, read_head};

/// Each request that reached a target: which of its connections, and with which credential.
pub type Seen = Arc<Mutex<Vec<(usize, String)>>>;

/// Answers with its number and the credential that it was shown.
pub async fn target(leaf: &Identity, seen: &Seen, h2: bool) -> Target {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    let seen = seen.clone();
    let alpn: &'static [u8] = if h2 { b"\x02h2" } else { b"\x08http/1.1" };
    Target::script(leaf, &[], alpn, move |tls, _| {
        let (seen, connection) = (seen.clone(), CONNECTIONS.fetch_add(1, Ordering::SeqCst));
        async move {
            if h2 { answer_h2(tls, connection, seen).await } else { answer_h1(tls, connection, seen).await }
        }
    })
    .await
}

async fn answer_h1(mut tls: Tls, connection: usize, seen: Seen) {
    loop {
        let head = read_head(&mut tls).await;
        if head.is_empty() {
            return;
        }
        let credential = field(&head, "authorization").unwrap_or("none").to_owned();
        let body = format!("0 {credential}");
        seen.lock().unwrap().push((connection, credential));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if tls.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn answer_h2(tls: Tls, connection: usize, seen: Seen) {
    let Ok(mut requests) = h2::server::handshake(tls).await else { return };
    while let Some(Ok((request, mut respond))) = requests.accept().await {
        let credential =
            request.headers().get("authorization").map_or("none", |value| value.to_str().unwrap());
        let body = Bytes::from(format!("1 {credential}"));
        seen.lock().unwrap().push((connection, credential.to_owned()));
        let head = http::Response::builder().header("content-length", body.len()).body(()).unwrap();
        if let Ok(mut stream) = respond.send_response(head, false) {
            let _ = stream.send_data(body, true);
        }
    }
}
