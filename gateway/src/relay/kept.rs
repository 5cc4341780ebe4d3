//! What has come of a request's body, kept until its answer begins: a target that turns the request away
//! unread (GOAWAY, REFUSED_STREAM), or whose credential has changed, is asked once more. Copied, so that what
//! is counted is what is held.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::http::wire::Frame;

/// Of one request. What Kubernetes clients write is smaller, apart from uploads.
const MOST: usize = 64 << 10;
/// Of all requests of the process.
const MOST_OF_ALL: usize = 16 << 20;

static HELD: AtomicUsize = AtomicUsize::new(0);

#[derive(Default)]
pub struct Kept(Mutex<State>);

#[derive(Default)]
struct State {
    bytes: BytesMut,
    /// The body has ended.
    whole: bool,
    /// Something that has come was not kept: the body cannot be sent again.
    lost: bool,
}

/// How far a body can be sent again: what is kept, and whether that is all of it.
pub struct Again {
    pub bytes: Bytes,
    pub whole: bool,
}

impl Kept {
    /// To be told of each frame as it is read from the client.
    pub fn note(&self, frame: &Frame) {
        let mut state = self.state();
        match frame {
            Frame::Data(data) => state.keep(data),
            Frame::End => state.whole = true,
            // Nobody has sent them again yet.
            Frame::Trailers(_) => state.let_go(),
        }
    }

    /// From now on the body is not needed again.
    pub fn let_go(&self) {
        self.state().let_go();
    }

    /// Whether all that has come can be sent again.
    pub fn stands(&self) -> bool {
        !self.state().lost
    }

    pub fn again(&self) -> Again {
        let state = self.state();
        Again { bytes: Bytes::copy_from_slice(&state.bytes), whole: state.whole }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, data: &[u8]) {
        if self.lost {
            return;
        }
        let held = HELD.fetch_add(data.len(), Ordering::Relaxed) + data.len();
        self.bytes.extend_from_slice(data);
        if self.bytes.len() > MOST || held > MOST_OF_ALL {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        self.lost = true;
        HELD.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        self.bytes = BytesMut::new();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(n: usize) -> Frame {
        Frame::Data(Bytes::from(vec![7; n]))
    }

    #[test]
    fn a_body_is_kept_to_its_end_if_it_is_small_and_nothing_of_a_large_one() {
        for (frames, stands, length, whole) in [
            (vec![], true, 0, false),
            (vec![data(10), data(5)], true, 15, false),
            (vec![data(MOST), Frame::End], true, MOST, true),
            (vec![data(MOST), data(1), data(1)], false, 0, false),
            (vec![data(1), Frame::Trailers(http::HeaderMap::new())], false, 0, false),
        ] {
            let kept = Kept::default();
            frames.iter().for_each(|frame| kept.note(frame));
            let again = kept.again();
            assert_eq!((kept.stands(), again.bytes.len(), again.whole), (stands, length, whole));
        }
    }

    #[test]
    fn what_all_hold_together_is_bounded_and_given_back() {
        let many: Vec<Kept> = (0..MOST_OF_ALL / MOST + 20).map(|_| Kept::default()).collect();
        many.iter().for_each(|kept| kept.note(&data(MOST)));
        let standing = many.iter().filter(|kept| kept.stands()).count();
        assert!(standing <= MOST_OF_ALL / MOST && standing > MOST_OF_ALL / MOST / 2, "{standing}");
        drop(many);
        let after = Kept::default();
        after.note(&data(MOST));
        assert!(after.stands(), "nothing was given back");
    }
}
