//! Hostile answers, to clients of either protocol. A client gets the answer whole, or a Status, or sees that
//! it is cut; and what a target has sent beyond its answer is never the beginning of another one.

mod bodies;
mod h1;
mod h2;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{PATIENCE, read_answer_head};
use crate::http::{H1, H2Client, collect};
use crate::target::{Target, Tls, field, read_body, read_head};
use crate::world::World;

/// What a client makes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// This answer, whole.
    Whole(u16, &'static str),
    /// A head with this status, and no end of the body.
    Cut(u16),
    /// A Status of ours.
    Status(u16),
}

pub use Told::{Cut, Status, Whole};

/// One answer, and what becomes of it.
pub struct Case<R> {
    pub name: &'static str,
    pub method: &'static str,
    pub row: R,
    pub told: Told,
    /// The next request must come to the target by another connection.
    pub spoilt: bool,
}

/// A target that answers one request as its row says, every other one well.
pub struct Villain<R> {
    pub target: Target,
    row: Arc<Mutex<Option<R>>>,
    /// Connections so far, and the one on which the last request came.
    connections: Arc<AtomicUsize>,
    last: Arc<AtomicUsize>,
}

impl<R: Send + 'static> Villain<R> {
    /// `serve` takes the row for each request, and notes by `Desk` that one has come.
    pub async fn start<F>(
        world: &World,
        alpn: &'static [u8],
        serve: impl Fn(Tls, Desk<R>) -> F + Send + Sync + 'static,
    ) -> Villain<R>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (row, connections, last) = (Arc::new(Mutex::new(None)), Arc::default(), Arc::default());
        let desk = (row.clone(), Arc::clone(&connections), Arc::clone(&last));
        let target = Target::script(&world.leaf(), &[], alpn, move |tls, _| {
            let (row, connections, last): (_, Arc<AtomicUsize>, _) = desk.clone();
            serve(tls, Desk { row, last, connection: connections.fetch_add(1, Ordering::SeqCst) + 1 })
        })
        .await;
        world.connect("target", &target.url());
        Villain { target, row, connections, last }
    }

    /// One request with the row for an answer, then a good one on another connection of the client.
    pub async fn judge(&self, world: &World, case: Case<R>, h2: bool) {
        let Case { name, method, row, told, spoilt } = case;
        *self.row.lock().unwrap() = Some(row);
        let authority = self.target.authority();
        let ask = async {
            if h2 { by_h2(world, &authority, method).await } else { by_h1(world, &authority, method).await }
        };
        let got = tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| panic!("{name}: no end"));
        let said = format!("{name}, HTTP/2: {h2}");
        // A head that is not on the wire yet when the rest turns out to be broken is not sent.
        let taken_back = got.is_none() && matches!(told, Cut(_));
        assert!(taken_back || got == expected(told), "{said}: {got:?}, not {told:?}");
        let bad = self.last.load(Ordering::SeqCst);
        // The gateway puts a connection back once the client has seen the end of its answer.
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(by_h1(world, &authority, "GET").await, expected(Whole(200, "good")), "after {said}");
        let good = self.last.load(Ordering::SeqCst);
        assert_eq!(
            bad != good,
            spoilt,
            "{said}: connections {bad} and {good} of {}",
            self.connections.load(Ordering::SeqCst)
        );
    }
}

/// What a connection of a villain knows.
pub struct Desk<R> {
    row: Arc<Mutex<Option<R>>>,
    last: Arc<AtomicUsize>,
    connection: usize,
}

impl<R> Desk<R> {
    /// A request has come: its row, none for a good answer.
    pub fn row(&self) -> Option<R> {
        self.last.store(self.connection, Ordering::SeqCst);
        self.row.lock().unwrap().take()
    }
}

/// The answer, its body, and whether all of it came; a Status of ours has no body here.
type Got = Option<(u16, String, bool)>;

fn expected(told: Told) -> Got {
    match told {
        Whole(status, body) => Some((status, body.to_owned(), true)),
        Cut(status) => Some((status, String::new(), false)),
        Status(status) => Some((status, "Status".to_owned(), true)),
    }
}

fn got(status: u16, body: Result<Vec<u8>, ()>) -> Got {
    let Ok(body) = body else { return Some((status, String::new(), false)) };
    let text = String::from_utf8(body).unwrap();
    let ours = text.starts_with(r#"{"kind":"Status""#) || text.contains(r#""kind":"Status""#);
    Some((status, if ours { "Status".to_owned() } else { text }, true))
}

async fn by_h1(world: &World, authority: &str, method: &str) -> Got {
    let mut tls = world.tunnel("target", authority, H1).await;
    tls.write_all(format!("{method} / HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await.unwrap();
    let head = loop {
        let head = read_answer_head("", &mut tls).await;
        // An interim head has no framing that a client could believe.
        if !head.starts_with("HTTP/1.1 1") {
            break head;
        }
        for name in ["content-length", "transfer-encoding", "connection", "upgrade"] {
            assert_eq!(field(&head, name), None, "{head}");
        }
    };
    let status = head.split(' ').nth(1)?.parse().unwrap();
    if status == 204 {
        assert_eq!(
            (field(&head, "content-length"), field(&head, "transfer-encoding")),
            (None, None),
            "{head}"
        );
    }
    let body = match method == "HEAD" || matches!(status, 204 | 304) {
        true => Ok(Vec::new()),
        false => read_body(&mut tls, &head).await.map_err(|_| ()),
    };
    // Nothing stands behind the answer that a client could take for another.
    let mut next = [0; 1];
    let more =
        tokio::time::timeout(Duration::from_millis(2), tokio::io::AsyncReadExt::read(&mut tls, &mut next))
            .await;
    assert!(!matches!(more, Ok(Ok(1))), "more than one answer: {head}");
    got(status, body)
}

async fn by_h2(world: &World, authority: &str, method: &str) -> Got {
    let mut client = H2Client::open(world, "target", authority).await;
    let request =
        ::http::Request::builder().method(method).uri(format!("https://{authority}/")).body(()).unwrap();
    let (status, headers, body) = client.send(request, None).await.ok()?;
    assert!(!headers.contains_key("connection") && !headers.contains_key("transfer-encoding"), "{headers:?}");
    got(status.as_u16(), collect(body).await.map(|(body, _)| body).map_err(|_| ()))
}

/// The good answer of a villain that speaks HTTP/1.1.
pub const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";

/// Reads a request's head; false at the end of the connection.
pub async fn request(tls: &mut Tls) -> bool {
    !read_head(tls).await.is_empty()
}
