//! The request's body on its way to the target, and whoever waits once it is there: the client may leave meanwhile.

use std::time::Duration;

use pingora_timeout::fast_timeout::fast_sleep;

use super::Exchange;
use super::body::{Broken, Sink, copy_noted};
use super::client::Body;
use super::kept::Again;
use super::sending::{Sending, Sent};
use crate::error::Error;
use crate::http::http2::NoRoom;

/// A client that leaves is noticed so much later than it could be, and a target has so much longer for its
/// answer.
const UNWATCHED: Duration = Duration::from_millis(10);

impl Exchange<'_> {
    /// Sends the body, then watches for the client to leave. Comes back with an error only.
    pub(super) async fn upload(
        &self,
        body: &mut Body<'_>,
        sink: Option<Sink<'_>>,
        sending: &Sending,
    ) -> Error {
        let carried = match sink {
            Some(mut sink) => tokio::select! {
                biased;
                sent = self.send_body(body, &mut sink) => sent,
                full = self.waits() => Err(full.into()),
            },
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
    async fn send_body(&self, body: &mut Body<'_>, sink: &mut Sink<'_>) -> std::result::Result<(), Broken> {
        let Again { bytes, whole } = self.kept.again();
        if whole || !bytes.is_empty() {
            let (mut source, kept) = (body.source(), bytes.len());
            tokio::select! {
                biased;
                sent = sink.data(bytes, whole) => sent.map_err(Broken::Sink)?,
                full = source.gather(kept) => return Err(full.into()),
            }
        }
        if whole {
            return Ok(());
        }
        copy_noted(&mut body.source(), sink, &self.record.up, |frame| self.kept.note(frame)).await
    }
}
