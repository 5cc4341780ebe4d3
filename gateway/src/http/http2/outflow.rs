//! What the library has of one connection on its way to the socket. It takes all that it is given, whether or not the
//! peer reads: whoever hands something over waits here for a place first. All that was handed over has left when a
//! turn of the connection ends with nothing unwritten, so nobody counts frame by frame. But a peer that makes its
//! windows smaller may keep here what was meant for the larger ones: from then on the places of what was handed over
//! and not seen to leave are not given back, until all has left.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use h2::Reason;
use http::HeaderMap;
use tokio::sync::Semaphore;

use super::SEND_BUFFER;

/// Bytes on their way to a peer that does not read, with what the library takes for them.
const MOST: usize = 256 << 10;
/// What the library takes for a frame.
const FRAME: usize = 320;
/// What a map of them takes for a field, beside its text: about a hundred bytes.
const FIELD: usize = 104;
/// With so much behind a socket that takes nothing, a small piece is worth its copy: it lies in a buffer of 16 KiB.
const CROWDED: usize = 32 << 10;

#[derive(Clone)]
pub struct Outflow(Arc<Queue>);

struct Queue {
    places: Semaphore,
    taken: AtomicUsize,
    /// Bytes of bodies that were handed over and have not left, and the pieces of this turn.
    inside: AtomicUsize,
    pieces: AtomicUsize,
    /// The peer's windows have become smaller since the last turn ended.
    narrowed: AtomicBool,
    /// They have, some time since nothing was inside: what the frames of what stays may take, and all of it.
    frames: AtomicUsize,
    kept: AtomicUsize,
}

/// For what is handed over next.
pub struct Place<'a> {
    queue: &'a Queue,
    taken: usize,
}

impl Place<'_> {
    /// The library has it.
    pub fn fill(mut self) {
        self.queue.taken.fetch_add(std::mem::take(&mut self.taken), Ordering::Relaxed);
    }

    /// It has so many bytes of a body.
    pub fn fill_with(self, bytes: usize) {
        self.queue.inside.fetch_add(bytes, Ordering::Relaxed);
        self.queue.pieces.fetch_add(1, Ordering::Relaxed);
        self.fill();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.queue.places.add_permits(self.taken);
        }
    }
}

/// Why nobody waits any longer for what a stream is to carry.
pub fn told_of_reset(reset: Result<Reason, h2::Error>) -> String {
    match reset {
        Ok(reason) => format!("stream reset: {reason}"),
        Err(error) => error.to_string(),
    }
}

/// Bytes of memory that fields take.
pub fn weight(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD).sum()
}

impl Default for Outflow {
    fn default() -> Outflow {
        Outflow(Arc::new(Queue {
            places: Semaphore::new(MOST),
            taken: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            pieces: AtomicUsize::new(0),
            narrowed: AtomicBool::new(false),
            frames: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
        }))
    }
}

impl Outflow {
    /// Room for so many bytes, nearly always: that costs a task nothing of its time.
    pub fn place_now(&self, bytes: usize) -> Option<Place<'_>> {
        let (taken, wanted) = taken(bytes);
        self.0.places.try_acquire_many(wanted).ok()?.forget();
        Some(Place { queue: &self.0, taken })
    }

    /// Waits for room for so many bytes, until the stream that they are for is `reset`. First come, first served.
    pub async fn place(
        &self,
        bytes: usize,
        reset: impl Future<Output = Result<Reason, h2::Error>>,
    ) -> Result<Place<'_>, String> {
        match self.place_now(bytes) {
            Some(place) => Ok(place),
            // Boxed: few wait, and the room for it would be in each stream.
            None => {
                Box::pin(async {
                    tokio::select! {
                        biased;
                        place = self.next_place(bytes) => Ok(place),
                        reset = reset => Err(told_of_reset(reset)),
                    }
                })
                .await
            }
        }
    }

    /// The same for a stream that is not open yet.
    pub async fn next_place(&self, bytes: usize) -> Place<'_> {
        let (taken, wanted) = taken(bytes);
        match self.0.places.acquire_many(wanted).await {
            Ok(place) => place.forget(),
            // The library says so.
            Err(_over) => {}
        }
        Place { queue: &self.0, taken }
    }

    /// All that was handed over has been written, as far as the peer's windows let it.
    pub fn written(&self) {
        let Queue { places, taken, inside, pieces, narrowed, frames, kept } = &*self.0;
        let had = taken.load(Ordering::Relaxed);
        if had == 0 && !narrowed.load(Ordering::Relaxed) {
            return;
        }
        let (stays, pieces) = (inside.load(Ordering::Relaxed), pieces.swap(0, Ordering::Relaxed));
        let mut frames_take = frames.load(Ordering::Relaxed);
        if narrowed.swap(false, Ordering::Relaxed) {
            // Each may be one byte.
            frames_take += FRAME * pieces.min(stays);
        }
        if stays == 0 || frames_take == 0 {
            // What did not leave went with a stream that was reset.
            inside.store(0, Ordering::Relaxed);
            frames_take = 0;
        }
        frames.store(frames_take, Ordering::Relaxed);
        let keeps = if frames_take == 0 { 0 } else { (stays + frames_take).min(had) };
        kept.store(keeps, Ordering::Relaxed);
        taken.fetch_sub(had - keeps, Ordering::Relaxed);
        places.add_permits(had - keeps);
    }

    /// So many bytes of bodies have left.
    pub fn left(&self, bytes: usize) {
        let inside = &self.0.inside;
        inside.fetch_sub(bytes.min(inside.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// The peer's windows become smaller. The library hears of it before this turn ends, and keeps what it was given
    /// for the larger ones.
    pub fn narrows(&self) {
        self.0.narrowed.store(true, Ordering::Relaxed);
    }

    /// Half of the room is kept for a peer that does not take it: what is to come is better off elsewhere.
    pub fn is_worn(&self) -> bool {
        self.0.kept.load(Ordering::Relaxed) > MOST / 2
    }

    /// So much is kept that what comes next finds no place.
    pub fn is_stuck(&self) -> bool {
        self.0.kept.load(Ordering::Relaxed) > MOST - SEND_BUFFER
    }

    /// The connection is over: who waits is told by the library.
    pub fn end(&self) {
        self.0.places.close();
    }

    /// Bytes on their way.
    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Others are better off if small pieces are copied out of the buffers that they lie in.
    pub fn is_crowded(&self) -> bool {
        self.taken() > CROWDED
    }
}

/// What so many bytes take, with their frame.
fn taken(bytes: usize) -> (usize, u32) {
    let taken = (bytes + FRAME).min(MOST);
    (taken, u32::try_from(taken).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;

    fn hand(outflow: &Outflow, bytes: usize) -> Option<()> {
        outflow.place(bytes, pending()).now_or_never().and_then(Result::ok).map(Place::fill)
    }

    #[test]
    fn what_is_not_written_takes_the_place_of_what_comes_next_and_small_frames_do_too() {
        for (bytes, most) in [(64 << 10, 3), (16 << 10, 15), (1, MOST / (FRAME + 1))] {
            let outflow = Outflow::default();
            let handed = (0..10_000).take_while(|_| hand(&outflow, bytes).is_some());
            assert_eq!(handed.count(), most, "pieces of {bytes} bytes");
            outflow.written();
            assert!(hand(&outflow, bytes).is_some());
        }
    }

    #[test]
    fn places_are_given_in_turn_also_to_what_is_larger_than_all_of_them() {
        let outflow = Outflow::default();
        hand(&outflow, 200 << 10).unwrap();
        let mut large = pin!(outflow.place(10 * MOST, pending()));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(hand(&outflow, 1).is_none(), "before who has waited");
        outflow.written();
        assert!(large.now_or_never().is_some());
    }

    #[test]
    fn the_end_of_the_connection_ends_every_wait() {
        let outflow = Outflow::default();
        hand(&outflow, MOST).unwrap();
        let mut waits = pin!(outflow.place(1, pending()));
        assert!(waits.as_mut().now_or_never().is_none());
        outflow.end();
        assert!(waits.now_or_never().is_some());
    }

    #[test]
    fn what_the_library_does_not_take_keeps_no_place() {
        let outflow = Outflow::default();
        for _ in 0..100 {
            drop(outflow.place_now(64 << 10).unwrap());
        }
        assert_eq!(outflow.taken(), 0);
    }

    #[tokio::test]
    async fn whose_stream_is_reset_waits_no_longer_and_is_in_nobodys_way() {
        let outflow = Outflow::default();
        hand(&outflow, MOST).unwrap();
        let reset = outflow.place(1, std::future::ready(Ok(Reason::CANCEL))).await;
        assert!(reset.is_err_and(|why| why.starts_with("stream reset")));
        outflow.written();
        assert!(hand(&outflow, MOST).is_some());
    }

    /// Hands over a piece of a body.
    fn body(outflow: &Outflow, bytes: usize) {
        outflow.place_now(bytes).unwrap().fill_with(bytes);
    }

    #[test]
    fn what_a_peer_with_smaller_windows_leaves_here_keeps_its_place_until_it_has_left() {
        let (outflow, piece) = (Outflow::default(), 16 << 10);
        (0..15).for_each(|_| body(&outflow, piece));
        outflow.narrows();
        outflow.left(13 * piece);
        outflow.written();
        assert_eq!(outflow.taken(), 2 * piece + 15 * FRAME);
        // Others go on, and what they send is not kept.
        for _ in 0..100 {
            (0..10).for_each(|_| body(&outflow, piece));
            outflow.left(10 * piece);
            outflow.written();
            assert_eq!((outflow.taken(), outflow.is_worn()), (2 * piece + 15 * FRAME, false));
        }
        outflow.left(2 * piece);
        outflow.written();
        assert_eq!(outflow.taken(), 0);
    }

    #[test]
    fn crumbs_that_stay_are_kept_with_their_frames_and_wear_the_connection_out() {
        let outflow = Outflow::default();
        for (crumbs, worn, stuck) in [(310, false, false), (200, true, false), (250, true, true)] {
            (0..crumbs).for_each(|_| body(&outflow, 1));
            outflow.narrows();
            outflow.written();
            assert_eq!((outflow.is_worn(), outflow.is_stuck()), (worn, stuck), "{}", outflow.taken());
            assert_eq!(outflow.0.places.available_permits(), MOST - outflow.taken());
        }
    }

    #[test]
    fn what_went_with_a_stream_that_was_reset_keeps_nothing() {
        let outflow = Outflow::default();
        for _ in 0..1000 {
            body(&outflow, 16 << 10);
            outflow.left(8 << 10);
            outflow.written();
            assert_eq!(outflow.taken(), 0);
        }
        body(&outflow, 16 << 10);
        outflow.narrows();
        outflow.left(16 << 10);
        outflow.written();
        assert_eq!(outflow.taken(), 0, "all has left");
    }
}
