//! Bytes between two connections, in both directions, by one task. After the 101 of `upgrade`; ends with the
//! record of the stream. A direction holds one buffer, and none while nothing flows; what its reader does not
//! take is not read from its writer, and is counted as its namespace's while it waits.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;

use crate::http::buffer::Reader;
use crate::http::http2::Held;
use crate::relay::body::Writer;

/// One TLS record: what one read gives at most and one write sends at once.
const SIZE: usize = 16 << 10;

/// Who ended a splice before both directions had come to their end, and why. The words are for the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Gone {
    Client(String),
    Target(String),
}

/// Which side ended a direction, and why.
#[derive(Debug)]
enum Broken {
    Source(String),
    Sink(String),
}

/// One of the two directions.
pub struct Direction<'a> {
    from: Reader<'a>,
    to: Writer<'a>,
    /// Delivered bytes.
    count: &'a AtomicU64,
    /// Read, not written yet.
    buf: BytesMut,
    /// Bytes that the buffer takes, however much of it has been written.
    size: usize,
    /// The source has ended: told on after the last byte.
    end: Option<Result<(), String>>,
    /// A write waits: the same bytes must be offered again.
    blocked: bool,
    unflushed: bool,
    /// Of what waits. No stream ends for want of room: what is read next is small then.
    held: Held,
    over: Option<Result<(), Broken>>,
}

impl<'a> Direction<'a> {
    /// `first` was read already; `ended` says that nothing follows it.
    pub fn new(
        from: Reader<'a>,
        to: Writer<'a>,
        count: &'a AtomicU64,
        first: BytesMut,
        ended: bool,
        held: Held,
    ) -> Direction<'a> {
        let end = ended.then_some(Ok(()));
        Direction {
            from,
            to,
            count,
            size: first.capacity(),
            buf: first,
            end,
            blocked: false,
            unflushed: false,
            held,
            over: None,
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if self.over.is_none()
            && let Poll::Ready(result) = self.poll(cx)
        {
            self.buf = BytesMut::new();
            self.held.set(0);
            self.over = Some(result);
        }
    }

    /// Resolves when the end of the source has arrived at the sink. tokio's budget of a task bounds the loop.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let all = self.gather(cx);
            ready!(self.deliver(cx)).map_err(Broken::Sink)?;
            if !all {
                continue;
            }
            (self.buf, self.size) = (BytesMut::new(), 0);
            if self.unflushed {
                ready!(Pin::new(&mut *self.to).poll_flush(cx))
                    .map_err(|error| Broken::Sink(error.to_string()))?;
                self.unflushed = false;
            }
            return match &self.end {
                None => Poll::Pending,
                Some(Err(why)) => Poll::Ready(Err(Broken::Source(why.clone()))),
                Some(Ok(())) => {
                    Pin::new(&mut *self.to).poll_shutdown(cx).map_err(|error| Broken::Sink(error.to_string()))
                }
            };
        }
    }

    /// Reads what is at hand, so that small pieces leave as one. True: that is all for now.
    fn gather(&mut self, cx: &mut Context<'_>) -> bool {
        let size = self.held.piece(SIZE);
        if self.buf.is_empty() && self.size > size {
            (self.buf, self.size) = (BytesMut::new(), 0);
        }
        while !self.blocked && self.buf.len() < size {
            if self.end.is_some() {
                return true;
            }
            self.buf.reserve(size - self.buf.len());
            self.size = self.size.max(self.buf.capacity());
            match pin!(self.from.read_buf(&mut self.buf)).poll(cx) {
                Poll::Pending => return true,
                Poll::Ready(Ok(0)) => self.end = Some(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => self.end = Some(Err(error.to_string())),
            }
        }
        false
    }

    /// Writes all that was read.
    fn deliver(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        while !self.buf.is_empty() {
            let written = Pin::new(&mut *self.to).poll_write(cx, &self.buf);
            self.blocked = written.is_pending();
            self.held.set(if self.blocked { self.size } else { 0 });
            match ready!(written) {
                Ok(0) => return Poll::Ready(Err("takes no more".to_owned())),
                Ok(n) => {
                    self.buf.advance(n);
                    self.count.fetch_add(n as u64, Ordering::Relaxed);
                    self.unflushed = true;
                }
                Err(error) => return Poll::Ready(Err(error.to_string())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Carries bytes until both directions have ended. `up` goes to the target.
pub async fn splice(mut up: Direction<'_>, mut down: Direction<'_>) -> Result<(), Gone> {
    let mut up_first = false;
    poll_fn(|cx| {
        // In turns: the first may use up the task's budget for reads and writes, each time.
        up_first = !up_first;
        if up_first {
            up.drive(cx);
            down.drive(cx);
        } else {
            down.drive(cx);
            up.drive(cx);
        }
        verdict(&up.over, &down.over)
    })
    .await
}

/// A target that takes no more may still have something to say; and when it has said all, it does not matter
/// how the client leaves.
fn verdict(up: &Option<Result<(), Broken>>, down: &Option<Result<(), Broken>>) -> Poll<Result<(), Gone>> {
    match (up, down) {
        (_, Some(Err(Broken::Source(why)))) => Poll::Ready(Err(Gone::Target(why.clone()))),
        (_, Some(Err(Broken::Sink(why)))) => Poll::Ready(Err(Gone::Client(why.clone()))),
        (Some(_), Some(Ok(()))) => Poll::Ready(Ok(())),
        (Some(Err(Broken::Source(why))), None) => Poll::Ready(Err(Gone::Client(why.clone()))),
        (None | Some(Ok(()) | Err(Broken::Sink(_))), _) => Poll::Pending,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use prometheus::IntGauge;
    use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;
    use crate::http::http2::{Budget, Share};

    fn share() -> (Arc<Share>, IntGauge) {
        let gauge = |name| IntGauge::new(name, "bytes").unwrap();
        let held = gauge("held");
        (Budget::new(held.clone(), gauge("requests")).nobodys(), held)
    }

    fn held() -> Held {
        Held::new(share().0)
    }

    /// Both peers of a splice, whose pipes hold `pipe` bytes, and the splice.
    fn spliced(
        pipe: usize,
        first: &[u8],
        share: Arc<Share>,
    ) -> (DuplexStream, DuplexStream, impl Future<Output = (Result<(), Gone>, u64, u64)>) {
        let (client, near) = duplex(pipe);
        let (far, target) = duplex(pipe);
        let first = BytesMut::from(first);
        let both = async move {
            let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
            let (mut from_client, mut to_client) = tokio::io::split(near);
            let (mut from_target, mut to_target) = tokio::io::split(far);
            let ended = {
                let held = || Held::new(share.clone());
                let up = Direction::new(&mut from_client, &mut to_target, &up, first, false, held());
                let down =
                    Direction::new(&mut from_target, &mut to_client, &down, BytesMut::new(), false, held());
                splice(up, down).await
            };
            (ended, up.into_inner(), down.into_inner())
        };
        (client, target, both)
    }

    async fn all(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut all = Vec::new();
        io.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn what_was_read_already_comes_first_and_an_end_waits_for_the_last_byte() {
        let (mut client, mut target, both) = spliced(64, b"first, ", share().0);
        let peers = async {
            let sent = [b'x'; 1000];
            let upload = async {
                client.write_all(&sent).await.unwrap();
                client.shutdown().await.unwrap();
            };
            let (got, ()) = tokio::join!(all(&mut target), upload);
            assert_eq!(got, [b"first, ".as_slice(), &sent].concat());
            target.write_all(b"answer").await.unwrap();
            target.shutdown().await.unwrap();
            assert_eq!(all(&mut client).await, b"answer");
        };
        let (ended, ()) = tokio::join!(both, peers);
        assert_eq!(ended, (Ok(()), 1007, 6));
    }

    /// Writes until nothing is taken any more, and says how much was. tokio's pipes take what fits, so these are the
    /// bytes that lie in pipes and splice.
    async fn taken(to: &mut DuplexStream) -> usize {
        let mut taken = 0;
        while let Ok(n) = timeout(Duration::from_millis(300), to.write(&[0; 512])).await {
            taken += n.unwrap();
        }
        taken
    }

    #[tokio::test]
    async fn a_direction_holds_one_buffer_for_a_reader_that_stops_and_that_is_counted() {
        let (share, gauge) = share();
        let (mut client, mut target, both) = spliced(1 << 10, b"", share);
        let both = tokio::spawn(both);
        let sent = taken(&mut client).await;
        assert!(sent > 2 << 10 && sent <= SIZE + (3 << 10), "{sent} bytes were taken");
        let held = usize::try_from(gauge.get()).unwrap();
        assert_eq!(held, SIZE);
        target.read_exact(&mut vec![0; sent]).await.unwrap();
        let told = timeout(Duration::from_secs(5), async {
            while gauge.get() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        told.await.expect("what has left is counted still");
        assert_eq!(taken(&mut client).await, sent);
        both.abort();
        assert!(both.await.unwrap_err().is_cancelled());
        assert_eq!(gauge.get(), 0);
    }

    #[tokio::test]
    async fn where_its_namespace_has_no_room_a_direction_goes_on_in_small_pieces() {
        let (share, gauge) = share();
        let mut others = Held::new(share.clone());
        assert!(!others.set(1 << 30));
        let (mut client, mut target, both) = spliced(64, b"", share);
        let both = tokio::spawn(both);
        let sent = taken(&mut client).await;
        assert!(sent <= (4 << 10) + 256, "{sent} bytes were taken");
        assert!(gauge.get() > 1 << 30);
        target.read_exact(&mut vec![0; sent]).await.unwrap();
        assert_eq!(taken(&mut client).await, sent);
        both.abort();
    }

    #[tokio::test]
    async fn a_direction_that_always_flows_does_not_stop_the_other() {
        let (mut client, near) = duplex(64);
        let (far, mut target) = duplex(64);
        let flowing = tokio::spawn(async move {
            let count = AtomicU64::new(0);
            // Always ready, they use up the task's budget.
            let (mut flood, mut drain) = (tokio::io::repeat(0), tokio::io::sink());
            let (mut from, mut to) = (far, near);
            let up = Direction::new(&mut flood, &mut drain, &count, BytesMut::new(), false, held());
            let down = Direction::new(&mut from, &mut to, &count, BytesMut::new(), false, held());
            splice(up, down).await
        });
        target.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        let read = timeout(Duration::from_secs(5), client.read_exact(&mut answer)).await;
        read.expect("the answer is held up").unwrap();
        flowing.abort();
    }

    /// Gives `text`, then an error; takes `room` bytes, then an error.
    struct Dying {
        text: &'static [u8],
        room: usize,
    }

    impl AsyncRead for Dying {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            let text = std::mem::take(&mut self.text);
            buf.put_slice(text);
            Poll::Ready(if text.is_empty() {
                Err(std::io::ErrorKind::ConnectionReset.into())
            } else {
                Ok(())
            })
        }
    }

    impl AsyncWrite for Dying {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            let n = self.room.min(buf.len());
            self.room -= n;
            Poll::Ready(if n == 0 { Err(std::io::ErrorKind::BrokenPipe.into()) } else { Ok(n) })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_death_is_the_fault_of_who_died_and_comes_after_the_last_bytes() {
        for client_dies in [true, false] {
            let (mut peer, near) = duplex(64);
            let (mut from_peer, mut to_peer) = tokio::io::split(near);
            let (mut from, mut to) = tokio::io::split(Dying { text: b"last words", room: 1000 });
            let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
            let gone = {
                let dying = Direction::new(&mut from, &mut to_peer, &up, BytesMut::new(), false, held());
                let other = Direction::new(&mut from_peer, &mut to, &down, BytesMut::new(), false, held());
                if client_dies { splice(dying, other).await } else { splice(other, dying).await }
            };
            let mut got = [0; 10];
            peer.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"last words");
            match client_dies {
                true => assert!(matches!(gone, Err(Gone::Client(_))), "{gone:?}"),
                false => assert!(matches!(gone, Err(Gone::Target(_))), "{gone:?}"),
            }
        }
    }

    #[test]
    fn a_target_that_takes_no_more_is_heard_to_its_end() {
        let (ok, source, sink) = (
            || Some(Ok(())),
            || Some(Err(Broken::Source("a".to_owned()))),
            || Some(Err(Broken::Sink("b".to_owned()))),
        );
        let client = |why: &str| Poll::Ready(Err(Gone::Client(why.to_owned())));
        let target = |why: &str| Poll::Ready(Err(Gone::Target(why.to_owned())));
        for (up, down, expected) in [
            (None, None, Poll::Pending),
            (ok(), None, Poll::Pending),
            (None, ok(), Poll::Pending),
            (sink(), None, Poll::Pending),
            (ok(), ok(), Poll::Ready(Ok(()))),
            (sink(), ok(), Poll::Ready(Ok(()))),
            (source(), ok(), Poll::Ready(Ok(()))),
            (source(), None, client("a")),
            (None, sink(), client("b")),
            (None, source(), target("a")),
            (sink(), source(), target("a")),
            (ok(), sink(), client("b")),
        ] {
            assert_eq!(verdict(&up, &down), expected, "{up:?} {down:?}");
        }
    }
}
