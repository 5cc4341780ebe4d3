//! Where a body goes: a connection of HTTP/1.1, or a stream of HTTP/2.

use std::future::{pending, poll_fn};

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use http::HeaderMap;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::http::http2::{Outflow, told_of_reset, weight};
use crate::http::wire::Encoder;

/// Bytes gathered before they are written although more is at hand; one TLS record.
const WRITE_SIZE: usize = 16 << 10;

/// Such pieces may be much smaller than the buffer that they lie in.
const SMALL: usize = 4 << 10;

pub type Writer<'a> = &'a mut (dyn AsyncWrite + Send + Unpin);

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

    pub(super) async fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), String> {
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
    pub(super) fn gathered(&self) -> usize {
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
    pub(super) async fn gone(&mut self) -> String {
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
