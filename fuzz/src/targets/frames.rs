//! Frames of HTTP/2 through the sieve: all but the DATA frames that say nothing come through, byte for byte.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use connectors_gateway::http::http2::Sieve;
use futures::executor::block_on;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::pieces;
use crate::Target;

pub const TARGET: Target = Target {
    name: "frames",
    run,
    words: &[
        "\0\0\0\0\0\0\0\0\x01",
        "\0\0\0\0\x01\0\0\0\x01",
        "\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
        "\0\x01\0\0\0\0\0\0\x01",
    ],
};

const HEAD: usize = 9;

/// Gives one piece a read.
struct Pieces<'a>(Vec<&'a [u8]>);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(piece) = self.0.pop() else { return Poll::Ready(Ok(())) };
        let (now, later) = piece.split_at(piece.len().min(buf.remaining()));
        buf.put_slice(now);
        if !later.is_empty() {
            self.0.push(later);
        }
        Poll::Ready(Ok(()))
    }
}

/// What must come through; what is left of a frame that is cut off comes through as it is.
fn expected(mut data: &[u8]) -> Vec<u8> {
    let mut passes = Vec::new();
    while let Some((head, rest)) = data.split_at_checked(HEAD) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = &rest[..length.min(rest.len())];
        let says_nothing = length == 0 && head[3] == 0 && head[4] & 1 == 0;
        if !says_nothing {
            passes.extend_from_slice(head);
            passes.extend_from_slice(payload);
        }
        data = &rest[payload.len()..];
    }
    passes.extend_from_slice(data);
    passes
}

fn run(data: &[u8]) {
    let room = 1 + data.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 200;
    let mut arrives: Vec<&[u8]> = pieces(data).collect();
    arrives.reverse();
    let mut sieve = Sieve::new(Pieces(arrives));
    let (mut seen, mut buf) = (Vec::new(), vec![0; room]);
    loop {
        match block_on(sieve.read(&mut buf)).unwrap() {
            0 => break,
            n => seen.extend_from_slice(&buf[..n]),
        }
    }
    assert_eq!(seen, expected(data), "read by {room}");
}
