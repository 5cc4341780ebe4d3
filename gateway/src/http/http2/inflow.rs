//! The body of one HTTP/2 stream, read ahead of a reader that has stopped: what the library holds of it is
//! held frame by frame, and counted against all streams of the connection, which it ends one day for many
//! small frames. Taken out of there they are bytes, within the stream's own window, for that is given back
//! only when the reader gets them.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;

use super::budget::{Budget, Held};

/// Handed out at a time; one TLS record.
const PIECE: usize = 16 << 10;

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

/// A part of a body.
pub enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

impl Inflow {
    pub fn new(stream: RecvStream, budget: Arc<Budget>) -> Inflow {
        Inflow { stream, ahead: BytesMut::new(), held: Held::new(budget), end: None }
    }

    /// Nothing follows, and that is known.
    pub fn is_end(&self) -> bool {
        self.ahead.is_empty() && self.end.is_none() && self.stream.is_end_stream()
    }

    /// The next part can be had without waiting.
    pub fn is_at_hand(&self) -> bool {
        !self.ahead.is_empty() || self.end.is_some() || self.stream.is_end_stream()
    }

    /// Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Part, String> {
        if !self.ahead.is_empty() {
            let data = self.ahead.split_to(self.ahead.remaining().min(PIECE)).freeze();
            if self.ahead.is_empty() {
                self.ahead = BytesMut::new();
            }
            self.held.set(self.ahead.len());
            return self.give_back(data);
        }
        if let Some(end) = self.end.take() {
            return end.map(End::part);
        }
        match self.read().await? {
            Ok(data) => self.give_back(data),
            Err(end) => Ok(end.part()),
        }
    }

    /// Reads ahead for as long as it is awaited. Cancelling loses nothing.
    pub async fn gather(&mut self) -> Infallible {
        while self.end.is_none() {
            match self.read().await {
                Ok(Ok(data)) => {
                    self.ahead.extend_from_slice(&data);
                    if !self.held.set(self.ahead.len()) {
                        self.end = Some(Err("its reader has stopped, and memory is short".to_owned()));
                    }
                }
                Ok(Err(end)) => self.end = Some(Ok(end)),
                Err(why) => self.end = Some(Err(why)),
            }
        }
        pending().await
    }

    async fn read(&mut self) -> Result<Result<Bytes, End>, String> {
        match self.stream.data().await {
            Some(Ok(data)) => Ok(Ok(data)),
            Some(Err(error)) => Err(error.to_string()),
            None => match self.stream.trailers().await.map_err(|error| error.to_string())? {
                Some(trailers) => Ok(Err(End::Trailers(trailers))),
                None => Ok(Err(End::Plain)),
            },
        }
    }

    /// The peer may send as much again.
    fn give_back(&mut self, data: Bytes) -> Result<Part, String> {
        // A stream that has ended needs no window.
        let given = self.stream.flow_control().release_capacity(data.len());
        if let (Err(error), None) = (given, &self.end) {
            return Err(error.to_string());
        }
        Ok(Part::Data(data))
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
