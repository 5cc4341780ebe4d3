//! HTTP/2 by hand, for targets that do what no library lets them do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::target::Tls;

const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 5;

pub const NO_ERROR: u32 = 0;
pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A target's end of a connection.
pub struct Frames(Tls);

impl Frames {
    pub async fn begin(mut tls: Tls) -> Option<Frames> {
        tls.read_exact(&mut [0; PREFACE]).await.ok()?;
        let mut frames = Frames(tls);
        frames.put(SETTINGS, 0, 0, &[]).await;
        Some(frames)
    }

    /// Room for 1 MiB, on each stream and on the connection.
    pub async fn give_room(&mut self) {
        self.put(SETTINGS, 0, 0, &[0, 4, 0, 0x10, 0, 0]).await;
        self.put(WINDOW_UPDATE, 0, 0, &[0, 0x0f, 0, 0]).await;
    }

    /// The stream of the next request; what else comes is answered or dropped. None at the end of the
    /// connection.
    pub async fn request(&mut self) -> Option<u32> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            match kind {
                SETTINGS if flags & ACK == 0 => self.put(SETTINGS, ACK, 0, &[]).await,
                PING if flags & ACK == 0 => self.put(PING, ACK, 0, &payload).await,
                HEADERS => return Some(u32::from_be_bytes(stream)),
                _ => {}
            }
        }
    }

    /// 200 without a body: the eighth entry of HPACK's table.
    pub async fn answer(&mut self, stream: u32) {
        self.put(HEADERS, END_STREAM_AND_HEADERS, stream, &[0x88]).await;
    }

    pub async fn go_away(&mut self, last: u32, reason: u32) {
        self.put(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat()).await;
    }

    pub async fn reset(&mut self, stream: u32, reason: u32) {
        self.put(RESET, 0, stream, &reason.to_be_bytes()).await;
    }

    /// A frame that must not be.
    pub async fn nonsense(&mut self) {
        self.put(DATA, 0, 0, b"?").await;
    }

    async fn put(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
        let frame = [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        // Whoever has left is noticed by the next read.
        let _ = self.0.write_all(&frame).await;
    }
}
