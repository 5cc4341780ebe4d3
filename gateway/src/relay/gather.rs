//! Gathers what one turn of an HTTP/2 connection writes: the h2 crate hands over the head and the body of each answer apart, and flushes
//! each. So one TLS record and one system call serve all answers of a turn, in place of two for each. `h2` drains it when the connection has
//! nothing more to say for now, so nothing waits for a clock.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One TLS record: with more at hand it is written at once.
const FULL: usize = 16 << 10;

/// The stream for the h2 crate.
pub struct Gathering(Arc<Mutex<Gather>>);

/// Writes what was gathered. Used by the task of the connection alone, like the stream, so nobody waits for the lock.
pub struct Drain(Arc<Mutex<Gather>>);

struct Gather {
    io: Stream,
    /// Free while nothing is gathered.
    buf: BytesMut,
    /// Flushing is left to `Drain`.
    gathers: bool,
}

/// Passes everything on until [`Drain::begin`]: the beginning of a connection is a talk.
pub fn gather(io: Stream) -> (Gathering, Drain) {
    let gather = Arc::new(Mutex::new(Gather { io, buf: BytesMut::new(), gathers: false }));
    (Gathering(gather.clone()), Drain(gather))
}

fn lock(gather: &Mutex<Gather>) -> MutexGuard<'_, Gather> {
    gather.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drain {
    pub fn begin(&self) {
        lock(&self.0).gathers = true;
    }

    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_drain(cx)
    }
}

impl Gather {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buf.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.buf.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.buf))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.buf.advance(n),
            }
        }
        self.buf = BytesMut::new();
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

impl AsyncRead for Gathering {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Gathering {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut gather = lock(&self.0);
        if !gather.buf.is_empty() && gather.buf.len() + data.len() > FULL {
            ready!(gather.poll_drain(cx))?;
        }
        let taken = data.len().min(FULL);
        gather.buf.extend_from_slice(&data[..taken]);
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
    use pingora_core::protocols::l4::stream::Stream as L4;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Box::new(L4::from(listener.accept().await.unwrap().0)), far)
    }

    #[tokio::test]
    async fn writes_wait_for_the_drain_and_come_in_order() {
        let (near, mut far) = pair().await;
        let (mut gathering, drain) = gather(near);
        gathering.write_all(b"first, ").await.unwrap();
        gathering.flush().await.unwrap();
        let mut seen = [0; 7];
        far.read_exact(&mut seen).await.unwrap();
        drain.begin();
        gathering.write_all(b"second, ").await.unwrap();
        gathering.flush().await.unwrap();
        gathering.write_all(&[b'x'; 3 * FULL]).await.unwrap();
        std::future::poll_fn(|cx| drain.poll(cx)).await.unwrap();
        gathering.write_all(b"last").await.unwrap();
        gathering.shutdown().await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [b"second, ".as_slice(), &[b'x'; 3 * FULL], b"last"].concat());
    }

    #[tokio::test]
    async fn a_reader_that_stops_stops_the_writer() {
        let (near, _far) = pair().await;
        let (mut gathering, drain) = gather(near);
        drain.begin();
        let endless = async { while gathering.write_all(&[0; FULL]).await.is_ok() {} };
        assert!(tokio::time::timeout(std::time::Duration::from_millis(300), endless).await.is_err());
        assert!(lock(&drain.0).buf.len() <= FULL);
    }
}
