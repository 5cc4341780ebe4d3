//! Bodies on their way between two legs, whatever each speaks. One task carries both directions; at most one
//! read and one write buffer per direction exist, so a slow reader stops the writer.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use h2::SendStream;
use http::HeaderMap;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::coop::consume_budget;

use crate::http::buffer::{Reader, fill};
use crate::http::headers;
use crate::http::http2::{Held, Inflow, NoRoom, Outflow, Part, Share, told_of_reset, weight};
use crate::http::wire::{Decoder, Encoder, Frame};
use crate::upstream::multiplex::Incoming;

/// Reads of a body that fills the first buffer; one TLS record.
const BODY_READ_SIZE: usize = 16 << 10;
/// Bytes gathered before they are written although more is at hand; one TLS record.
const WRITE_SIZE: usize = 16 << 10;

/// Such pieces may be much smaller than the buffer that they lie in.
const SMALL: usize = 4 << 10;

pub type Writer<'a> = &'a mut (dyn AsyncWrite + Send + Unpin);

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

pub struct H1Sink<'a> {
    pub io: Writer<'a>,
    pub out: &'a mut BytesMut,
    pub encoder: Encoder,
}

impl H1Sink<'_> {
    pub async fn flush(&mut self) -> std::io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.io.write_all(self.out).await?;
        self.out.clear();
        self.io.flush().await
    }
}

/// Where a body goes.
pub enum Sink<'a> {
    H1(H1Sink<'a>),
    H2(&'a mut SendStream<Bytes>, &'a Outflow),
    /// The message ended with its head.
    None,
}

impl Sink<'_> {
    /// `last`: nothing follows.
    pub async fn data(&mut self, data: Bytes, last: bool) -> Result<(), String> {
        match self {
            Sink::H1(h1) => {
                h1.encoder.data(&data, h1.out).map_err(|error| format!("{error:?}"))?;
                if last {
                    return self.finish(None).await;
                }
                if h1.out.len() < WRITE_SIZE {
                    Ok(())
                } else {
                    h1.flush().await.map_err(|error| error.to_string())
                }
            }
            Sink::H2(stream, outflow) => send(stream, outflow, data, last).await,
            Sink::None => Ok(()),
        }
    }

    async fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), String> {
        match (self, trailers) {
            (Sink::H1(h1), trailers) => {
                h1.encoder.end(trailers.as_ref(), h1.out).map_err(|error| format!("{error:?}"))?;
                h1.flush().await.map_err(|error| error.to_string())
            }
            (Sink::H2(stream, outflow), Some(trailers)) => {
                let reset = poll_fn(|cx| stream.poll_reset(cx));
                let place = outflow.place(weight(&trailers), reset).await?;
                stream.send_trailers(trailers).map_err(|error| error.to_string())?;
                place.fill();
                Ok(())
            }
            (Sink::H2(stream, _), None) => {
                stream.send_data(Bytes::new(), true).map_err(|error| error.to_string())
            }
            (Sink::None, _) => Ok(()),
        }
    }

    /// Bytes that wait here for more, or for their reader.
    fn gathered(&self) -> usize {
        match self {
            Sink::H1(h1) => h1.out.len(),
            Sink::H2(..) | Sink::None => 0,
        }
    }

    pub async fn flush(&mut self) -> Result<(), String> {
        match self {
            Sink::H1(h1) => h1.flush().await.map_err(|error| error.to_string()),
            Sink::H2(..) | Sink::None => Ok(()),
        }
    }

    /// Resolves when the reader of this body is gone. An HTTP/1.1 reader is watched by the other direction.
    async fn gone(&mut self) -> String {
        match self {
            Sink::H2(stream, _) => told_of_reset(poll_fn(|cx| stream.poll_reset(cx)).await),
            Sink::H1(_) | Sink::None => pending().await,
        }
    }
}

/// Waits for the peer's window before it sends, and for a place on the way to its socket.
async fn send(
    stream: &mut SendStream<Bytes>,
    outflow: &Outflow,
    mut data: Bytes,
    last: bool,
) -> Result<(), String> {
    if data.is_empty() && last {
        return stream.send_data(data, true).map_err(|error| error.to_string());
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(room) => room.map_err(|error| error.to_string())?,
            None => return Err("stream closed".to_owned()),
        };
        let mut bytes = room.min(data.len());
        let place = match outflow.place_now(bytes) {
            Some(place) => place,
            None => {
                let place = outflow.place(bytes, poll_fn(|cx| stream.poll_reset(cx))).await?;
                // The peer may have made its windows smaller meanwhile.
                bytes = bytes.min(stream.capacity());
                place
            }
        };
        if bytes == 0 {
            continue;
        }
        let mut piece = data.split_to(bytes);
        if piece.len() < SMALL && outflow.is_crowded() {
            piece = Bytes::copy_from_slice(&piece);
        }
        stream.send_data(piece, last && data.is_empty()).map_err(|error| error.to_string())?;
        place.fill_with(bytes);
    }
    Ok(())
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
