//! The request on its way to the target, which may take nothing of it, and whoever waits once it is there: the
//! client may leave meanwhile.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use pingora_core::protocols::UniqueIDType;
use pingora_timeout::fast_timeout::fast_sleep;

use super::Exchange;
use super::body::{Broken, H1Sink, Sink, copy_noted};
use super::client::Body;
use super::kept::Again;
use super::sending::{Sending, Sent};
use crate::error::{Error, Result};
use crate::http::http2::NoRoom;
use crate::http::socket;
use crate::upstream::Taken;

/// A client that leaves is noticed so much later than it could be, and a target has so much longer for its
/// answer.
const UNWATCHED: Duration = Duration::from_millis(10);

impl Exchange<'_> {
    /// Sends a head that no body follows. `ends` does so before.
    pub(super) async fn flush_head(
        &self,
        mut sink: H1Sink<'_>,
        taken: Taken,
        ends: impl Future<Output = Error>,
    ) -> Result<()> {
        tokio::select! {
            biased;
            sent = sink.flush() => sent.map_err(|error| self.cut(error, taken)),
            error = ends => Err(error),
            _ = self.takes(None) => Err(self.late()),
        }
    }

    /// Sends the body, then watches for the client to leave. Comes back with an error only.
    pub(super) async fn upload(
        &self,
        body: &mut Body<'_>,
        sink: Option<Sink<'_>>,
        sending: &Sending,
    ) -> Error {
        let carried = match sink {
            Some(mut sink) => {
                let sent = tokio::select! {
                    biased;
                    sent = self.send_body(body, &mut sink, sending) => sent,
                    full = self.waits() => Err(full.into()),
                };
                // An answer may take for ever.
                if let Sink::H1(H1Sink { out, .. }) = sink {
                    *out = BytesMut::new();
                }
                sent
            }
            None => Ok(()),
        };
        match carried {
            Ok(()) => {
                sending.end(Sent::Whole);
                // Most answers are there before a client could leave, a target be late or the wait be worth counting:
                // they cost no look at it.
                fast_sleep(UNWATCHED).await;
                sending.due.notify_one();
                tokio::select! {
                    NoRoom = self.waits() => Error::NoRoom,
                    why = body.gone() => Error::ClientGone(why),
                }
            }
            Err(Broken::NoRoom) => Error::NoRoom,
            Err(Broken::Late) => self.late(),
            Err(Broken::Source(why)) if body.is_broken() => Error::Body(why),
            Err(Broken::Source(why)) => Error::ClientGone(why),
            // The target takes no more: its answer may say why.
            Err(Broken::Sink(_)) => {
                sending.end(Sent::Partly);
                sending.due.notify_one();
                tokio::select! {
                    NoRoom = self.waits() => Error::NoRoom,
                    NoRoom = body.waits() => Error::NoRoom,
                }
            }
        }
    }

    /// What earlier tries have read, then the rest.
    async fn send_body(
        &self,
        body: &mut Body<'_>,
        sink: &mut Sink<'_>,
        sending: &Sending,
    ) -> std::result::Result<(), Broken> {
        let late = || self.stops(sending);
        let Again { bytes, whole } = self.kept.again();
        if whole || !bytes.is_empty() {
            let (mut source, kept) = (body.source(), bytes.len());
            tokio::select! {
                biased;
                sent = sink.data(bytes, whole) => sent.map_err(Broken::Sink)?,
                full = source.gather(kept) => return Err(full.into()),
                broken = late() => return Err(broken),
            }
        }
        if whole {
            return Ok(());
        }
        copy_noted(&mut body.source(), sink, &self.record.up, |frame| self.kept.note(frame), late).await
    }

    /// For what waits for the target: resolves when it has taken nothing for as long as it has for its answer. One that
    /// has begun its answer may take its time, as long as the client is there.
    async fn stops(&self, sending: &Sending) -> Broken {
        // Most waits are over by then.
        Box::pin(fast_sleep(UNWATCHED)).await;
        loop {
            let takes = self.takes(sending.target).await;
            if sending.client.is_some_and(socket::has_left) {
                return Broken::Source("left while its request was sent".to_owned());
            }
            if !takes && !self.record.has_answered() {
                return Broken::Late;
            }
        }
    }

    /// Once that time is over: whether the target has taken some of what is on its way to it. A slow one takes from the
    /// kernel, which asks us for more only when a third of its buffer is free, and holds the last megabytes for it.
    pub(super) async fn takes(&self, target: Option<UniqueIDType>) -> bool {
        let limit = self.passage.gateway.parts.settings.load().timeouts.response_header;
        let before = target.and_then(socket::on_the_way);
        // Shares a coarse clock: a timer of tokio would wake its driver for every request. Boxed, for most do not come here.
        Box::pin(fast_sleep(limit)).await;
        let now = target.and_then(socket::on_the_way);
        now.is_some() && now != before
    }

    /// Resolves when nothing moves any more, neither what is on its way to `target` nor its answer, and the client has left
    /// or ended its side: its end stands behind what nobody takes.
    pub(super) async fn forsaken(&self, client: UniqueIDType, target: UniqueIDType) -> Error {
        loop {
            let limit = self.passage.gateway.parts.settings.load().timeouts.response_header;
            let moved = || (socket::on_the_way(target), self.record.down.load(Ordering::Relaxed));
            let before = moved();
            fast_sleep(limit).await;
            if before.0.is_some() && before == moved() && socket::has_left(client) {
                return Error::ClientGone("left, and its target takes nothing".to_owned());
            }
        }
    }

    pub(super) fn late(&self) -> Error {
        Error::HeaderTimeout { host: self.grant.dial.host.clone() }
    }
}
