//! Gathers what one turn of an HTTP/2 connection writes: the h2 crate hands over the head and the body of
//! each answer apart, and flushes each. So one TLS record and one system call serve all answers of a turn, in
//! place of two for each. `h2` drains it when the connection has nothing more to say for now, so nothing
//! waits for a clock.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::budget::{Held, Share};
use super::outflow::Outflow;

/// One TLS record: with more at hand it is written at once.
const FULL: usize = 16 << 10;
const HEAD: usize = 9;
const KIND: usize = 3;
const DATA: u8 = 0;
/// Less than this may always wait for the socket.
const COUNTED: usize = 16 << 10;

/// The stream for the h2 crate.
pub struct Gathering<S = Stream>(Arc<Mutex<Gather<S>>>);

/// Writes what was gathered. Used by the task of the connection alone, like the stream, so nobody waits for
/// the lock.
pub struct Flusher<S = Stream> {
    gather: Arc<Mutex<Gather<S>>>,
    outflow: Outflow,
    /// What waits for the socket, once it does.
    held: Option<Held>,
}

struct Gather<S> {
    io: S,
    outflow: Outflow,
    leaving: Leaving,
    /// Free while nothing is gathered.
    buf: BytesMut,
    /// All is written, and may still lie in a buffer below.
    unflushed: bool,
    /// The library has more.
    refused: bool,
    /// Flushing is left to `Flusher`.
    gathers: bool,
}

/// Passes everything on until [`Flusher::begin`]: the beginning of a connection is a talk. `before`: bytes before the first frame.
pub fn gather<S>(io: S, before: usize, outflow: Outflow) -> (Gathering<S>, Flusher<S>) {
    let gather = Arc::new(Mutex::new(Gather {
        io,
        outflow: outflow.clone(),
        leaving: Leaving { head: [0; HEAD], has: 0, payload: before },
        buf: BytesMut::new(),
        unflushed: false,
        refused: false,
        gathers: false,
    }));
    (Gathering(gather.clone()), Flusher { gather, outflow, held: None })
}

/// Where in the frames that leave the next byte is.
struct Leaving {
    head: [u8; HEAD],
    has: usize,
    payload: usize,
}

impl Leaving {
    /// How many of these bytes are of bodies.
    fn walk(&mut self, mut bytes: &[u8]) -> usize {
        let mut bodies = 0;
        while !bytes.is_empty() {
            let wanted = if self.payload > 0 { self.payload } else { HEAD - self.has };
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if self.payload > 0 {
                self.payload -= part.len();
                if self.head[KIND] == DATA && self.has == HEAD {
                    bodies += part.len();
                }
            } else {
                self.head[self.has..self.has + part.len()].copy_from_slice(part);
                self.has += part.len();
                if self.has < HEAD {
                    break;
                }
                let [a, b, c, ..] = self.head;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            }
            if self.payload == 0 {
                self.has = 0;
            }
        }
        bodies
    }
}

fn lock<S>(gather: &Mutex<Gather<S>>) -> MutexGuard<'_, Gather<S>> {
    gather.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncWrite + Unpin> Flusher<S> {
    pub fn begin(&self) {
        lock(&self.gather).gathers = true;
    }

    /// For whoever hands frames to the library.
    pub fn outflow(&self) -> &Outflow {
        &self.outflow
    }

    /// At the end of a turn. What waits for the socket counts in `share`; without room there the connection has to end.
    pub fn poll(&mut self, cx: &mut Context<'_>, share: impl FnOnce() -> Arc<Share>) -> Poll<io::Result<()>> {
        let mut gather = lock(&self.gather);
        match gather.poll_drain(cx) {
            Poll::Ready(Ok(())) if !gather.refused => {
                drop(gather);
                self.outflow.written();
                if self.outflow.is_stuck() {
                    return Poll::Ready(Err(io::Error::other(
                        "the peer keeps all room for what it does not take",
                    )));
                }
                Poll::Ready(self.count(share))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            drained => {
                // Not all of it, then: the library goes on.
                if drained.is_ready() {
                    cx.waker().wake_by_ref();
                }
                drop(gather);
                self.count(share).map_or_else(|full| Poll::Ready(Err(full)), |()| Poll::Pending)
            }
        }
    }
}

impl<S> Flusher<S> {
    fn count(&mut self, share: impl FnOnce() -> Arc<Share>) -> io::Result<()> {
        match self.outflow.taken() {
            // What comes next is of whoever has the connection by then.
            0..COUNTED => self.held = None,
            taken if self.held.get_or_insert_with(|| Held::new(share())).set(taken) => {}
            _ => return Err(io::ErrorKind::OutOfMemory.into()),
        }
        Ok(())
    }
}

impl<S> Drop for Flusher<S> {
    fn drop(&mut self) {
        self.outflow.end();
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buf.is_empty() && !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        while !self.buf.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.buf))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.buf.advance(n),
            }
            self.unflushed = true;
        }
        self.buf = BytesMut::new();
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut gather = lock(&self.0);
        gather.refused = !gather.buf.is_empty() && gather.buf.len() + data.len() > FULL;
        if gather.refused {
            ready!(gather.poll_drain(cx))?;
            gather.refused = false;
        }
        let taken = data.len().min(FULL);
        if gather.buf.is_empty() {
            // All at once: growing by and by would move what lies there again and again.
            gather.buf.reserve(FULL);
        }
        gather.buf.extend_from_slice(&data[..taken]);
        let bodies = gather.leaving.walk(&data[..taken]);
        gather.outflow.left(bodies);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gather = lock(&self.0);
        match gather.gathers {
            true => Poll::Ready(Ok(())),
            false => gather.poll_drain(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gather = lock(&self.0);
        ready!(gather.poll_drain(cx))?;
        Pin::new(&mut gather.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, duplex};

    use super::super::budget::Budget;
    use super::*;

    fn nobodys() -> Arc<Share> {
        let gauge = |name| prometheus::IntGauge::new(name, "bytes").unwrap();
        Budget::new(gauge("bodies"), gauge("requests")).nobodys()
    }

    #[tokio::test]
    async fn writes_wait_for_the_drain_and_come_in_order() {
        let (near, mut far) = duplex(1 << 20);
        let (mut gathering, mut flusher) = gather(near, usize::MAX, Outflow::default());
        gathering.write_all(b"first, ").await.unwrap();
        gathering.flush().await.unwrap();
        let mut seen = [0; 7];
        far.read_exact(&mut seen).await.unwrap();
        flusher.begin();
        gathering.write_all(b"second, ").await.unwrap();
        gathering.flush().await.unwrap();
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), far.read_u8()).await;
        assert!(early.is_err(), "written before the end of the turn");
        gathering.write_all(&[b'x'; 3 * FULL]).await.unwrap();
        poll_fn(|cx| flusher.poll(cx, nobodys)).await.unwrap();
        gathering.write_all(b"last").await.unwrap();
        gathering.shutdown().await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [b"second, ".as_slice(), &[b'x'; 3 * FULL], b"last"].concat());
    }

    /// A stream of pingora has a buffer of its own.
    #[tokio::test]
    async fn what_lies_below_is_flushed_when_the_reader_goes_on() {
        let (near, mut far) = duplex(64);
        let (mut gathering, mut flusher) =
            gather(BufWriter::with_capacity(8 << 10, near), usize::MAX, Outflow::default());
        flusher.begin();
        gathering.write_all(&[b'x'; 1000]).await.unwrap();
        let waits = poll_fn(|cx| Poll::Ready(flusher.poll(cx, nobodys).is_pending())).await;
        assert!(waits, "the reader has no room");
        let mut seen = vec![0; 1000];
        let read = tokio::time::timeout(std::time::Duration::from_secs(5), far.read_exact(&mut seen));
        let (drained, read) = tokio::join!(poll_fn(|cx| flusher.poll(cx, nobodys)), read);
        drained.unwrap();
        read.expect("it lies there still").unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_stops_stops_the_writer() {
        let (near, _far) = duplex(1 << 10);
        let (mut gathering, flusher) = gather(near, usize::MAX, Outflow::default());
        flusher.begin();
        let endless = async { while gathering.write_all(&[0; FULL]).await.is_ok() {} };
        assert!(tokio::time::timeout(std::time::Duration::from_millis(300), endless).await.is_err());
        assert!(lock(&flusher.gather).buf.len() <= FULL);
    }
}
