//! The body of one HTTP/2 stream, read ahead of a reader that has stopped: what the library holds of it is
//! held frame by frame, and counted against all streams of the connection, which it ends one day for many
//! small frames. Taken out of there they are bytes, within the stream's own window, for that is given back
//! only when the reader gets them.

use std::future::pending;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;

use super::budget::{Held, Share};
use super::outflow::weight;

/// Handed out at a time; one TLS record.
const PIECE: usize = 16 << 10;
/// Largest trailers: what a status of gRPC may take.
const TRAILERS: usize = 16 << 10;

pub struct Inflow {
    stream: RecvStream,
    ahead: BytesMut,
    held: Held,
    /// How it ended behind what was read ahead.
    end: Option<Result<End, String>>,
}

enum End {
    Plain,
    Trailers(HeaderMap),
}

/// The streams of its namespace hold all that they may.
#[derive(Debug)]
pub struct NoRoom;

/// A part of a body.
pub enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

impl Inflow {
    pub fn new(stream: RecvStream, share: Arc<Share>) -> Inflow {
        Inflow { stream, ahead: BytesMut::new(), held: Held::new(share), end: None }
    }

    /// It is known whose it is. False if there is no room for what was read ahead.
    pub fn belongs_to(&mut self, share: Arc<Share>) -> bool {
        self.held = Held::new(share);
        self.held.set(self.ahead.len())
    }

    /// Nothing follows, and that is known.
    pub fn is_end(&self) -> bool {
        self.ahead.is_empty() && self.end.is_none() && self.stream.is_end_stream()
    }

    /// The next part can be had without waiting.
    pub fn is_at_hand(&self) -> bool {
        !self.ahead.is_empty() || self.end.is_some() || self.stream.is_end_stream()
    }

    /// Cancelling loses nothing. Whoever has taken data says when it is delivered.
    pub async fn next(&mut self) -> Result<Part, String> {
        self.held.set(self.ahead.len());
        if !self.ahead.is_empty() {
            let data = self.ahead.split_to(self.ahead.remaining().min(PIECE)).freeze();
            if self.ahead.is_empty() {
                self.ahead = BytesMut::new();
            }
            return Ok(Part::Data(data));
        }
        if let Some(end) = self.end.take() {
            return end.map(End::part);
        }
        match self.read().await? {
            Ok(data) => Ok(Part::Data(data)),
            Err(end) => Ok(end.part()),
        }
    }

    /// So many bytes have left: the peer may send as many again. Not before, or a reader that has stopped would
    /// have what was taken for it held beside a whole window.
    pub fn delivered(&mut self, bytes: usize) {
        // What is broken shows when it is read on.
        let _ = self.stream.flow_control().release_capacity(bytes);
    }

    /// Reads ahead for as long as it is awaited, while `taken` bytes wait for their delivery. Resolves when there is no
    /// room for more: the stream has to end. Cancelling loses nothing.
    pub async fn gather(&mut self, taken: usize) -> NoRoom {
        loop {
            let trailers = match &self.end {
                Some(Ok(End::Trailers(trailers))) => weight(trailers),
                _ => 0,
            };
            if !self.held.set(self.ahead.len() + taken + trailers) {
                return NoRoom;
            }
            if self.end.is_some() {
                return pending().await;
            }
            match self.read().await {
                Ok(Ok(data)) => self.ahead.extend_from_slice(&data),
                Ok(Err(end)) => self.end = Some(Ok(end)),
                Err(why) => self.end = Some(Err(why)),
            }
        }
    }

    async fn read(&mut self) -> Result<Result<Bytes, End>, String> {
        match self.stream.data().await {
            Some(Ok(data)) => Ok(Ok(data)),
            Some(Err(error)) => Err(error.to_string()),
            None => match self.stream.trailers().await.map_err(|error| error.to_string())? {
                Some(trailers) if weight(&trailers) > TRAILERS => {
                    Err("its trailers are too large".to_owned())
                }
                Some(trailers) => Ok(Err(End::Trailers(trailers))),
                None => Ok(Err(End::Plain)),
            },
        }
    }
}

impl End {
    fn part(self) -> Part {
        match self {
            End::Plain => Part::End,
            End::Trailers(trailers) => Part::Trailers(trailers),
        }
    }
}
