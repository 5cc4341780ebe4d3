//! A target that notes what it has parsed, with a parser of its own, in one text per request. It answers
//! `ok`, keeps its connections, and says on which connection a request came.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::target::{Target, Tls, read_head};
use crate::world::{SECRET, World};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `METHOD path`, other fields than the gateway's own in order, a blank line, the body.
    pub text: String,
    pub method: String,
    pub path: String,
    pub body: usize,
    pub connection: usize,
}

pub struct Witness {
    pub target: Target,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Witness {
    pub async fn start(world: &World, h2: bool) -> Witness {
        let (seen, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let noted = seen.clone();
        let alpn: &'static [u8] = if h2 { b"\x02h2" } else { b"\x08http/1.1" };
        let target = Target::script(&world.leaf(), &[], alpn, move |tls, _| {
            let (noted, connection) = (noted.clone(), connections.fetch_add(1, Ordering::SeqCst));
            async move {
                if tls.ssl().selected_alpn_protocol() == Some(b"h2") {
                    serve_h2(tls, &noted, connection).await;
                } else {
                    serve_h1(tls, &noted, connection).await;
                }
            }
        })
        .await;
        Witness { target, seen }
    }

    pub fn authority(&self) -> String {
        self.target.authority()
    }

    /// What was seen since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Fields by name; one name stands once for each value.
#[derive(Default)]
struct Fields(BTreeMap<String, Vec<String>>);

impl Fields {
    fn add(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
    }

    /// The only value of a field, taken out.
    fn take(&mut self, name: &str) -> Option<String> {
        let mut values = self.0.remove(name)?;
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values.pop()
    }

    fn seen(mut self, method: &str, path: &str, body: &[u8], connection: usize) -> Seen {
        assert_eq!(
            self.take("authorization"),
            Some(format!("Bearer {SECRET}")),
            "another credential than the connector's"
        );
        assert!(
            self.take("audit-id").is_some_and(|id| id.len() == 36),
            "not one Audit-ID, or another than the gateway's"
        );
        assert!(
            self.take("connectors-gateway-hops").is_some_and(|id| id.len() == 16),
            "not one id of this installation"
        );
        // `TE` belongs to the connection, and HTTP/1.1 says so.
        if self.0.contains_key("te") && self.0.get("connection").is_some_and(|values| values == &["te"]) {
            self.0.remove("connection");
        }
        let mut text = format!("{method} {path}\n");
        for (name, values) in &self.0 {
            for value in values {
                text.push_str(&format!("{name}: {value}\n"));
            }
        }
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(body));
        // Trailers do not count.
        let body = body.iter().position(|byte| *byte == b'+').unwrap_or(body.len());
        Seen { text, method: method.to_owned(), path: path.to_owned(), body, connection }
    }
}

async fn serve_h1(mut tls: Tls, seen: &Mutex<Vec<Seen>>, connection: usize) {
    let authority = format!("localhost:{}", tls.get_ref().local_addr().unwrap().port());
    loop {
        let head = read_head(&mut tls).await;
        let Some((line, rest)) = head.split_once("\r\n") else { return };
        let parts: Vec<&str> = line.split(' ').collect();
        assert!(parts.len() == 3 && parts[2] == "HTTP/1.1", "a broken request line: {line:?}");
        let mut fields = Fields::default();
        for field in rest.lines().filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once(": ").unwrap_or_else(|| panic!("a broken field: {field:?}"));
            fields.add(name, value);
        }
        assert_eq!(fields.take("host").as_ref(), Some(&authority), "{head}");
        let chunked = fields.take("transfer-encoding");
        assert!(chunked.is_none() || !fields.0.contains_key("content-length"), "framed twice: {head}");
        if fields.0.contains_key("expect") && tls.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
            return;
        }
        let framing = rest.to_ascii_lowercase();
        let Ok(body) = read_framed(&mut tls, &framing, chunked.is_some()).await else { return };
        seen.lock().unwrap().push(fields.seen(parts[0], parts[1], &body, connection));
        let body = if parts[0] == "HEAD" { "" } else { "ok" };
        if tls
            .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}").as_bytes())
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn read_framed(tls: &mut Tls, head: &str, chunked: bool) -> std::io::Result<Vec<u8>> {
    if !chunked {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        tls.read_exact(&mut body).await?;
        return Ok(body);
    }
    let mut body = Vec::new();
    loop {
        let line = read_line(tls).await?;
        let size =
            usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("a broken chunk size: {line:?}"));
        if size == 0 {
            break;
        }
        let at = body.len();
        body.resize(at + size, 0);
        tls.read_exact(&mut body[at..]).await?;
        assert_eq!(read_line(tls).await?, "", "a chunk that is longer than its size");
    }
    // Trailers stand behind the body.
    loop {
        let line = read_line(tls).await?;
        if line.is_empty() {
            return Ok(body);
        }
        body.extend_from_slice(format!("+{line}").as_bytes());
    }
}

async fn read_line(tls: &mut Tls) -> std::io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(tls.read_u8().await?);
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8(line).unwrap())
}

async fn serve_h2(tls: Tls, seen: &Arc<Mutex<Vec<Seen>>>, connection: usize) {
    let authority = format!("localhost:{}", tls.get_ref().local_addr().unwrap().port());
    let Ok(mut requests) = h2::server::handshake(tls).await else { return };
    while let Some(Ok((request, respond))) = requests.accept().await {
        let (seen, authority) = (seen.clone(), authority.clone());
        tokio::spawn(async move { answer_h2(request, respond, &seen, &authority, connection).await });
    }
}

async fn answer_h2(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    seen: &Mutex<Vec<Seen>>,
    authority: &str,
    connection: usize,
) {
    let (parts, mut incoming) = request.into_parts();
    assert_eq!(parts.uri.authority().map(http::uri::Authority::as_str), Some(authority));
    let mut fields = Fields::default();
    for (name, value) in &parts.headers {
        fields.add(name.as_str(), &String::from_utf8_lossy(value.as_bytes()));
    }
    let mut body = Vec::new();
    while let Some(data) = incoming.data().await {
        let Ok(data) = data else { return };
        incoming.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    for (name, value) in incoming.trailers().await.ok().flatten().iter().flatten() {
        body.extend_from_slice(format!("+{name}: {}", value.to_str().unwrap()).as_bytes());
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    seen.lock().unwrap().push(fields.seen(parts.method.as_str(), path, &body, connection));
    let head = http::Response::builder().header("content-length", 2).body(()).unwrap();
    let end = parts.method == http::Method::HEAD;
    if let (Ok(mut stream), false) = (respond.send_response(head, end), end) {
        let _ = stream.send_data(Bytes::from_static(b"ok"), true);
    }
}
