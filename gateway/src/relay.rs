//! Sixth stage: carries an admitted request. Full duplex, one task per stream, any protocol on either leg. `client` and `answer` are the two
//! sides, `body` what flows between them, `sending` whether the request has been sent. `upgrade` carries bytes in place of two bodies.

mod answer;
pub mod body;
pub(crate) mod client;
mod sending;
mod upgrade;

use std::future::pending;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderMap;
use http::StatusCode;
use pingora_timeout::fast_timeout::fast_sleep;
use tokio::sync::Notify;

pub use self::answer::{Answer, AnswerReader, put_head, send_head};
use self::body::{Broken, H1Sink, H1Source, Sink, Source, copy};
use self::client::{Body, Reply};
use self::sending::Sending;
use crate::admit::passage::{Lease, Passage};
use crate::error::{Error, Result, Retry};
use crate::http::headers;
use crate::http::request::Request;
use crate::http::wire::{Decoder, Encoder, Framing};
use crate::record::Record;
use crate::upstream::Session;

/// Interim heads of one answer; a target that sends them for ever is cut.
const MAX_INTERIM: usize = 16;
/// A client that leaves is noticed so much later than it could be, and a target has so much longer for its answer.
const UNWATCHED: Duration = Duration::from_millis(10);

/// How one try ended, short of an error.
pub(crate) enum Turn {
    Done,
    /// The Secret has changed since: once more with what it holds now.
    NewCredential,
}

/// One try of one request over one connection.
pub(crate) struct Exchange<'a> {
    pub passage: &'a Passage,
    pub lease: &'a Lease,
    pub request: &'a Request,
    pub record: &'a Record,
    /// No other try follows.
    pub last: bool,
}

impl Exchange<'_> {
    /// True: the connection may be used again.
    pub async fn run(&self, session: &mut Session, body: &mut Body<'_>, reply: &mut Reply<'_>) -> Result<(Turn, bool)> {
        match (session, self.request.upgrade) {
            (Session::H1 { stream, .. }, Some(protocol)) => Ok((self.upgrade(protocol, stream, body, reply).await?, false)),
            (Session::H1 { stream, reused, .. }, None) => self.over_h1(stream, *reused, body, reply).await,
            (Session::H2 { lent, reused }, _) => {
                let (authority, host) = (&self.lease.dial.authority, &self.lease.dial.host);
                let (mut incoming, mut outgoing) = send_head(lent, self.request, authority, host)?;
                let carries = self.request.framing != Framing::None;
                if carries && client::expects_continue(&self.request.headers) {
                    reply.interim(StatusCode::CONTINUE, HeaderMap::new()).await?;
                }
                let upload = carries.then_some(Sink::H2(&mut outgoing));
                let answers = self.answers(Source::Target(&mut incoming), *reused);
                let (turn, sent, _) = self.duplex(body, reply, upload, answers).await?;
                Ok((turn, sent))
            }
        }
    }

    async fn over_h1(
        &self,
        stream: &mut pingora_core::protocols::Stream,
        reused: bool,
        body: &mut Body<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(Turn, bool)> {
        let (mut buf, mut out, mut decoder) = (BytesMut::new(), BytesMut::new(), Decoder::Done);
        put_head(&mut out, self.request, self.lease.dial.authority.as_str());
        let (turn, sent, close) = if self.request.framing == Framing::None {
            let cut = |error: std::io::Error| self.cut(error, reused);
            H1Sink { io: stream, out: &mut out, encoder: Encoder::None }.flush().await.map_err(cut)?;
            let source = Source::H1(H1Source { io: stream, buf: &mut buf, decoder: &mut decoder });
            self.duplex(body, reply, None, self.answers(source, reused)).await?
        } else {
            let (mut read, mut write) = tokio::io::split(stream);
            let upload = Sink::H1(H1Sink { io: &mut write, out: &mut out, encoder: Encoder::from(self.request.framing) });
            let source = Source::H1(H1Source { io: &mut read, buf: &mut buf, decoder: &mut decoder });
            self.duplex(body, reply, Some(upload), self.answers(source, reused)).await?
        };
        Ok((turn, sent && !close && decoder == Decoder::Done && buf.is_empty()))
    }

    fn answers<'b>(&'b self, source: Source<'b>, reused: bool) -> AnswerReader<'b> {
        AnswerReader {
            source,
            host: &self.lease.dial.host,
            method: &self.request.method,
            reused,
            close: false,
            upgrade: self.request.upgrade.is_some(),
        }
    }

    fn cut(&self, error: std::io::Error, reused: bool) -> Error {
        let retry = if reused { Retry::IfIdempotent } else { Retry::Never };
        Error::Cut { host: self.lease.dial.host.clone(), cause: error.to_string(), retry }
    }

    /// Both directions at once: a target may answer before it has read the request, and go on reading. Gives whether the request was sent
    /// whole, and whether the target's connection must be closed.
    async fn duplex(
        &self,
        body: &mut Body<'_>,
        reply: &mut Reply<'_>,
        upload: Option<Sink<'_>>,
        mut answers: AnswerReader<'_>,
    ) -> Result<(Turn, bool, bool)> {
        let (sending, carries) = (Sending::default(), upload.is_some());
        let mut upload = pin!(self.upload(body, upload, &sending));
        let turn = tokio::select! {
            biased;
            turn = self.download(&mut answers, reply, &sending.due) => turn?,
            error = &mut upload => return Err(error),
        };
        // The answer is complete, and the target has not said that it reads no more.
        if carries && !answers.close && !sending.whole() && self.sends() {
            tokio::select! {
                biased;
                () = sending.over.notified() => {}
                () = answers.closed() => {}
                () = sending::stalls(&self.record.up) => {}
                error = &mut upload => return Err(error),
            }
        }
        Ok((turn, sending.whole(), answers.close))
    }

    /// Not so a client that waits for leave to send its body, and has been given another answer.
    fn sends(&self) -> bool {
        self.record.up.load(Ordering::Relaxed) > 0 || !client::expects_continue(&self.request.headers)
    }

    /// Sends the body, then watches for the client to leave. Comes back with an error only.
    async fn upload(&self, body: &mut Body<'_>, sink: Option<Sink<'_>>, sending: &Sending) -> Error {
        let carried = match sink {
            Some(mut sink) => copy(&mut body.source(), &mut sink, &self.record.up).await,
            None => Ok(()),
        };
        match carried {
            Ok(()) => {
                sending.end(true);
                // Most answers are there before a client could leave or a target be late: they cost no look at it.
                fast_sleep(UNWATCHED).await;
                sending.due.notify_one();
                Error::ClientGone(body.gone().await)
            }
            Err(Broken::Source(why)) if body.is_broken() => Error::Body(why),
            Err(Broken::Source(why)) => Error::ClientGone(why),
            // The target takes no more: its answer may say why.
            Err(Broken::Sink(_)) => {
                sending.end(false);
                sending.due.notify_one();
                pending().await
            }
        }
    }

    async fn download(&self, answers: &mut AnswerReader<'_>, reply: &mut Reply<'_>, due: &Notify) -> Result<Turn> {
        let answer = self.answer(answers, reply, due).await?;
        self.settle(answer, answers, reply).await
    }

    /// Delivers the answer, unless another try may find a better one.
    async fn settle(&self, mut answer: Answer, answers: &mut AnswerReader<'_>, reply: &mut Reply<'_>) -> Result<Turn> {
        // Boxed, like all that few requests need: the room that a request's future has for it would be each request's.
        if answer.status == StatusCode::UNAUTHORIZED && self.may_renew() && Box::pin(self.credential_changed()).await {
            return Ok(Turn::NewCredential);
        }
        headers::toward_client(answer.status, &mut answer.headers);
        if let (Some(rewrite), Some(target)) = (&self.request.rewrite, self.lease.route.targets.first()) {
            rewrite.apply(&mut answer.headers, target);
        }
        let mut sink = reply.head(&self.request.method, answer.status, answer.headers, answer.framing)?;
        self.record.answered(answer.status.as_u16());
        if answer.framing == Framing::None {
            // Whatever a target sends behind a head that ends its answer is no part of it.
            return sink.flush().await.map_err(Error::ClientGone).map(|()| Turn::Done);
        }
        match copy(&mut answers.source, &mut sink, &self.record.down).await {
            Ok(()) => Ok(Turn::Done),
            Err(Broken::Sink(why)) => Err(Error::ClientGone(why)),
            Err(Broken::Source(cause)) => Err(Error::Cut { host: self.lease.dial.host.clone(), cause, retry: Retry::Never }),
        }
    }

    /// The final head. Its deadline runs from the end of the request and ends with it: a watch's events may take for ever.
    async fn answer(&self, answers: &mut AnswerReader<'_>, reply: &mut Reply<'_>, due: &Notify) -> Result<Answer> {
        let limit = self.passage.gateway.parts.settings.load().timeouts.response_header;
        let mut late = pin!(async {
            due.notified().await;
            // Shares a coarse clock: a timer of tokio would wake its driver for every request.
            fast_sleep(limit).await;
        });
        for _ in 0..MAX_INTERIM {
            let mut answer = tokio::select! {
                biased;
                answer = answers.head() => answer?,
                why = reply.gone() => return Err(Error::ClientGone(why)),
                () = &mut late => return Err(Error::HeaderTimeout { host: self.lease.dial.host.clone() }),
            };
            if !answer.status.is_informational() || answer.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(answer);
            }
            headers::toward_client(answer.status, &mut answer.headers);
            reply.interim(answer.status, answer.headers).await?;
        }
        Err(Error::Protocol { host: self.lease.dial.host.clone(), cause: "interim answers without end".to_owned() })
    }

    /// A body that is gone cannot be sent again.
    fn may_renew(&self) -> bool {
        !self.last && self.request.framing == Framing::None
    }

    async fn credential_changed(&self) -> bool {
        self.passage.gateway.parts.credentials.reread(&self.lease.route).await
    }
}
