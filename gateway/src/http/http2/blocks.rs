//! Holds back what a peer sends of a header block whose last frame is not there yet. The library unpacks each
//! frame as it comes, a field for a byte, and may hold it until the peer is silent: here it is as long as it
//! was sent, is counted, and must end in time. Since it sees each frame, it also counts what the library has of
//! a client's frames that do not end, lets others have their turn where many small ones come, and tells `outflow`
//! when a peer makes its windows smaller.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;
use tokio::time::{Sleep, sleep};

use super::budget::{Held, Share};
use super::outflow::Outflow;

const HEAD: usize = 9;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// A setting: two bytes say which, four its value.
const SETTING: usize = 6;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// Before a peer says another (RFC 9113, 6.5.2).
const FIRST_WINDOW: u32 = 65_535;
/// The largest frame that the library takes.
const MAX_FRAME: usize = 16 << 10;
/// Bytes of a block or a frame that cost nothing: most heads are smaller.
const SMALL: usize = 4 << 10;
/// For a frame without room.
const CROWDED: Duration = Duration::from_secs(1);
/// Frames that cost as much of a task's turn as one read. Of the smallest, one read has a thousand.
const FRAMES: usize = 32;
/// What a client sends before its first frame.
pub const PREFACE: usize = 24;

pub struct Blocks<S> {
    io: S,
    frames: Frames,
    /// From the beginning of a block on; the first `passes` bytes may be read.
    kept: BytesMut,
    passes: usize,
    bounds: Bounds,
    outflow: Outflow,
}

/// Whose it is what a connection holds.
type Owner = Box<dyn Fn() -> Arc<Share> + Send + Sync>;

/// Of each block of a connection.
struct Bounds {
    owner: Owner,
    /// The connection ends where there is no room. Not one that others use, too.
    ends: bool,
    time: Duration,
    held: Option<Held>,
    late: Option<Pin<Box<Sleep>>>,
}

/// Where in the frames the bytes are.
struct Frames {
    /// The beginning of a frame's head.
    head: [u8; HEAD],
    has: usize,
    /// Bytes of a frame's payload still to come, and of all of it.
    payload: usize,
    length: usize,
    /// Frames that have come and took no turn yet.
    came: usize,
    block: Option<Block>,
    windows: Windows,
    /// A block has, since this was last asked.
    ended: bool,
    most: usize,
}

/// What the peer's settings say of the windows that it gives.
struct Windows {
    /// The frame is one of settings; so much of one of them is there.
    read: bool,
    setting: [u8; SETTING],
    has: usize,
    now: u32,
    /// Smaller, since this was last asked.
    narrowed: bool,
}

/// A block of which something is still to come.
struct Block {
    stream: [u8; 4],
    /// As far as they are known.
    frames: usize,
    bytes: usize,
    /// Its last frame has begun.
    ends: bool,
}

impl<S> Blocks<S> {
    /// `list`: the largest header list that the library takes. `time`: of each block.
    pub fn of_client(io: S, (list, time): (usize, Duration), outflow: Outflow, owner: Owner) -> Blocks<S> {
        Blocks::new(io, PREFACE, list, Bounds { owner, ends: true, time, held: None, late: None }, outflow)
    }

    /// The same of a connection that is shared by requests.
    pub fn of_target(
        io: S,
        (list, time): (usize, Duration),
        outflow: Outflow,
        share: Arc<Share>,
    ) -> Blocks<S> {
        let owner = Box::new(move || share.clone());
        Blocks::new(io, 0, list, Bounds { owner, ends: false, time, held: None, late: None }, outflow)
    }

    /// `before`: bytes before the first frame.
    fn new(io: S, before: usize, list: usize, bounds: Bounds, outflow: Outflow) -> Blocks<S> {
        // More frames than the library takes, so that it is the library that ends the connection.
        let most = 8 + list / (MAX_FRAME / 2);
        let windows =
            Windows { read: false, setting: [0; SETTING], has: 0, now: FIRST_WINDOW, narrowed: false };
        let frames = Frames {
            head: [0; HEAD],
            has: 0,
            payload: before,
            length: 0,
            came: 0,
            block: None,
            windows,
            ended: false,
            most,
        };
        Blocks { io, frames, kept: BytesMut::new(), passes: 0, bounds, outflow }
    }
}

impl Frames {
    /// Says from where on the bytes must be held back; 0: as those before them.
    fn walk(&mut self, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut from) = (0, self.holds_back().then_some(0));
        while at < bytes.len() {
            let rest = &bytes[at..];
            let wanted = if self.payload > 0 { self.payload } else { HEAD - self.has };
            let n = wanted.min(rest.len());
            if let Some(block) = &mut self.block {
                block.bytes += n;
            }
            at += n;
            if self.payload > 0 {
                self.windows.learn(&rest[..n]);
                self.payload -= n;
                self.ended |= self.payload == 0 && self.block.is_none();
            } else {
                self.head[self.has..self.has + n].copy_from_slice(&rest[..n]);
                self.has += n;
                if self.has < HEAD {
                    break;
                }
                self.has = 0;
                self.begins();
                from = self.holds_back().then_some(from.unwrap_or(at));
            }
            if self.payload == 0 && self.block.as_ref().is_some_and(|block| block.ends) {
                (self.block, self.ended, from) = (None, true, None);
            }
        }
        from
    }

    /// A frame. One that must not be there is the library's to judge, with all before it.
    fn begins(&mut self) {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.length = self.payload;
        self.came += 1;
        self.windows.read = kind == SETTINGS && flags & ACK == 0;
        self.windows.has = 0;
        let (ends, fits) = (flags & END_HEADERS != 0, self.payload <= MAX_FRAME);
        self.block = match (self.block.take(), kind) {
            (None, HEADERS | PUSH_PROMISE) if fits => Some(Block { stream, frames: 1, bytes: 0, ends }),
            (Some(block), CONTINUATION) if fits && block.stream == stream && block.frames < self.most => {
                Some(Block { frames: block.frames + 1, ends, ..block })
            }
            _ => None,
        };
        self.ended |= self.block.is_none();
    }

    /// What the library has made room for, as soon as the frame's head is there. Not of a block, which counts as it comes.
    fn unended(&self) -> usize {
        let is_one = self.payload > 0 && self.block.is_none() && self.length <= MAX_FRAME;
        if is_one { self.length } else { 0 }
    }

    /// Not a block of one frame: the library keeps that as it is.
    fn holds_back(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.frames > 1 || !block.ends)
    }
}

impl Windows {
    fn learn(&mut self, bytes: &[u8]) {
        if !self.read {
            return;
        }
        for byte in bytes {
            self.setting[self.has] = *byte;
            self.has = (self.has + 1) % SETTING;
            let [a, b, value @ ..] = self.setting;
            if self.has == 0 && u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE {
                let next = u32::from_be_bytes(value);
                self.narrowed |= next < self.now;
                self.now = next;
            }
        }
    }
}

impl Bounds {
    /// Asked whenever something has come.
    fn room(&mut self, bytes: usize) -> io::Result<()> {
        if bytes <= SMALL {
            self.held = None;
            return Ok(());
        }
        let room = self.held.get_or_insert_with(|| Held::new((self.owner)())).set(bytes);
        if room || !self.ends { Ok(()) } else { Err(io::Error::other("no room for a header block")) }
    }

    /// From when it was asked first, for a block or a frame.
    fn time(&mut self, cx: &mut Context<'_>, time: Duration) -> Poll<io::Result<()>> {
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(time)));
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "a frame or a header block did not end in time",
        )))
    }
}

impl<S: AsyncRead + Unpin> Blocks<S> {
    /// Reads more behind what is filled. True at the end of the stream, or when something may be read.
    fn poll_more(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending => return self.nothing_more(cx).map_ok(|()| false),
            Poll::Ready(read) => read?,
        }
        let (new, kept) = (&buf.filled()[before..], self.kept.len());
        if new.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let from = self.frames.walk(new);
        if std::mem::take(&mut self.frames.windows.narrowed) {
            self.outflow.narrows();
        }
        let passes = if kept == 0 { from.unwrap_or(new.len()) } else { 0 };
        self.kept.extend_from_slice(&new[passes..]);
        buf.set_filled(before + passes);
        if kept > 0 {
            self.passes = match from {
                None => self.kept.len(),
                Some(0) => 0,
                Some(from) => kept + from,
            };
        }
        if std::mem::take(&mut self.frames.ended) {
            self.bounds.late = None;
        }
        self.bounds.room(self.block())?;
        Poll::Ready(Ok(passes + self.passes > 0))
    }

    /// What the block takes of which something is still to come.
    fn block(&self) -> usize {
        self.frames.block.as_ref().map_or(0, |block| block.bytes.max(self.kept.capacity()))
    }

    /// For now. A frame of a client that does not end takes its room, and where there is none it must end soon: one that
    /// keeps to the windows sends smaller ones by then.
    fn nothing_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.frames.block.is_some() {
            return self.bounds.time(cx, self.bounds.time);
        }
        let unended = if self.bounds.ends { self.frames.unended() } else { 0 };
        if unended > 0 && (self.bounds.late.is_some() || self.bounds.room(unended).is_err()) {
            return self.bounds.time(cx, self.bounds.time.min(CROWDED));
        }
        Poll::Pending
    }

    /// Other tasks', where frames are small.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.frames.came >= FRAMES {
            ready!(coop::poll_proceed(cx)).made_progress();
            self.frames.came -= FRAMES;
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Blocks<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let blocks = self.get_mut();
        ready!(blocks.poll_turn(cx));
        loop {
            if blocks.passes > 0 {
                let n = blocks.passes.min(buf.remaining());
                buf.put_slice(&blocks.kept[..n]);
                blocks.kept.advance(n);
                blocks.passes -= n;
                if blocks.kept.is_empty() {
                    blocks.kept = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if blocks.kept.is_empty() {
                if ready!(blocks.poll_more(cx, buf))? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let mut room = [0; SMALL];
            let mut own = ReadBuf::new(&mut room);
            if ready!(blocks.poll_more(cx, &mut own))? && blocks.passes == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Blocks<S> {
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
    use prometheus::IntGauge;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::Budget;
    use super::*;

    const DATA: u8 = 0;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
        [&length[..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    }

    fn share() -> (Arc<Share>, IntGauge) {
        let gauge = IntGauge::new("held", "bytes").unwrap();
        let requests = IntGauge::new("requests", "bytes").unwrap();
        (Budget::new(gauge.clone(), requests).nobodys(), gauge)
    }

    /// One of a client, with its outflow left to nobody.
    fn of_client<S>(io: S, time: Duration, share: Arc<Share>) -> Blocks<S> {
        let owner = Box::new(move || share.clone());
        Blocks::of_client(io, (64 << 10, time), Outflow::default(), owner)
    }

    fn blocks<S>(io: S, time: Duration) -> (Blocks<S>, IntGauge) {
        let (share, gauge) = share();
        (of_client(io, time, share), gauge)
    }

    #[tokio::test]
    async fn all_passes_as_it_was_sent_wherever_reads_and_writes_are_cut() {
        let sent = [
            vec![7; PREFACE],
            frame(HEADERS, END_HEADERS, 1, b"head"),
            frame(DATA, 0, 1, &[0; 300]),
            frame(HEADERS, 0, 3, &[1; 200]),
            frame(CONTINUATION, 0, 3, &[2; 100]),
            frame(CONTINUATION, END_HEADERS, 3, b"end"),
            frame(HEADERS, 0, 5, b""),
            frame(CONTINUATION, END_HEADERS, 5, b""),
            frame(HEADERS, 0, 7, b"odd"),
            frame(DATA, 0, 7, b"in between"),
        ]
        .concat();
        for (write, room) in [(1, 1), (1, 500), (3, 7), (8, 64), (9, 63), (10, 100), (500, 3), (5000, 5000)] {
            let (near, mut far) = duplex(1 << 16);
            let (mut blocks, gauge) = blocks(near, Duration::from_secs(60));
            let pieces = sent.clone();
            let writer = tokio::spawn(async move {
                for piece in pieces.chunks(write) {
                    far.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let (mut seen, mut buf) = (Vec::new(), vec![0; room]);
            loop {
                match blocks.read(&mut buf).await.unwrap() {
                    0 => break,
                    n => seen.extend_from_slice(&buf[..n]),
                }
            }
            writer.await.unwrap();
            assert_eq!(seen, sent, "written by {write}, read by {room}");
            assert_eq!(gauge.get(), 0);
        }
    }

    #[tokio::test]
    async fn a_block_is_held_back_and_counted_until_its_end_is_there() {
        let (near, mut far) = duplex(1 << 20);
        let (mut blocks, gauge) = blocks(near, Duration::from_secs(60));
        far.write_all(&[0; PREFACE]).await.unwrap();
        far.write_all(&frame(HEADERS, 0, 1, &[1; MAX_FRAME])).await.unwrap();
        far.write_all(&frame(CONTINUATION, 0, 1, &[2; MAX_FRAME])).await.unwrap();
        let mut seen = vec![0; 1 << 20];
        assert_eq!(blocks.read(&mut seen).await.unwrap(), PREFACE + HEAD);
        let more = tokio::time::timeout(Duration::from_millis(50), blocks.read(&mut seen)).await;
        assert!(more.is_err(), "a part of it has passed");
        assert!(gauge.get() > 32 << 10 && gauge.get() < 128 << 10, "{}", gauge.get());
        far.write_all(&frame(CONTINUATION, END_HEADERS, 1, b"end")).await.unwrap();
        let all = 2 * (HEAD + MAX_FRAME) + 3;
        blocks.read_exact(&mut seen[..all]).await.unwrap();
        assert_eq!(gauge.get(), 0);
    }

    /// A client that has begun a frame of data of so many bytes, and what it can write to.
    async fn begun(bytes: usize, time: Duration, share: Arc<Share>) -> (Blocks<DuplexStream>, DuplexStream) {
        let (near, mut far) = duplex(1 << 20);
        let mut blocks = of_client(near, time, share);
        far.write_all(&[0; PREFACE]).await.unwrap();
        far.write_all(&frame(DATA, 0, 1, &vec![1; bytes])[..HEAD]).await.unwrap();
        blocks.read_exact(&mut [0; PREFACE + HEAD]).await.unwrap();
        (blocks, far)
    }

    #[tokio::test]
    async fn a_frame_that_does_not_end_takes_its_room_and_all_the_time_it_likes() {
        let (share, gauge) = share();
        for (bytes, counted) in [(SMALL, 0), (MAX_FRAME, 16 << 10), (MAX_FRAME + 1, 0)] {
            let (mut blocks, mut far) = begun(bytes, Duration::from_millis(50), share.clone()).await;
            let more = tokio::time::timeout(Duration::from_millis(200), blocks.read_u8()).await;
            assert!(more.is_err(), "nothing was sent, and nothing ends");
            assert_eq!(gauge.get(), counted, "of {bytes} bytes");
            far.write_all(&[1]).await.unwrap();
            blocks.read_u8().await.unwrap();
            drop(blocks);
            assert_eq!(gauge.get(), 0);
        }
    }

    #[tokio::test]
    async fn where_there_is_no_room_a_large_frame_must_end_in_time_and_a_small_one_goes_on() {
        let (share, _) = share();
        let mut others = Held::new(share.clone());
        assert!(!others.set(1 << 30));
        let (mut blocks, _far) = begun(MAX_FRAME, Duration::from_millis(50), share.clone()).await;
        let ended = tokio::time::timeout(Duration::from_secs(5), blocks.read_u8()).await;
        assert_eq!(ended.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut blocks, mut far) = begun(MAX_FRAME, Duration::from_secs(1), share.clone()).await;
        // Each has its own time.
        for _ in 0..4 {
            let ends = async {
                tokio::time::sleep(Duration::from_millis(400)).await;
                far.write_all(&[1; MAX_FRAME]).await.unwrap();
                far.write_all(&frame(DATA, 0, 1, &[1; MAX_FRAME])[..HEAD]).await.unwrap();
            };
            let mut payload = vec![0; MAX_FRAME + HEAD];
            let (read, ()) = tokio::join!(blocks.read_exact(&mut payload), ends);
            read.unwrap();
        }
        let (mut blocks, mut far) = begun(MAX_FRAME, Duration::from_millis(500), share.clone()).await;
        assert!(tokio::time::timeout(Duration::from_millis(100), blocks.read_u8()).await.is_err());
        far.write_all(&[1; MAX_FRAME]).await.unwrap();
        blocks.read_exact(&mut [0; MAX_FRAME]).await.unwrap();
        // It rests for longer than that time, and what comes then has all of it again.
        assert!(tokio::time::timeout(Duration::from_millis(700), blocks.read_u8()).await.is_err());
        let head = frame(HEADERS, END_HEADERS, 3, b"head");
        far.write_all(&head[..HEAD + 1]).await.unwrap();
        blocks.read_exact(&mut [0; HEAD + 1]).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(100), blocks.read_u8()).await.is_err());
        far.write_all(&head[HEAD + 1..]).await.unwrap();
        blocks.read_exact(&mut [0; 3]).await.unwrap();
        let (mut blocks, _far) = begun(SMALL, Duration::from_millis(50), share).await;
        assert!(tokio::time::timeout(Duration::from_millis(200), blocks.read_u8()).await.is_err());
    }

    #[tokio::test]
    async fn a_flood_of_small_frames_lets_others_have_their_turn() {
        let frames = frame(6, 0, 0, &[0; 8]).repeat(20_000);
        let sent = [vec![0; PREFACE], frames].concat();
        let (mut blocks, _) = blocks(std::io::Cursor::new(sent), Duration::from_secs(60));
        let mut turns = 0;
        let others = async {
            loop {
                turns += 1;
                tokio::task::yield_now().await;
            }
        };
        let all = async {
            // As the library does.
            let mut room = [0; 8 << 10];
            while blocks.read(&mut room).await.unwrap() > 0 {}
        };
        tokio::select! {
            biased;
            () = all => {}
            () = others => {}
        }
        assert!(turns > 2, "{turns} turns");
    }

    #[tokio::test]
    async fn smaller_windows_are_noticed_wherever_reads_are_cut() {
        let setting = |kind: u16, value: u32| [&kind.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let window = |value| setting(INITIAL_WINDOW_SIZE, value);
        for (settings, expected) in [
            (vec![], false),
            (window(FIRST_WINDOW), false),
            (window(FIRST_WINDOW - 1), true),
            ([window(1 << 20), setting(3, 0), setting(5, 16 << 10)].concat(), false),
            ([setting(1, 0), window(1 << 20), window((1 << 20) - 1)].concat(), true),
        ] {
            let sent = [vec![0; PREFACE], frame(SETTINGS, ACK, 0, b""), frame(SETTINGS, 0, 0, &settings)];
            let sent = [sent.concat(), frame(DATA, 0, 1, &window(0))].concat();
            for size in [1, 5, 7, 500] {
                let (blocks, _) = blocks((), Duration::ZERO);
                let mut frames = blocks.frames;
                sent.chunks(size).for_each(|piece| {
                    frames.walk(piece);
                });
                assert_eq!(frames.windows.narrowed, expected, "{settings:?} in pieces of {size}");
            }
        }
    }

    #[tokio::test]
    async fn each_block_has_its_own_time_and_no_more() {
        let (near, mut far) = duplex(1 << 20);
        let (mut blocks, _) = blocks(near, Duration::from_secs(1));
        let mut sent = vec![0; PREFACE];
        for stream in [1, 3, 5, 7, 9, 11, 13, 15, 17] {
            sent.extend_from_slice(&frame(HEADERS, END_HEADERS, stream, b"head"));
        }
        let rest = sent.split_off(PREFACE + HEAD + 2);
        far.write_all(&sent).await.unwrap();
        let writer = tokio::spawn(async move {
            // The next begins with the end of the one before it.
            for piece in rest.chunks(HEAD + 4) {
                tokio::time::sleep(Duration::from_millis(150)).await;
                far.write_all(piece).await.unwrap();
            }
            far.write_all(&frame(HEADERS, 0, 19, b"no end")).await.unwrap();
            far
        });
        let mut seen = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), blocks.read_to_end(&mut seen)).await;
        assert_eq!(ended.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(seen.len() > 9 * (HEAD + 4), "one that ended was too late: {}", seen.len());
        drop(writer.await.unwrap());
    }
}
