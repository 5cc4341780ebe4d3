//! What has come of a request's body, kept until its answer begins: a target that turns the request away
//! unread (GOAWAY, REFUSED_STREAM), or whose credential has changed, is asked once more. Copied, so that what
//! is counted is what is held.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::http::http2::Share;
use crate::http::wire::Frame;

/// Of one request. What Kubernetes clients write is smaller, apart from uploads.
const MOST: usize = 64 << 10;
/// Of all requests of the process. Those of one namespace may have as much as is left, so that the next has as much
/// again.
const MOST_OF_ALL: usize = 16 << 20;

static HELD: AtomicUsize = AtomicUsize::new(0);

pub struct Kept(Mutex<State>);

struct State {
    /// Of the target's namespace. A request without a body has none.
    share: Option<Arc<Share>>,
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
    pub fn new(share: Option<Arc<Share>>) -> Kept {
        Kept(Mutex::new(State { share, bytes: BytesMut::new(), whole: false, lost: false }))
    }

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
        let Some(share) = self.share.as_ref().filter(|_| !self.lost) else { return self.let_go() };
        let all = HELD.fetch_add(data.len(), Ordering::Relaxed) + data.len();
        let own = share.kept.fetch_add(data.len(), Ordering::Relaxed) + data.len();
        self.bytes.extend_from_slice(data);
        if self.bytes.len() > MOST || own > MOST_OF_ALL.saturating_sub(all).max(MOST) {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        self.lost = true;
        HELD.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        if let Some(share) = &self.share {
            share.kept.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        }
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
    use prometheus::IntGauge;

    use super::*;
    use crate::http::http2::Budget;

    fn data(n: usize) -> Frame {
        Frame::Data(Bytes::from(vec![7; n]))
    }

    fn share(namespace: &str) -> Arc<Share> {
        let gauge = |name| IntGauge::new(name, "bytes").unwrap();
        Budget::new(gauge("bodies"), gauge("requests")).of(namespace)
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
            let kept = Kept::new(Some(share("one")));
            frames.iter().for_each(|frame| kept.note(frame));
            let again = kept.again();
            assert_eq!((kept.stands(), again.bytes.len(), again.whole), (stands, length, whole));
        }
    }

    /// As many as there are bodies in all.
    fn many(share: &Arc<Share>) -> (Vec<Kept>, usize) {
        let many: Vec<Kept> = (0..MOST_OF_ALL / MOST + 20).map(|_| Kept::new(Some(share.clone()))).collect();
        many.iter().for_each(|kept| kept.note(&data(MOST)));
        let standing = many.iter().filter(|kept| kept.stands()).count();
        (many, standing)
    }

    #[test]
    fn a_namespace_leaves_the_next_as_much_as_it_has_and_gives_all_back() {
        let all = MOST_OF_ALL / MOST;
        // Other tests keep a few.
        let (first, next) = (share("one"), share("two"));
        let (ones, standing) = many(&first);
        assert!(standing <= all / 2 && standing > all / 3, "{standing}");
        let (twos, standing) = many(&next);
        assert!(standing <= all / 4 && standing > all / 6, "{standing}");
        // Each may have one.
        let late: Vec<Kept> = (0..all).map(|_| Kept::new(Some(share("late")))).collect();
        late.iter().for_each(|kept| kept.note(&data(MOST)));
        assert!(late.iter().all(Kept::stands));
        drop((ones, twos, late));
        assert_eq!((first.kept.load(Ordering::Relaxed), next.kept.load(Ordering::Relaxed)), (0, 0));
        let (_ones, standing) = many(&first);
        assert!(standing > all / 3, "nothing was given back");
    }
}
