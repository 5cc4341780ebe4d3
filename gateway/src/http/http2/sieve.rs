//! Takes DATA frames without a byte that end nothing out of what a target sends. They mean nothing (RFC 9113,
//! 8.1), some servers send one to flush a head, and the h2 crate ends a connection with the hundredth of its
//! life, with all streams that others have on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const HEAD: usize = 9;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;
/// A buffer with less room is not read into: what is held back must fit before what comes.
const ROOM: usize = 64;
/// Reads of nothing else before others get their turn.
const TURNS: usize = 16;

pub struct Sieve<S> {
    io: S,
    frames: Frames,
    /// What a buffer had no room for.
    out: BytesMut,
}

/// Where in the frames the bytes are.
#[derive(Default)]
struct Frames {
    /// The beginning of a frame's head.
    held: [u8; HEAD],
    holds: usize,
    /// Bytes of a frame's payload still to come.
    payload: usize,
}

impl<S> Sieve<S> {
    pub fn new(io: S) -> Sieve<S> {
        Sieve { io, frames: Frames::default(), out: BytesMut::new() }
    }
}

impl Frames {
    fn held(&self) -> &[u8] {
        &self.held[..self.holds]
    }

    /// Moves what passes to the front of `bytes`, which begin with what was held, and says how much it is.
    fn pass(&mut self, bytes: &mut [u8]) -> usize {
        self.holds = 0;
        let (mut from, mut to) = (0, 0);
        while from < bytes.len() {
            let rest = bytes.len() - from;
            let n = match self.payload {
                0 if rest < HEAD => {
                    self.held[..rest].copy_from_slice(&bytes[from..]);
                    self.holds = rest;
                    break;
                }
                0 => {
                    let head = &bytes[from..from + HEAD];
                    self.payload =
                        usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                    if self.payload == 0 && head[3] == DATA && head[4] & END_STREAM == 0 {
                        from += HEAD;
                        continue;
                    }
                    HEAD
                }
                payload => {
                    let n = payload.min(rest);
                    self.payload -= n;
                    n
                }
            };
            if from != to {
                bytes.copy_within(from..from + n, to);
            }
            (from, to) = (from + n, to + n);
        }
        to
    }
}

impl<S: AsyncRead + Unpin> Sieve<S> {
    /// True at the end of the stream, or when something has passed.
    fn poll_into(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        buf.put_slice(self.frames.held());
        let held = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if !matches!(read, Poll::Ready(Ok(()))) {
            buf.set_filled(before);
            return read.map_ok(|()| false);
        }
        if buf.filled().len() == held {
            self.frames.holds = 0;
            return Poll::Ready(Ok(true));
        }
        let passed = self.frames.pass(&mut buf.filled_mut()[before..]);
        buf.set_filled(before + passed);
        Poll::Ready(Ok(passed > 0))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sieve<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let sieve = self.get_mut();
        for _ in 0..TURNS {
            if !sieve.out.is_empty() {
                let n = sieve.out.len().min(buf.remaining());
                buf.put_slice(&sieve.out[..n]);
                sieve.out.advance(n);
                return Poll::Ready(Ok(()));
            }
            if buf.remaining() >= ROOM {
                if ready!(sieve.poll_into(cx, buf))? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let mut room = [0; 4 * ROOM];
            let mut own = ReadBuf::new(&mut room);
            if ready!(sieve.poll_into(cx, &mut own))? {
                sieve.out.extend_from_slice(own.filled());
                if sieve.out.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sieve<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
        [&length[..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What is sent, and what must come through.
    fn frames() -> (Vec<u8>, Vec<u8>) {
        let blank = || (frame(DATA, 0, b""), false);
        let all = [
            (frame(4, 0, b""), true),
            (frame(1, 4, b"head"), true),
            blank(),
            blank(),
            (frame(DATA, 0, &[0; 300]), true),
            blank(),
            (frame(DATA, END_STREAM, b""), true),
            (frame(6, 0, b"\0\0\0\0\0\0\0\0"), true),
            blank(),
            (frame(DATA, END_STREAM, b"last"), true),
        ];
        let sent = all.iter().flat_map(|(frame, _)| frame.clone()).collect();
        let passes = all.iter().filter(|(_, passes)| *passes).flat_map(|(frame, _)| frame.clone()).collect();
        (sent, passes)
    }

    #[tokio::test]
    async fn frames_without_a_byte_fall_through_wherever_reads_and_writes_are_cut() {
        let (sent, passes) = frames();
        for (write, room) in [(1, 1), (1, 500), (3, 7), (8, 64), (9, 63), (10, 100), (500, 3), (500, 1000)] {
            let (near, mut far) = duplex(1 << 16);
            let mut sieve = Sieve::new(near);
            let sent = sent.clone();
            let writer = tokio::spawn(async move {
                for piece in sent.chunks(write) {
                    far.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let (mut seen, mut buf) = (Vec::new(), vec![0; room]);
            loop {
                match sieve.read(&mut buf).await.unwrap() {
                    0 => break,
                    n => seen.extend_from_slice(&buf[..n]),
                }
            }
            writer.await.unwrap();
            assert_eq!(seen, passes, "written by {write}, read by {room}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_of_a_head_ends_there() {
        let (near, mut far) = duplex(64);
        far.write_all(&[0, 0, 0, DATA]).await.unwrap();
        drop(far);
        let mut seen = Vec::new();
        Sieve::new(near).read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, [0, 0, 0, DATA]);
    }

    #[tokio::test]
    async fn who_sends_nothing_else_holds_up_nobody() {
        let (near, mut far) = duplex(1 << 20);
        far.write_all(&frame(DATA, 0, b"").repeat(10_000)).await.unwrap();
        let mut sieve = Sieve::new(near);
        let mut buf = [0; 100];
        let read = tokio::time::timeout(std::time::Duration::from_millis(100), sieve.read(&mut buf)).await;
        assert!(read.is_err(), "something passed");
    }
}
