//! Reading what a peer has sent into a buffer that stays as small as it can.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::http2::{Held, NoRoom, Share};

/// First read of a head: enough for what Kubernetes clients send, and for the head of most answers with their
/// body.
pub const READ_SIZE: usize = 4 << 10;

/// The head of a request with a token fits, nearly always.
const FIRST_READ: usize = 2 << 10;

pub type Reader<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Reads more into the buffer; 0 is the end. `room` is what to ask for when the buffer is full.
pub async fn fill(io: Reader<'_>, buf: &mut BytesMut, room: usize) -> std::io::Result<usize> {
    if buf.capacity() == buf.len() {
        buf.reserve(room);
    }
    io.read_buf(buf).await
}

/// What comes first; 0 is the end. Whoever waits here, for days maybe, has no buffer meanwhile.
pub async fn first(io: Reader<'_>, buf: &mut BytesMut) -> std::io::Result<usize> {
    poll_fn(|cx| {
        let mut room = [MaybeUninit::uninit(); FIRST_READ];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *io).poll_read(cx, &mut read))?;
        buf.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
    .await
}

/// Counts the buffer of a head that is still coming, if it is larger than most ever are.
pub fn count(
    held: &mut Option<Held>,
    buf: &BytesMut,
    share: impl FnOnce() -> Arc<Share>,
) -> Result<(), NoRoom> {
    if buf.len() <= READ_SIZE {
        return Ok(());
    }
    let held = held.get_or_insert_with(|| Held::new(share()));
    if held.set(buf.capacity()) { Ok(()) } else { Err(NoRoom) }
}
