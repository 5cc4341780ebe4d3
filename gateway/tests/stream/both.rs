//! One exchange at a time in either protocol, for what holds whichever the client and the target speak.
//! Bodies are of unknown length.

use std::future::{Future, poll_fn};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use connectors_gateway::http::wire::{Decoder, Frame, Framing};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::http::{H1, H2};
use crate::target::{Seen, Target, Tls, read_head};
use crate::world::World;

/// Client's protocol, target's protocol; true is HTTP/2.
pub const COMBINATIONS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

pub type Fields = [(&'static str, &'static str)];

/// Where a body is read from.
pub enum In {
    H1 { io: ReadHalf<Tls>, buf: BytesMut, decoder: Decoder },
    H2(RecvStream),
}

impl In {
    pub async fn next(&mut self) -> Result<Frame, String> {
        match self {
            In::H1 { io, buf, decoder } => loop {
                if let Some(frame) = decoder.next(buf).map_err(|error| format!("{error:?}"))? {
                    return Ok(frame);
                }
                match io.read_buf(buf).await {
                    Ok(0) => return decoder.closed().ok_or_else(|| "not whole".to_owned()),
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            },
            In::H2(body) => match body.data().await {
                Some(data) => {
                    let data = data.map_err(|error| error.to_string())?;
                    body.flow_control().release_capacity(data.len()).map_err(|error| error.to_string())?;
                    Ok(Frame::Data(data))
                }
                None => {
                    let trailers = body.trailers().await.map_err(|error| error.to_string())?;
                    Ok(trailers.map_or(Frame::End, Frame::Trailers))
                }
            },
        }
    }

    /// The rest of a body, and its trailers.
    pub async fn all(&mut self) -> Result<(Vec<u8>, HeaderMap), String> {
        let mut all = Vec::new();
        loop {
            match self.next().await? {
                Frame::Data(data) => all.extend_from_slice(&data),
                Frame::Trailers(trailers) => return Ok((all, trailers)),
                Frame::End => return Ok((all, HeaderMap::new())),
            }
        }
    }
}

/// Where a body is written to.
pub enum Out {
    H1(WriteHalf<Tls>),
    H2(SendStream<Bytes>),
}

impl Out {
    pub async fn data(&mut self, data: &[u8]) -> Result<(), String> {
        match self {
            Out::H1(io) => {
                let chunk = [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat();
                io.write_all(&chunk).await.map_err(|error| error.to_string())
            }
            Out::H2(stream) => {
                let mut data = Bytes::copy_from_slice(data);
                while !data.is_empty() {
                    stream.reserve_capacity(data.len());
                    let room = poll_fn(|cx| stream.poll_capacity(cx)).await.ok_or("closed")?;
                    let piece = data.split_to(room.map_err(|error| error.to_string())?.min(data.len()));
                    stream.send_data(piece, false).map_err(|error| error.to_string())?;
                }
                Ok(())
            }
        }
    }

    pub async fn end(&mut self, trailers: &Fields) -> Result<(), String> {
        match self {
            Out::H1(io) => {
                let end = format!("0\r\n{}\r\n", lines(trailers));
                io.write_all(end.as_bytes()).await.map_err(|error| error.to_string())
            }
            Out::H2(stream) if trailers.is_empty() => {
                stream.send_data(Bytes::new(), true).map_err(|error| error.to_string())
            }
            Out::H2(stream) => stream.send_trailers(map(trailers)).map_err(|error| error.to_string()),
        }
    }
}

fn lines(fields: &Fields) -> String {
    fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

fn map(fields: &Fields) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn parsed(head: &str) -> HeaderMap {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields
        .map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), value.trim().parse::<HeaderValue>().unwrap())
        })
        .collect()
}

fn chunked(io: ReadHalf<Tls>) -> In {
    In::H1 { io, buf: BytesMut::new(), decoder: Framing::Chunked.into() }
}

/// A request as a target's script has it.
pub struct Incoming {
    pub headers: HeaderMap,
    pub body: In,
    pub reply: Reply,
    dies: Arc<Notify>,
}

impl Incoming {
    /// Ends the connection where it stands.
    pub fn die(self) {
        self.dies.notify_one();
    }
}

pub enum Reply {
    H1(Option<WriteHalf<Tls>>),
    H2(SendResponse<Bytes>),
}

impl Reply {
    pub async fn interim(&mut self, status: u16, fields: &Fields) {
        match self {
            Reply::H1(Some(io)) => {
                io.write_all(format!("HTTP/1.1 {status} X\r\n{}\r\n", lines(fields)).as_bytes())
                    .await
                    .unwrap();
            }
            Reply::H1(None) => panic!("it has answered"),
            Reply::H2(respond) => respond.send_informational(response(status, fields)).unwrap(),
        }
    }

    pub async fn head(&mut self, status: u16, fields: &Fields) -> Out {
        match self {
            Reply::H1(io) => {
                let mut io = io.take().expect("it has answered");
                let head =
                    format!("HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n{}\r\n", lines(fields));
                io.write_all(head.as_bytes()).await.unwrap();
                Out::H1(io)
            }
            Reply::H2(respond) => Out::H2(respond.send_response(response(status, fields), false).unwrap()),
        }
    }
}

fn response(status: u16, fields: &Fields) -> Response<()> {
    let mut response = Response::builder().status(status).body(()).unwrap();
    *response.headers_mut() = map(fields);
    response
}

/// A target behind connector `demo/target`. An HTTP/1.1 connection ends with its first script.
pub async fn target<F>(
    world: &World,
    h2: bool,
    script: impl Fn(Incoming, Arc<Seen>) -> F + Send + Sync + 'static,
) -> Target
where
    F: Future<Output = ()> + Send + 'static,
{
    let script = Arc::new(script);
    let target = Target::script(&world.leaf(), &[], if h2 { H2 } else { H1 }, move |tls, seen| {
        let script = script.clone();
        let dies = Arc::new(Notify::new());
        async move {
            tokio::select! {
                () = dies.notified() => {}
                () = serve(tls, &*script, seen, &dies, h2) => {}
            }
        }
    })
    .await;
    world.connect("target", &target.url());
    target
}

async fn serve<F>(
    mut tls: Tls,
    script: &(impl Fn(Incoming, Arc<Seen>) -> F + Sync),
    seen: Arc<Seen>,
    dies: &Arc<Notify>,
    h2: bool,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let dies = dies.clone();
    if !h2 {
        let head = read_head(&mut tls).await;
        if head.is_empty() {
            return;
        }
        seen.heads.lock().unwrap().push(head.clone());
        let (read, write) = tokio::io::split(tls);
        let body = chunked(read);
        return script(Incoming { headers: parsed(&head), body, reply: Reply::H1(Some(write)), dies }, seen)
            .await;
    }
    let mut connection = h2::server::handshake(tls).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (parts, body) = request.into_parts();
        seen.heads.lock().unwrap().push(format!("{} {}", parts.method, parts.uri));
        let incoming = Incoming {
            headers: parts.headers,
            body: In::H2(body),
            reply: Reply::H2(respond),
            dies: dies.clone(),
        };
        tokio::spawn(script(incoming, seen.clone()));
    }
}

/// A request under way. Dropped, its connection ends where it stands.
pub struct Call {
    pub body: Out,
    pub answer: Answer,
    connection: Option<JoinHandle<()>>,
}

pub enum Answer {
    H1(Option<ReadHalf<Tls>>),
    H2(h2::client::ResponseFuture),
}

impl Call {
    /// A POST to the target behind `demo/target`.
    pub async fn start(world: &World, h2: bool, target: &Target, fields: &Fields) -> Call {
        let tls = world.tunnel("target", &target.authority(), if h2 { H2 } else { H1 }).await;
        if !h2 {
            let (read, mut write) = tokio::io::split(tls);
            let host = target.authority();
            let head = format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n{}\r\n",
                lines(fields)
            );
            write.write_all(head.as_bytes()).await.unwrap();
            return Call { body: Out::H1(write), answer: Answer::H1(Some(read)), connection: None };
        }
        let (send, connection) = h2::client::handshake(tls).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::post(format!("{}/", target.url())).body(()).unwrap();
        *request.headers_mut() = map(fields);
        let (answer, body) = send.ready().await.unwrap().send_request(request, false).unwrap();
        Call { body: Out::H2(body), answer: Answer::H2(answer), connection: Some(connection) }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.abort();
        }
    }
}

impl Answer {
    /// An interim head; none if the final one comes first.
    pub async fn interim(&mut self) -> Option<(StatusCode, HeaderMap)> {
        match self {
            Answer::H1(io) => {
                let (status, headers) = h1_head(io.as_mut().expect("it has answered")).await.unwrap();
                assert!(status.is_informational(), "{status}");
                Some((status, headers))
            }
            Answer::H2(answer) => {
                let interim = poll_fn(|cx| answer.poll_informational(cx)).await?.unwrap();
                Some((interim.status(), interim.headers().clone()))
            }
        }
    }

    pub async fn head(&mut self) -> Result<(StatusCode, HeaderMap, In), String> {
        match self {
            Answer::H1(io) => {
                let mut io = io.take().expect("it has answered");
                let (status, headers) = h1_head(&mut io).await?;
                let body = match headers.get("content-length") {
                    Some(length) => Framing::Length(length.to_str().unwrap().parse().unwrap()),
                    None => Framing::Chunked,
                };
                Ok((status, headers, In::H1 { io, buf: BytesMut::new(), decoder: body.into() }))
            }
            Answer::H2(answer) => {
                let (parts, body) = answer.await.map_err(|error| error.to_string())?.into_parts();
                Ok((parts.status, parts.headers, In::H2(body)))
            }
        }
    }
}

async fn h1_head(io: &mut ReadHalf<Tls>) -> Result<(StatusCode, HeaderMap), String> {
    let head = read_head(io).await;
    let status = head.split(' ').nth(1).ok_or("no answer")?;
    Ok((status.parse().unwrap(), parsed(&head)))
}
