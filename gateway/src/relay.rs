//! Carries admitted requests: full duplex, one task per stream, any protocol on either leg. `h1` and `h2` bring a connection's requests;
//! `wire` and `body` are what both legs are made of. Upgrades differ from here on only: `upgrade` carries them in place of two bodies.

mod answer;
pub mod body;
pub(crate) mod client;
mod sending;
mod upgrade;

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderMap;
use http::{Method, StatusCode};
use pingora_timeout::fast_timeout::fast_sleep;
use tokio::sync::Notify;

pub use self::answer::{Answer, Answers, put_head, send_head};
use self::body::{Broken, H1Sink, H1Source, Sink, Source, copy};
use self::client::{Body, Reply};
use self::sending::Sending;
use crate::admit::passage::{Lease, Passage};
use crate::error::{Error, Result, Retry};
use crate::http::headers;
use crate::http::request::{self, Request};
use crate::http::wire::{Decoder, Encoder, Framing};
use crate::modes::Front;
use crate::record::Record;
use crate::upstream::{Session, Want};

/// Interim heads of one answer; a target that sends them for ever is cut.
const MAX_INTERIM: usize = 16;
/// A client that leaves is noticed so much later than it could be, and a target has so much longer for its answer.
const UNWATCHED: Duration = Duration::from_millis(10);
/// A request is sent at most this often: on a pooled connection, on a new one, with a reread credential.
const MAX_TRIES: usize = 3;

/// How one try ended, short of an error.
enum Turn {
    Done,
    /// The Secret has changed since: once more with what it holds now.
    NewCredential,
}

/// Carries one request from its head to the last byte of its answer. True: as `Reply::open` says.
pub(crate) async fn serve(
    front: &Front,
    mut request: Request,
    mut body: Body<'_>,
    mut reply: Reply<'_>,
    protocol: &'static str,
) -> bool {
    let passage = match front.passage(&mut request).await {
        Ok(passage) => passage,
        Err(error) => {
            front.refused(&error, protocol);
            if reply.refuse(&request.method, &error).await.is_err() {
                reply.cut();
            }
            return reply.open();
        }
    };
    let mut record = Record::start(passage.clone(), request.method.clone(), request.path.clone(), protocol);
    match forward(&passage, &mut request, &mut body, &mut reply, &record).await {
        Ok(()) => record.complete(),
        Err(error) => {
            let answered = record.has_answered();
            record.fail(error.clone());
            if answered || matches!(error, Error::ClientGone(_)) {
                reply.cut();
            } else if let Err(error) = refuse(&passage, &request.method, &mut reply, &error, &record).await {
                tracing::debug!(%error, "client left before it could be refused");
                reply.cut();
            }
        }
    }
    reply.open()
}

async fn refuse(passage: &Passage, method: &Method, reply: &mut Reply<'_>, error: &Error, record: &Record) -> Result<()> {
    if let Some(refusal) = error.refusal() {
        passage.gateway.parts.metrics.refused(refusal);
    }
    reply.refuse(method, error).await?;
    record.answered(error.code());
    record.complete();
    Ok(())
}

/// Admission, then as many tries as are safe.
async fn forward(
    passage: &Arc<Passage>,
    request: &mut Request,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
    record: &Record,
) -> Result<()> {
    let mut lease = request::admit(passage, request).await?;
    prepare(passage, request, &lease, record)?;
    if let Some(protocol) = request.upgrade {
        headers::set_upgrade(&mut request.headers, protocol);
    }
    let upstream = &passage.gateway.upstream;
    let mut want = if request.upgrade.is_some() { Want::FreshH1 } else { Want::Any };
    for attempt in 1..=MAX_TRIES {
        let mut session = tokio::select! {
            biased;
            session = upstream.session(&lease.dial, want) => session?,
            // Or a client that resets its streams at once would leave as many dials behind.
            why = reply.gone() => return Err(Error::ClientGone(why)),
        };
        let exchange = Exchange { passage, lease: &lease, request, record, last: attempt == MAX_TRIES };
        let ran = exchange.run(&mut session, body, reply).await;
        upstream.release(&lease.dial, session, matches!(ran, Ok((Turn::Done, true))));
        match ran {
            Ok((Turn::Done, _)) => return Ok(()),
            Ok((Turn::NewCredential, _)) => {
                lease = passage.renewed().await?;
                headers::set_credential(&mut request.headers, lease.credential.authorization());
            }
            Err(error) if attempt < MAX_TRIES && may_repeat(request, &error, record) => want = Want::Fresh,
            Err(error) => return Err(error),
        }
    }
    Err(Error::Internal("a request was tried too often".to_owned()))
}

/// The head as the target gets it, whichever protocol its leg speaks.
fn prepare(passage: &Passage, request: &mut Request, lease: &Lease, record: &Record) -> Result<()> {
    headers::toward_target(&mut request.headers, lease.credential.authorization(), lease.route.impersonation)?;
    passage.gateway.upstream.pass_hop(&mut request.headers)?;
    headers::set_audit_id(&mut request.headers, record.audit_id.clone());
    if passage.gateway.parts.settings.load().upstream.forwarded {
        let scheme = if passage.client.secure { "https" } else { "http" };
        headers::set_forwarded(&mut request.headers, passage.client.address, scheme, &request.authority);
    }
    Ok(())
}

/// Only what has no body and of which the client has seen nothing; and what may change something only if the target has not seen it.
fn may_repeat(request: &Request, error: &Error, record: &Record) -> bool {
    let Error::Cut { retry, .. } = error else { return false };
    let idempotent = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    let safe = *retry == Retry::Always || *retry == Retry::IfIdempotent && idempotent;
    // An exec asked for by GET changes things all the same.
    safe && request.framing == Framing::None && request.upgrade.is_none() && !record.has_answered()
}

/// One try of one request over one connection.
struct Exchange<'a> {
    passage: &'a Passage,
    lease: &'a Lease,
    request: &'a Request,
    record: &'a Record,
    last: bool,
}

impl Exchange<'_> {
    /// True: the connection may be used again.
    async fn run(&self, session: &mut Session, body: &mut Body<'_>, reply: &mut Reply<'_>) -> Result<(Turn, bool)> {
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

    fn answers<'b>(&'b self, source: Source<'b>, reused: bool) -> Answers<'b> {
        Answers {
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
        mut answers: Answers<'_>,
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

    async fn download(&self, answers: &mut Answers<'_>, reply: &mut Reply<'_>, due: &Notify) -> Result<Turn> {
        let answer = self.answer(answers, reply, due).await?;
        self.settle(answer, answers, reply).await
    }

    /// Delivers the answer, unless another try may find a better one.
    async fn settle(&self, mut answer: Answer, answers: &mut Answers<'_>, reply: &mut Reply<'_>) -> Result<Turn> {
        // Boxed, like all that few requests need: the room that a request's future has for it would be each request's.
        if answer.status == StatusCode::UNAUTHORIZED && self.may_renew() && Box::pin(self.credential_changed()).await {
            return Ok(Turn::NewCredential);
        }
        headers::toward_client(answer.status, &mut answer.headers);
        if let (Some(outward), Some(target)) = (&self.request.outward, self.lease.route.targets.first()) {
            outward.apply(&mut answer.headers, target);
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
    async fn answer(&self, answers: &mut Answers<'_>, reply: &mut Reply<'_>, due: &Notify) -> Result<Answer> {
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
