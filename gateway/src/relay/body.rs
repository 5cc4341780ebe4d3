//! Bodies on their way between two legs, whatever each speaks. One task carries both directions; at most one
//! read and one write buffer per direction exist, so a slow reader stops the writer. `sink` is where they go.

mod sink;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use futures::FutureExt;
use http::HeaderMap;
use tokio::task::coop::consume_budget;

pub use self::sink::{H1Sink, Sink, Writer};

use crate::http::buffer::{Reader, fill};
use crate::http::headers;
use crate::http::http2::{Held, Inflow, NoRoom, Part, Share};
use crate::http::wire::{Decoder, Frame};
use crate::upstream::multiplex::Incoming;

/// Reads of a body that fills the first buffer; one TLS record.
const BODY_READ_SIZE: usize = 16 << 10;

/// Which side ended a transfer, and why. The words are for the log.
#[derive(Debug)]
pub enum Broken {
    Source(String),
    Sink(String),
    /// Neither: the reader has stopped, and the streams of its namespace hold all that they may.
    NoRoom,
    /// The reader has stopped for longer than it may.
    Late,
}

impl From<NoRoom> for Broken {
    fn from(_: NoRoom) -> Broken {
        Broken::NoRoom
    }
}

/// HTTP/1.1 bytes not yet consumed, and the place in the body.
pub struct H1Source<'a> {
    pub io: Reader<'a>,
    pub buf: &'a mut BytesMut,
    pub decoder: &'a mut Decoder,
    /// Where what is here counts while its reader has stopped: a client has one body at a time, a target thousands.
    pub share: Option<&'a Arc<Share>>,
}

/// Where a body comes from.
pub enum Source<'a> {
    H1(H1Source<'a>),
    Client(&'a mut Inflow),
    Target(&'a mut Incoming),
}

impl Source<'_> {
    /// The next frame if it is at hand already.
    fn buffered(&mut self) -> Option<Result<Frame, String>> {
        if let Source::H1(h1) = self {
            return h1.decoder.next(h1.buf).map_err(|error| format!("{error:?}")).transpose();
        }
        let body = self.stream().filter(|body| body.is_at_hand())?;
        next_of_stream(body).now_or_never()
    }

    /// The next frame. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Frame, String> {
        if let Source::H1(h1) = self {
            return h1.next().await;
        }
        next_of_stream(self.stream().ok_or("no answer has begun")?).await
    }

    /// So much of what was taken has reached whoever it is for.
    pub fn delivered(&mut self, bytes: usize) {
        if let Some(body) = self.stream() {
            body.delivered(bytes);
        }
    }

    /// Takes what comes meanwhile, for a reader that has stopped; `taken` bytes wait already.
    pub async fn gather(&mut self, taken: usize) -> NoRoom {
        match self {
            Source::H1(H1Source { buf, .. }) if taken == 0 && buf.is_empty() => pending().await,
            Source::H1(H1Source { share: Some(share), buf, .. }) => {
                let mut held = Held::new(share.clone());
                if held.set(taken + buf.capacity()) { pending().await } else { NoRoom }
            }
            Source::H1(_) => pending().await,
            Source::Client(body) => body.gather(taken).await,
            Source::Target(incoming) => match &mut incoming.body {
                Some(body) => body.gather(taken).await,
                None => pending().await,
            },
        }
    }

    /// What is at hand costs no wait: a body of many small pieces would keep the worker from all others. Not so over
    /// HTTP/2, where the library ends a connection for small frames that nobody takes from it.
    async fn gives_way(&mut self) {
        if let Source::H1(_) = self {
            consume_budget().await;
        }
    }

    fn stream(&mut self) -> Option<&mut Inflow> {
        match self {
            Source::H1(_) => None,
            Source::Client(body) => Some(body),
            Source::Target(incoming) => incoming.body.as_mut(),
        }
    }
}

impl H1Source<'_> {
    async fn next(&mut self) -> Result<Frame, String> {
        loop {
            if let Some(frame) = self.decoder.next(self.buf).map_err(|error| format!("{error:?}"))? {
                return Ok(frame);
            }
            let room = self.share.map_or(BODY_READ_SIZE, |share| share.piece(BODY_READ_SIZE));
            if room < BODY_READ_SIZE && self.buf.is_empty() {
                // Not into what is left of a large buffer.
                *self.buf = BytesMut::new();
            }
            if fill(self.io, self.buf, room).await.map_err(|error| error.to_string())? == 0 {
                return self.decoder.closed().ok_or_else(|| "closed in the middle of a body".to_owned());
            }
        }
    }
}

async fn next_of_stream(body: &mut Inflow) -> Result<Frame, String> {
    Ok(match body.next().await? {
        Part::Data(data) => Frame::Data(data),
        Part::Trailers(trailers) => Frame::Trailers(trailers),
        Part::End => Frame::End,
    })
}

/// Carries a body to its end, adding to `count` what it delivered. Bytes are written as soon as no more are
/// at hand: a watch's event waits for nothing.
pub async fn copy(source: &mut Source<'_>, sink: &mut Sink<'_>, count: &AtomicU64) -> Result<(), Broken> {
    copy_noted(source, sink, count, |_| {}, pending).await
}

/// The same; `note` is told of each frame once it is read, before anything may cancel its way. `late` is awaited
/// while something waits for the reader, each time anew, and ends that.
pub async fn copy_noted<L: Future<Output = Broken>>(
    source: &mut Source<'_>,
    sink: &mut Sink<'_>,
    count: &AtomicU64,
    note: impl Fn(&Frame),
    late: impl Fn() -> L,
) -> Result<(), Broken> {
    let buffered = |source: &mut Source<'_>| {
        let frame = source.buffered();
        if let Some(Ok(frame)) = &frame {
            note(frame);
        }
        frame
    };
    let mut at_hand = buffered(source);
    loop {
        source.gives_way().await;
        let frame = match at_hand {
            Some(frame) => frame.map_err(Broken::Source)?,
            None => {
                let frame = await_next(source, sink, &late).await?;
                note(&frame);
                frame
            }
        };
        match frame {
            Frame::Data(data) => {
                let n = data.len();
                at_hand = buffered(source);
                let last = matches!(at_hand, Some(Ok(Frame::End)));
                let next = if let Some(Ok(Frame::Data(next))) = &at_hand { next.len() } else { 0 };
                tokio::select! {
                    biased;
                    sent = sink.data(data, last) => sent.map_err(Broken::Sink)?,
                    full = source.gather(n + next) => return Err(full.into()),
                    broken = late() => return Err(broken),
                }
                source.delivered(n);
                count.fetch_add(n as u64, Ordering::Relaxed);
                if last {
                    return Ok(());
                }
            }
            Frame::Trailers(mut trailers) => {
                headers::trailers(&mut trailers);
                return finish(sink, Some(trailers), late()).await;
            }
            Frame::End => return finish(sink, None, late()).await,
        }
    }
}

async fn finish(
    sink: &mut Sink<'_>,
    trailers: Option<HeaderMap>,
    late: impl Future<Output = Broken>,
) -> Result<(), Broken> {
    tokio::select! {
        biased;
        sent = sink.finish(trailers) => sent.map_err(Broken::Sink),
        broken = late => Err(broken),
    }
}

async fn await_next<L: Future<Output = Broken>>(
    source: &mut Source<'_>,
    sink: &mut Sink<'_>,
    late: &impl Fn() -> L,
) -> Result<Frame, Broken> {
    let gathered = sink.gathered();
    tokio::select! {
        biased;
        flushed = sink.flush() => flushed.map_err(Broken::Sink)?,
        full = source.gather(gathered) => return Err(full.into()),
        broken = late() => return Err(broken),
    }
    tokio::select! {
        biased;
        frame = source.next() => frame.map_err(Broken::Source),
        why = sink.gone() => Err(Broken::Sink(why)),
    }
}

#[cfg(test)]
mod tests;
