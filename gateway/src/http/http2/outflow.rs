//! What the library has of one connection on its way to the socket. It takes all that it is given, whether or not the
//! peer reads: whoever hands something over waits here for a place first. All that was handed over has left when a
//! turn of the connection ends with nothing unwritten, so nobody counts frame by frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use tokio::sync::Semaphore;

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
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.queue.places.add_permits(self.taken);
        }
    }
}

/// Bytes of memory that fields take.
pub fn weight(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD).sum()
}

impl Default for Outflow {
    fn default() -> Outflow {
        Outflow(Arc::new(Queue { places: Semaphore::new(MOST), taken: AtomicUsize::new(0) }))
    }
}

impl Outflow {
    /// Waits for room for so many bytes. First come, first served.
    pub async fn place(&self, bytes: usize) -> Place<'_> {
        let taken = (bytes + FRAME).min(MOST);
        let wanted = u32::try_from(taken).unwrap_or(u32::MAX);
        // At once, nearly always: that costs the task nothing of its time.
        match self.0.places.try_acquire_many(wanted) {
            Ok(place) => place.forget(),
            // Boxed: few wait, and the room for it would be in each stream.
            Err(_) => match Box::pin(self.0.places.acquire_many(wanted)).await {
                Ok(place) => place.forget(),
                // The library says so.
                Err(_over) => {}
            },
        }
        Place { queue: &self.0, taken }
    }

    /// All that was handed over has been written.
    pub fn written(&self) {
        match self.0.taken.swap(0, Ordering::Relaxed) {
            0 => {}
            taken => self.0.places.add_permits(taken),
        }
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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;

    fn hand(outflow: &Outflow, bytes: usize) -> Option<()> {
        outflow.place(bytes).now_or_never().map(Place::fill)
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
        let mut large = pin!(outflow.place(10 * MOST));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(hand(&outflow, 1).is_none(), "before who has waited");
        outflow.written();
        assert!(large.now_or_never().is_some());
    }

    #[test]
    fn the_end_of_the_connection_ends_every_wait() {
        let outflow = Outflow::default();
        hand(&outflow, MOST).unwrap();
        let mut waits = pin!(outflow.place(1));
        assert!(waits.as_mut().now_or_never().is_none());
        outflow.end();
        assert!(waits.now_or_never().is_some());
    }

    #[test]
    fn what_the_library_does_not_take_keeps_no_place() {
        let outflow = Outflow::default();
        for _ in 0..100 {
            drop(outflow.place(64 << 10).now_or_never().unwrap());
        }
        assert_eq!(outflow.taken(), 0);
    }
}
