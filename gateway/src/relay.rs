//! Sixth stage: carries an admitted request. Full duplex, one task per stream, any protocol on either leg.
//! `client` and `answer` are the two sides, `body` what flows between them, `upload` sends the
//! request's, `sending` is whether it has been sent. `upgrade` carries bytes in place of two bodies.

mod answer;
pub mod body;
pub(crate) mod client;
pub(crate) mod kept;
mod sending;
mod upgrade;
mod upload;

use std::pin::pin;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use http::HeaderMap;
use http::StatusCode;

pub use self::answer::{Answer, AnswerReader, put_head, send_head};
use self::body::{Broken, H1Sink, H1Source, Sink, Source, copy};
use self::client::{Body, Reply};
use self::kept::Kept;
use self::sending::{Sending, Sent};
use crate::admit::passage::{Grant, Passage};
use crate::error::{Error, Result, Retry};
use crate::http::headers;
use crate::http::http2::{NoRoom, weight};
use crate::http::request::Request;
use crate::http::wire::{Decoder, Encoder, Framing, Persistence};
use crate::record::Record;
use crate::upstream::multiplex::Lent;
use crate::upstream::{Left, Session, Taken};

/// Interim heads of one answer; a target that sends them for ever is cut.
const MAX_INTERIM: usize = 16;

/// How one try ended, short of an error.
pub(crate) enum Turn {
    Done(Left),
    /// The Secret has changed since: once more with what it holds now.
    NewCredential,
}

/// How the answer of one try ended.
enum End {
    Delivered,
    /// A 401 that the client has not seen, and the Secret has changed since.
    Unauthorized,
}

impl End {
    fn turn(self, clean: bool) -> Turn {
        match self {
            End::Delivered => Turn::Done(if clean { Left::Clean } else { Left::Spent }),
            End::Unauthorized => Turn::NewCredential,
        }
    }
}

/// One try of one request over one connection.
pub(crate) struct Exchange<'a> {
    pub passage: &'a Passage,
    pub grant: &'a Grant,
    pub request: &'a Request,
    pub record: &'a Record,
    /// Of the body, by this and earlier tries.
    pub kept: &'a Kept,
    /// No other try follows.
    pub last: bool,
}

impl Exchange<'_> {
    pub async fn run(
        &self,
        session: &mut Session,
        body: &mut Body<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<Turn> {
        match (session, self.request.upgrade) {
            (Session::H1 { stream, .. }, Some(protocol)) => tokio::select! {
                biased;
                // Boxed: the room for it would be in each request.
                turn = Box::pin(self.upgrade(protocol, stream, body, reply)) => turn,
                NoRoom = self.waits() => Err(Error::NoRoom),
            },
            (Session::H1 { stream, taken, .. }, None) => self.over_h1(stream, *taken, body, reply).await,
            (Session::H2 { lent, taken }, _) => self.over_h2(lent, *taken, body, reply).await,
        }
    }

    async fn over_h2(
        &self,
        lent: &mut Lent,
        taken: Taken,
        body: &mut Body<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<Turn> {
        let (dial, weight) = (&self.grant.dial, weight(&self.request.headers));
        let (outflow, opening) = lent.parts();
        let place = match outflow.place_now(weight) {
            Some(place) => place,
            // Behind what others send over the same connection.
            None => {
                let place = async {
                    tokio::select! {
                        biased;
                        place = outflow.next_place(weight) => Ok(place),
                        why = reply.gone() => Err(Error::ClientGone(why)),
                    }
                };
                self.in_time(body, place, || self.late()).await?
            }
        };
        let (mut incoming, mut outgoing) =
            send_head(opening, place, self.request, &dial.authority, &dial.host)?;
        let carries = self.request.framing != Framing::None;
        if carries && !self.sends() && client::expects_continue(&self.request.headers) {
            let leave = reply.interim(StatusCode::CONTINUE, HeaderMap::new());
            self.in_time(body, leave, || Error::ClientGone("it does not read".to_owned())).await?;
        }
        let upload = carries.then_some(Sink::H2(&mut outgoing, outflow));
        let sending = Sending::between(body.socket(), None);
        let mut answers = self.answers(Source::Target(&mut incoming), taken);
        let (end, sent) = self.duplex(body, reply, upload, &mut answers, &sending).await?;
        Ok(end.turn(sent == Sent::Whole))
    }

    /// What a request waits for before its body flows: it is counted meanwhile, and has as long as the target has for its
    /// answer. Boxed, for few wait.
    async fn in_time<T>(
        &self,
        body: &mut Body<'_>,
        what: impl Future<Output = Result<T>>,
        late: impl FnOnce() -> Error,
    ) -> Result<T> {
        Box::pin(async {
            tokio::select! {
                biased;
                done = what => done,
                NoRoom = self.waits() => Err(Error::NoRoom),
                error = body.fails(self.request.framing != Framing::None) => Err(error),
                _ = self.takes(None) => Err(late()),
            }
        })
        .await
    }

    async fn over_h1(
        &self,
        stream: &mut pingora_core::protocols::Stream,
        taken: Taken,
        body: &mut Body<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<Turn> {
        let (mut buf, mut out, mut decoder) = (BytesMut::new(), BytesMut::new(), Decoder::Done);
        put_head(&mut out, self.request, self.grant.dial.authority.as_str());
        let share = Some(&self.grant.dial.share);
        let (end, sent, persistence) = if self.request.framing == Framing::None {
            let sink = H1Sink { io: stream, out: &mut out, encoder: Encoder::None };
            let ends = async {
                tokio::select! {
                    NoRoom = self.waits() => Error::NoRoom,
                    error = body.fails(false) => error,
                    why = reply.gone() => Error::ClientGone(why),
                }
            };
            self.flush_head(sink, taken, ends).await?;
            // An answer may take for ever.
            drop(std::mem::take(&mut out));
            let source = Source::H1(H1Source { io: stream, buf: &mut buf, decoder: &mut decoder, share });
            let mut answers = self.answers(source, taken);
            let (end, sent) = self.duplex(body, reply, None, &mut answers, &Sending::default()).await?;
            (end, sent, answers.persistence)
        } else {
            let sending = Sending::between(body.socket(), Some(stream.id()));
            let (mut read, mut write) = tokio::io::split(stream);
            let encoder = Encoder::from(self.request.framing);
            let upload = Sink::H1(H1Sink { io: &mut write, out: &mut out, encoder });
            let source = Source::H1(H1Source { io: &mut read, buf: &mut buf, decoder: &mut decoder, share });
            let mut answers = self.answers(source, taken);
            let (end, sent) = self.duplex(body, reply, Some(upload), &mut answers, &sending).await?;
            (end, sent, answers.persistence)
        };
        let read = decoder == Decoder::Done && buf.is_empty();
        Ok(end.turn(read && sent == Sent::Whole && persistence == Persistence::KeepAlive))
    }

    fn answers<'b>(&'b self, source: Source<'b>, taken: Taken) -> AnswerReader<'b> {
        AnswerReader {
            source,
            host: &self.grant.dial.host,
            method: &self.request.method,
            taken,
            persistence: Persistence::KeepAlive,
            upgrade: self.request.upgrade.is_some(),
            share: Some(&self.grant.dial.share),
        }
    }

    /// Resolves if the target's namespace has no room for one more that waits.
    async fn waits(&self) -> NoRoom {
        self.grant.dial.share.clone().bears(self.request.weight()).await
    }

    fn cut(&self, error: std::io::Error, taken: Taken) -> Error {
        Error::Cut { host: self.grant.dial.host.clone(), cause: error.to_string(), retry: taken.retry() }
    }

    /// Both directions at once: a target may answer before it has read the request, and go on reading.
    async fn duplex(
        &self,
        body: &mut Body<'_>,
        reply: &mut Reply<'_>,
        upload: Option<Sink<'_>>,
        answers: &mut AnswerReader<'_>,
        sending: &Sending,
    ) -> Result<(End, Sent)> {
        let carries = upload.is_some();
        if !carries {
            // Said now: an answer that is there at the first look leaves no time for the upload to say it.
            sending.end(Sent::Whole);
        }
        let mut upload = pin!(self.upload(body, upload, sending));
        let end = tokio::select! {
            biased;
            end = self.download(answers, reply, sending) => end?,
            error = &mut upload => return Err(error),
        };
        // The answer is complete, and the target has not said that it reads no more. What goes to one that has refused would
        // be missing from the next try.
        if carries
            && matches!(end, End::Delivered)
            && answers.persistence == Persistence::KeepAlive
            && sending.sent() == Sent::Partly
            && self.sends()
        {
            tokio::select! {
                biased;
                () = sending.over.notified() => {}
                () = answers.closed() => {}
                () = sending::stalls(&self.record.up) => {}
                error = &mut upload => return Err(error),
            }
        }
        Ok((end, sending.sent()))
    }

    /// Not so a client that waits for leave to send its body, and has been given another answer.
    fn sends(&self) -> bool {
        self.record.up.load(Ordering::Relaxed) > 0 || !client::expects_continue(&self.request.headers)
    }

    async fn download(
        &self,
        answers: &mut AnswerReader<'_>,
        reply: &mut Reply<'_>,
        sending: &Sending,
    ) -> Result<End> {
        let answer = self.answer(answers, reply, sending).await?;
        self.settle(answer, answers, reply).await
    }

    /// Delivers the answer, unless another try may find a better one.
    async fn settle(
        &self,
        mut answer: Answer,
        answers: &mut AnswerReader<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<End> {
        // Boxed, like all that few requests need: the room that a request's future has for it would be each
        // request's.
        if answer.status == StatusCode::UNAUTHORIZED
            && self.may_renew()
            && Box::pin(self.credential_changed()).await
            // Asked once more: more of the body has come meanwhile than can be kept, perhaps.
            && self.may_renew()
        {
            return Ok(End::Unauthorized);
        }
        self.kept.let_go();
        // For as long as its reader takes.
        let _held = answer.held.take();
        headers::toward_client(answer.status, &mut answer.headers);
        if let (Some(rewrite), Some(target)) = (&self.request.rewrite, self.grant.route.targets.first()) {
            rewrite.apply(&mut answer.headers, target);
        }
        let mut sink =
            reply.head(&self.request.method, answer.status, answer.headers, answer.framing).await?;
        self.record.answered(answer.status.as_u16());
        if answer.framing == Framing::None {
            // Whatever a target sends behind a head that ends its answer is no part of it.
            return sink.flush().await.map_err(Error::ClientGone).map(|()| End::Delivered);
        }
        match copy(&mut answers.source, &mut sink, &self.record.down).await {
            Ok(()) => Ok(End::Delivered),
            Err(Broken::NoRoom) => Err(Error::NoRoom),
            Err(Broken::Late) => Err(self.late()),
            Err(Broken::Sink(why)) => Err(Error::ClientGone(why)),
            Err(Broken::Source(cause)) => {
                Err(Error::Cut { host: self.grant.dial.host.clone(), cause, retry: Retry::Never })
            }
        }
    }

    /// The final head. Its deadline runs from the end of the request and ends with it: a watch's events may
    /// take for ever.
    async fn answer(
        &self,
        answers: &mut AnswerReader<'_>,
        reply: &mut Reply<'_>,
        sending: &Sending,
    ) -> Result<Answer> {
        let mut late = pin!(async {
            sending.due.notified().await;
            while self.takes(sending.target).await {}
        });
        for _ in 0..MAX_INTERIM {
            let mut answer = tokio::select! {
                biased;
                answer = answers.head() => answer?,
                why = reply.gone() => return Err(Error::ClientGone(why)),
                () = &mut late => return Err(self.late()),
            };
            if !answer.status.is_informational() || answer.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(answer);
            }
            headers::toward_client(answer.status, &mut answer.headers);
            tokio::select! {
                biased;
                sent = Box::pin(reply.interim(answer.status, answer.headers)) => sent?,
                _ = self.takes(None) => return Err(Error::ClientGone("it does not read".to_owned())),
            }
        }
        Err(Error::Protocol {
            host: self.grant.dial.host.clone(),
            cause: "interim answers without end".to_owned(),
        })
    }

    /// A body that is gone cannot be sent again.
    fn may_renew(&self) -> bool {
        !self.last && (self.request.framing == Framing::None || self.kept.stands())
    }

    async fn credential_changed(&self) -> bool {
        self.passage.gateway.parts.credentials.reread(&self.grant.route, &self.grant.credential).await
    }
}
