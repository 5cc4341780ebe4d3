//! One HTTP/2 connection to a target, shared by requests: a task drives it, each request has a stream of its
//! own. Made by `upstream` after the verdict, kept in a `pool`.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use pingora_core::protocols::Stream;

use super::coming::Making;
use crate::http::http2::{
    Blocks, Flusher, GIVEN_UP, GIVEN_UP_TIME, Gathering, Inflow, MISTAKES, Outflow, PREFACE, Portion,
    SEND_BUFFER, Share, Sieve, Windows, connection_window, gather, silence,
};
use crate::settings::Timeouts;

/// Concurrent streams on one connection; Go's server allows 250.
const MAX_STREAMS: u32 = 200;
/// Said by no target, whose settings have 32 bits: until they come, the connection carries the request for which it was
/// made. More would have to wait there for a stream, behind what may be a watch.
const UNTOLD: usize = usize::MAX - 1;
/// The largest header list that is taken of an answer.
const MAX_HEAD: u32 = 64 << 10;

/// What is read of a target.
type Stacked = Blocks<Sieve<Stream>>;

pub struct Multiplex {
    send: SendRequest<Bytes>,
    outflow: Outflow,
    streams: AtomicUsize,
    /// The connection has ended, or the target takes no new stream on it.
    over: Arc<AtomicBool>,
    /// Lent since the pool last looked.
    used: AtomicBool,
    share: Arc<Share>,
}

/// Leave to open one stream.
pub struct Lent {
    connection: Arc<Multiplex>,
    send: SendRequest<Bytes>,
}

pub struct Opening<'a> {
    send: &'a mut SendRequest<Bytes>,
    share: &'a Arc<Share>,
}

/// What the target answers on one stream: first the head, then the body.
pub struct Incoming {
    pub head: ResponseFuture,
    pub body: Option<Inflow>,
    share: Arc<Share>,
}

impl Multiplex {
    /// Begins HTTP/2 on a verified connection, which has this for its life.
    pub async fn start(
        stream: Stream,
        timeouts: &Timeouts,
        share: Arc<Share>,
        portion: Portion,
        making: Option<Arc<Making>>,
    ) -> Result<Arc<Multiplex>, h2::Error> {
        let outflow = Outflow::default();
        let (stream, limits) = (Sieve::new(stream), (MAX_HEAD as usize, timeouts.head));
        let stream = Blocks::of_target(stream, limits, outflow.clone(), share.clone());
        let (stream, flusher) = gather(stream, PREFACE, outflow.clone());
        let (windows, window) = share.windows();
        let mut builder = Builder::new();
        builder
            .initial_max_send_streams(UNTOLD)
            .initial_window_size(window)
            .initial_connection_window_size(connection_window(MAX_STREAMS))
            .max_header_list_size(MAX_HEAD)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(GIVEN_UP)
            .reset_stream_duration(GIVEN_UP_TIME)
            .max_local_error_reset_streams(Some(MISTAKES))
            .enable_push(false);
        let (send, connection) = builder.handshake(stream).await?;
        flusher.begin();
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let (quiet, patience) = (timeouts.ping, timeouts.pong);
        let of = share.clone();
        tokio::spawn(async move {
            drive(connection, flusher, of, windows, making, (quiet, patience)).await;
            ended.store(true, Ordering::Relaxed);
            drop(portion);
        });
        Ok(Arc::new(Multiplex {
            send,
            outflow,
            streams: AtomicUsize::new(0),
            over,
            used: AtomicBool::new(true),
            share,
        }))
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.outflow.is_worn()
    }

    /// Whether no request has had it since it was last asked.
    pub fn rests(&self) -> bool {
        !self.used.swap(false, Ordering::Relaxed) && self.streams.load(Ordering::Relaxed) == 0
    }

    /// Streams that it may have at once. None: the target has not said yet.
    pub fn told(&self) -> Option<usize> {
        told(self.send.current_max_send_streams())
    }

    /// None if it has no room, or takes no new streams.
    pub fn lend(self: &Arc<Multiplex>) -> Option<Lent> {
        let limit = self.told().unwrap_or(1);
        let before = self.streams.fetch_add(1, Ordering::Relaxed);
        let mut lent = Lent { connection: self.clone(), send: self.send.clone() };
        if self.is_over() || before >= limit {
            return None;
        }
        // Of a handle that has sent nothing, it tells only whether the connection stands.
        match lent.send.poll_ready(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(Ok(())) => {
                self.used.store(true, Ordering::Relaxed);
                Some(lent)
            }
            Poll::Ready(Err(_)) => {
                self.over.store(true, Ordering::Relaxed);
                None
            }
            Poll::Pending => None,
        }
    }
}

fn told(streams: usize) -> Option<usize> {
    (streams != UNTOLD).then(|| streams.min(MAX_STREAMS as usize))
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.connection.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lent {
    /// For what is sent, and who opens the stream.
    pub fn parts(&mut self) -> (&Outflow, Opening<'_>) {
        let Multiplex { outflow, share, .. } = &*self.connection;
        (outflow, Opening { send: &mut self.send, share })
    }
}

impl Opening<'_> {
    /// Opens the stream. `end`: the request has no body.
    pub fn send(
        self,
        request: http::Request<()>,
        end: bool,
    ) -> Result<(Incoming, SendStream<Bytes>), h2::Error> {
        let (head, body) = self.send.send_request(request, end)?;
        Ok((Incoming { head, body: None, share: self.share.clone() }, body))
    }
}

impl Incoming {
    /// The next head: interim ones (1xx) come first. Cancelling loses nothing.
    pub async fn head(&mut self) -> Result<http::Response<()>, h2::Error> {
        poll_fn(|cx| {
            // Asked first: the other throws interim heads away.
            if let Poll::Ready(Some(interim)) = self.head.poll_informational(cx) {
                return Poll::Ready(interim);
            }
            Pin::new(&mut self.head).poll(cx).map_ok(|answer| {
                let (parts, body) = answer.into_parts();
                self.body = Some(Inflow::new(body, self.share.clone()));
                http::Response::from_parts(parts, ())
            })
        })
        .await
    }
}

/// To the end of the connection: the target's, or when the pool has let go of it and its last stream has
/// ended, or for want of a PONG or an acknowledgement. Its streams end with it.
async fn drive(
    mut connection: Connection<Gathering<Stacked>, Bytes>,
    mut flusher: Flusher<Stacked>,
    share: Arc<Share>,
    mut windows: Windows,
    mut making: Option<Arc<Making>>,
    (quiet, patience): (Duration, Duration),
) {
    let mut dead = pin!(silence(connection.ping_pong(), quiet, patience));
    loop {
        tokio::select! {
            biased;
            window = windows.another() => {
                if !windows.told(connection.set_initial_window_size(window)) {
                    break;
                }
            }
            () = poll_fn(|cx| {
                let ended = turn(&mut connection, &mut flusher, &share, cx);
                if making.is_some()
                    && told(connection.max_concurrent_send_streams()).is_some()
                    && let Some(making) = making.take()
                {
                    making.came();
                }
                ended
            }) => break,
            () = &mut dead => break,
        }
    }
    if let Some(making) = making {
        making.failed();
    }
}

/// What one turn has written leaves at its end.
fn turn(
    connection: &mut Connection<Gathering<Stacked>, Bytes>,
    flusher: &mut Flusher<Stacked>,
    share: &Arc<Share>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if Pin::new(connection).poll(cx).is_ready() {
        return Poll::Ready(());
    }
    match flusher.poll(cx, || share.clone()) {
        // Its streams are others', too: what it holds is bounded, and so are the connections.
        Poll::Ready(Err(error)) if error.kind() == ErrorKind::OutOfMemory => Poll::Pending,
        Poll::Ready(Err(_)) => Poll::Ready(()),
        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
    }
}
