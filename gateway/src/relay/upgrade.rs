//! Upgrades: exec, attach, cp and port-forward over WebSocket or SPDY. Entered from `relay` in place of an
//! exchange's two bodies, with a connection of their own to the target. Its 101 makes both connections one
//! stream of bytes (`splice`); any other answer arrives as it is, so that clients fall back.

mod splice;

use std::future::pending;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use pingora_core::protocols::{Stream, UniqueIDType};

use self::splice::{Direction, Gone, splice};
use super::answer::Answer;
use super::body::{H1Sink, H1Source, Source, Writer};
use super::client::{Body, Reply};
use super::sending::Sending;
use super::{Exchange, Turn, put_head};
use crate::error::{Error, Result, Retry};
use crate::http::buffer::{self, Reader};
use crate::http::headers::{self, Protocol};
use crate::http::http2::Held;
use crate::http::wire::{self, Decoder, Encoder, Framing, Persistence};
use crate::upstream::{Left, Taken};

/// Bytes that a client may send before it has its answer. Clients wait for the 101; one that does not is held
/// here.
const MAX_AHEAD: usize = 8 << 10;

/// The target's side when it has agreed.
struct Switched<'a> {
    answer: Answer,
    /// What came right behind the 101.
    first: BytesMut,
    read: Reader<'a>,
    write: Writer<'a>,
    socket: UniqueIDType,
}

impl Exchange<'_> {
    /// One try of an upgrade. Neither connection can carry a request afterwards.
    pub(super) async fn upgrade(
        &self,
        protocol: Protocol,
        stream: &mut Stream,
        body: &mut Body<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<Turn> {
        let (mut first, mut out, mut decoder) = (BytesMut::new(), BytesMut::new(), Decoder::Done);
        let socket = stream.id();
        let (mut read, mut write) = tokio::io::split(stream);
        put_head(&mut out, self.request, self.grant.dial.authority.as_str());
        let sink = H1Sink { io: &mut write, out: &mut out, encoder: Encoder::None };
        // What the client sends ahead stays in its buffer; this says that nothing follows it.
        let mut ended = false;
        let left = async { Error::ClientGone(ahead(body, &mut ended).await) };
        self.flush_head(sink, Taken::New, left).await?;
        let asked = Sending::default();
        asked.due.notify_one();
        let share = Some(&self.grant.dial.share);
        let source = Source::H1(H1Source { io: &mut read, buf: &mut first, decoder: &mut decoder, share });
        let mut answers = self.answers(source, Taken::New);
        let answer = tokio::select! {
            biased;
            answer = self.answer(&mut answers, reply, &asked) => answer?,
            why = ahead(body, &mut ended) => return Err(Error::ClientGone(why)),
        };
        if answer.status != http::StatusCode::SWITCHING_PROTOCOLS {
            return tokio::select! {
                biased;
                end = self.settle(answer, &mut answers, reply) => end.map(|end| end.turn(false)),
                why = gone(body, ended) => Err(Error::ClientGone(why)),
            };
        }
        self.switch(
            protocol,
            Switched { answer, first, read: &mut read, write: &mut write, socket },
            body,
            ended,
            reply,
        )
        .await?;
        Ok(Turn::Done(Left::Spent))
    }

    /// The 101 with the target's first bytes in one write, then bytes both ways.
    async fn switch(
        &self,
        protocol: Protocol,
        target: Switched<'_>,
        body: &mut Body<'_>,
        ended: bool,
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        let Switched { answer: Answer { status, mut headers, .. }, first, read, write, socket: to_target } =
            target;
        if headers::upgrade(&headers).ok().flatten() != Some(protocol) {
            return Err(Error::Protocol {
                host: self.grant.dial.host.clone(),
                cause: "101 to another protocol".to_owned(),
            });
        }
        headers::toward_client(status, &mut headers);
        headers::set_upgrade(&mut headers, protocol);
        let (Body::H1 { io: from, buf, socket, .. }, Reply::H1 { io: to, out, .. }) = (body, reply) else {
            return Err(Error::Internal("an upgrade over HTTP/2".to_owned()));
        };
        wire::put_response(out, status, &headers, Framing::None, Persistence::KeepAlive);
        out.extend_from_slice(&first);
        let sent = H1Sink { io: &mut **to, out, encoder: Encoder::None }.flush().await;
        sent.map_err(|error| Error::ClientGone(error.to_string()))?;
        self.record.answered(status.as_u16());
        self.record.down.fetch_add(first.len() as u64, Ordering::Relaxed);
        // A stream of hours keeps no buffer of its head.
        **out = BytesMut::new();
        drop((first, headers));
        let held = || Held::new(self.grant.dial.share.clone());
        let up = Direction::new(&mut **from, write, &self.record.up, std::mem::take(*buf), ended, held());
        let down = Direction::new(read, &mut **to, &self.record.down, BytesMut::new(), false, held());
        let ended = tokio::select! {
            biased;
            ended = splice(up, down) => ended,
            error = self.forsaken(*socket, to_target) => return Err(error),
        };
        ended.map_err(|gone| match gone {
            Gone::Client(why) => Error::ClientGone(why),
            Gone::Target(cause) => {
                Error::Cut { host: self.grant.dial.host.clone(), cause, retry: Retry::Never }
            }
        })
    }
}

/// Keeps what the client sends while it waits, and notes that it has ended its direction. Comes back only
/// when it is gone.
async fn ahead(body: &mut Body<'_>, ended: &mut bool) -> String {
    let Body::H1 { io, buf, .. } = body else { return pending().await };
    while !*ended && buf.len() < MAX_AHEAD {
        match buffer::fill(&mut **io, buf, buffer::READ_SIZE).await {
            Ok(0) => *ended = true,
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
    pending().await
}

/// Resolves when a client leaves that has been refused. One that had ended its direction before is noticed by
/// its not reading.
async fn gone(body: &mut Body<'_>, ended: bool) -> String {
    if ended { pending().await } else { body.gone().await }
}
