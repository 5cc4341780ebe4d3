//! Targets: TLS servers on loopback that note what reached them. `http` answers by path in either protocol,
//! `script` lets a test speak HTTP/1.1 by hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use connectors_testenv::pki::Identity;
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslMethod, select_next_proto};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

pub type Tls = SslStream<TcpStream>;

pub struct Target {
    pub port: u16,
    pub seen: Arc<Seen>,
}

/// What reached the target.
#[derive(Default)]
pub struct Seen {
    /// TCP connections, and those whose TLS handshake was finished.
    pub connections: AtomicUsize,
    /// Heads of requests as text.
    pub heads: Mutex<Vec<String>>,
    /// Raw application bytes of any kind.
    pub bytes: AtomicUsize,
}

impl Seen {
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

type Script = Arc<dyn Fn(Tls, Arc<Seen>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Target {
    /// `chain`: what is served after the leaf. `alpn`: wire format.
    pub async fn script<F>(
        leaf: &Identity,
        chain: &[&Identity],
        alpn: &'static [u8],
        script: impl Fn(Tls, Arc<Seen>) -> F + Send + Sync + 'static,
    ) -> Target
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let script: Script = Arc::new(move |tls, seen| Box::pin(script(tls, seen)));
        let acceptor = acceptor(leaf, chain, alpn);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let noted = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                noted.connections.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).unwrap();
                let (acceptor, script, seen) = (acceptor.clone(), script.clone(), noted.clone());
                tokio::spawn(async move {
                    let mut tls = SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
                    if Pin::new(&mut tls).accept().await.is_ok() {
                        script(tls, seen).await;
                    }
                });
            }
        });
        Target { port, seen }
    }

    /// HTTP/1.1 and, if `h2`, HTTP/2. `/echo` sends the body back, `/head` what the request's head was,
    /// `/bytes/N` N bytes, `/watch` one line at once and one each 300 ms, `/status/N` that status, and in
    /// HTTP/2 `/empty/N` that status in a head that ends the answer.
    pub async fn http(leaf: &Identity, h2: bool) -> Target {
        let alpn: &'static [u8] = if h2 { b"\x02h2" } else { b"\x08http/1.1" };
        Target::script(leaf, &[], alpn, |tls, seen| async move {
            if tls.ssl().selected_alpn_protocol() == Some(b"h2") {
                serve_h2(tls, seen).await
            } else {
                serve_h1(tls, seen).await
            }
        })
        .await
    }
}

fn acceptor(leaf: &Identity, chain: &[&Identity], alpn: &'static [u8]) -> SslAcceptor {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    // Whatever a test serves: the gateway judges it.
    acceptor.set_security_level(0);
    acceptor.set_certificate(&leaf.cert).unwrap();
    acceptor.set_private_key(&leaf.key).unwrap();
    for one in chain {
        acceptor.add_extra_chain_cert(one.cert.clone()).unwrap();
    }
    acceptor
        .set_alpn_select_callback(move |_, offered| select_next_proto(alpn, offered).ok_or(AlpnError::NOACK));
    acceptor.build()
}

/// Reads up to and with the blank line. Empty at the end of the connection.
pub async fn read_head(tls: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tls.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    })
}

/// Reads the body that a head announces.
pub async fn read_body(
    tls: &mut (impl tokio::io::AsyncRead + Unpin),
    head: &str,
) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = field(head, "content-length") {
        body.resize(length.parse().unwrap(), 0);
        tls.read_exact(&mut body).await?;
    } else if field(head, "transfer-encoding").is_some() {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(tls.read_u8().await?);
            }
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            let at = body.len();
            body.resize(at + size, 0);
            tls.read_exact(&mut body[at..]).await?;
            let mut end = [0; 2];
            tls.read_exact(&mut end).await?;
            assert_eq!(&end, b"\r\n", "no trailers are sent in these tests");
            if size == 0 {
                break;
            }
        }
    }
    Ok(body)
}

async fn serve_h1(mut tls: Tls, seen: Arc<Seen>) {
    loop {
        let head = read_head(&mut tls).await;
        if head.is_empty() {
            return;
        }
        seen.heads.lock().unwrap().push(head.clone());
        if field(&head, "expect").is_some() {
            tls.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        }
        let Ok(body) = read_body(&mut tls, &head).await else { return };
        let path = head.split(' ').nth(1).unwrap().to_owned();
        if path.starts_with("/watch") {
            return watch_h1(tls).await;
        }
        let (status, answer) = answer(&path, &head, body);
        let out = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Kept: 1\r\n\r\n",
            answer.len()
        );
        if tls.write_all(out.as_bytes()).await.is_err() || tls.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn watch_h1(mut tls: Tls) {
    tls.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n").await.unwrap();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if tls.write_all(b"6\r\nevent\n\r\n").await.is_err() {
            return;
        }
    }
}

fn answer(path: &str, head: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    let number = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.parse::<usize>().ok());
    match path {
        "/echo" => (200, body),
        "/head" => (200, head.as_bytes().to_vec()),
        _ => match (number("/bytes/"), number("/status/")) {
            (Some(n), _) => (200, (0..n).map(|i| (i % 251) as u8).collect()),
            (_, Some(status)) => (status as u16, b"{}".to_vec()),
            _ => (200, b"ok".to_vec()),
        },
    }
}

pub async fn serve_h2(tls: Tls, seen: Arc<Seen>) {
    let mut connection =
        h2::server::Builder::new().initial_window_size(1 << 20).handshake::<_, Bytes>(tls).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let seen = seen.clone();
        tokio::spawn(async move { answer_h2(request, respond, seen).await });
    }
}

async fn answer_h2(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    seen: Arc<Seen>,
) {
    let (parts, mut body) = request.into_parts();
    let mut head = format!("{} {} HTTP/2\r\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    seen.heads.lock().unwrap().push(head.clone());
    let mut collected = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        collected.extend_from_slice(&data);
    }
    let path = parts.uri.path();
    if path == "/watch" {
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        let mut line = "first\n";
        while send(&mut stream, Bytes::from_static(line.as_bytes())).await {
            line = "event\n";
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        return;
    }
    if let Some(status) = path.strip_prefix("/empty/") {
        respond.send_response(http::Response::builder().status(status).body(()).unwrap(), true).unwrap();
        return;
    }
    let (status, answer) = answer(path, &head, collected);
    let response = http::Response::builder().status(status).header("x-kept", "1").body(()).unwrap();
    let mut stream = respond.send_response(response, false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", http::HeaderValue::from_static("7"));
    if send(&mut stream, answer.into()).await {
        let _ = stream.send_trailers(trailers);
    }
}

async fn send(stream: &mut h2::SendStream<Bytes>, mut data: Bytes) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return false };
        if stream.send_data(data.split_to(room.min(data.len())), false).is_err() {
            return false;
        }
    }
    true
}
