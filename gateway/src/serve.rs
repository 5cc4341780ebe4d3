//! Third stage: the requests of one connection. `h1` and `h2` bring them; `serve` is the list of what each
//! goes through.

pub mod h1;
pub mod h2;

use std::sync::Arc;

use connectors_api::impersonation::Impersonation;
use http::Method;
use tokio::time::timeout;

use crate::admit;
use crate::admit::passage::{Grant, Passage};
use crate::error::status::Form;
use crate::error::{Error, Result, Retry};
use crate::http::headers;
use crate::http::http2::NoRoom;
use crate::http::request::Request;
use crate::http::wire::Framing;
use crate::modes::Mode;
use crate::record::{self, Record};
use crate::relay::client::{Body, Reply};
use crate::relay::kept::Kept;
use crate::relay::{Exchange, Turn};
use crate::upstream::{Left, Want};

/// A request is sent at most this often: on a pooled connection, on a new one, with a reread credential.
const MAX_TRIES: usize = 3;

/// Carries one request from its head to the last byte of its answer. True: as `Reply::open` says.
pub(crate) async fn serve(
    mode: &Mode,
    mut request: Request,
    mut body: Body<'_>,
    mut reply: Reply<'_>,
    protocol: &'static str,
) -> bool {
    let carries = request.framing != Framing::None;
    // Of whoever does not wait it is not asked: all workers share what it counts in.
    let waits = async { mode.gateway().upstream.budget.nobodys().bears(request.weight()).await };
    let passage = match meanwhile(&mut body, carries, waits, mode.passage(&request)).await {
        Ok((passage, turned)) => {
            request.turn(turned);
            passage
        }
        Err(error) => {
            let (method, form) = (request.method.clone(), form(&request));
            drop(request);
            body.let_go();
            record::turned_away(mode.gateway(), mode.known(), &error, form, protocol);
            refuse(mode, &mut reply, &method, form, &error).await;
            return reply.open();
        }
    };
    let mut record = Record::start(passage.clone(), request.method.clone(), request.path.clone(), protocol);
    match forward(&passage, &mut request, &mut body, &mut reply, &record).await {
        Ok(()) => record.complete(),
        Err(error) => {
            record.fail(error.clone());
            let (method, form) = (request.method.clone(), form(&request));
            drop(request);
            body.let_go();
            answer_error(mode, &mut reply, &method, form, &error, &record).await;
        }
    }
    reply.open()
}

async fn answer_error(
    mode: &Mode,
    reply: &mut Reply<'_>,
    method: &Method,
    form: Form,
    error: &Error,
    record: &Record,
) {
    if record.has_answered() || matches!(error, Error::ClientGone(_)) {
        return reply.cut();
    }
    if let Some(refusal) = error.refusal() {
        mode.gateway().parts.metrics.count_refusal(refusal);
    }
    if refuse(mode, reply, method, form, error).await {
        record.answered(error.code(form));
        record.complete();
    }
}

/// A refusal in place of an answer. True: the client has it. One that gives it no room is not waited for, so that it
/// holds nothing here for ever; and by then nothing of its request may be held, for nobody counts it.
async fn refuse(mode: &Mode, reply: &mut Reply<'_>, method: &Method, form: Form, error: &Error) -> bool {
    let limit = mode.gateway().parts.settings.load().timeouts.head;
    // Boxed, for few requests need the room.
    let told = Box::pin(timeout(limit, reply.refuse(method, form, error))).await;
    let told = told.unwrap_or_else(|_| Err(Error::ClientGone("it does not read".to_owned())));
    if let Err(error) = &told {
        tracing::debug!(%error, "client left before it could be refused");
        reply.cut();
    }
    told.is_ok()
}

fn form(request: &Request) -> Form {
    if request.is_discovery() { Form::Text } else { Form::Status }
}

/// Admission, then as many tries as are safe.
async fn forward(
    passage: &Arc<Passage>,
    request: &mut Request,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
    record: &Record,
) -> Result<()> {
    let carries = request.framing != Framing::None;
    let mut grant = tokio::select! {
        biased;
        grant = admit::admit(passage, request) => grant?,
        error = asks(passage, request, body) => return Err(error),
    };
    if carries {
        body.belongs_to(&grant.dial.share)?;
    }
    prepare(passage, request, &grant, record)?;
    if let Some(protocol) = request.upgrade {
        headers::set_upgrade(&mut request.headers, protocol);
    }
    let upstream = &passage.gateway.upstream;
    let mut want = if request.upgrade.is_some() { Want::FreshH1 } else { Want::Any };
    let kept = Kept::new(carries.then(|| grant.dial.share.clone()));
    for attempt in 1..=MAX_TRIES {
        let waits = async { grant.dial.share.clone().bears(request.weight()).await };
        let mut session = tokio::select! {
            biased;
            session = meanwhile(body, carries, waits, upstream.session(&grant.dial, want)) => session?,
            // Or a client that resets its streams at once would leave as many dials behind.
            why = reply.gone() => return Err(Error::ClientGone(why)),
        };
        let exchange =
            Exchange { passage, grant: &grant, request, record, kept: &kept, last: attempt == MAX_TRIES };
        let ran = exchange.run(&mut session, body, reply).await;
        let left = if let Ok(Turn::Done(left)) = ran { left } else { Left::Spent };
        upstream.release(&grant.dial, session, left);
        match ran {
            Ok(Turn::Done(_)) => return Ok(()),
            Ok(Turn::NewCredential) => {
                grant = admit::anew(passage, request).await?;
                headers::set_credential(&mut request.headers, grant.credential.authorization());
            }
            Err(error) if attempt < MAX_TRIES && may_repeat(request, &error, record, &kept) => {
                want = Want::Fresh
            }
            Err(Error::NoRoom) => return Err(Error::GivenUp),
            Err(error) => return Err(error.told_to_repeat()),
        }
    }
    Err(Error::Internal("a request was tried too often".to_owned()))
}

/// While it is found out whether a request may go anywhere, it and what comes of its body count against those who
/// sent it.
async fn asks(passage: &Passage, request: &Request, body: &mut Body<'_>) -> Error {
    let share = passage.gateway.upstream.budget.of_senders(passage.principal.namespace());
    let carries = request.framing != Framing::None;
    if carries && let Err(error) = body.belongs_to(&share) {
        return error;
    }
    tokio::select! {
        NoRoom = share.bears(request.weight()) => Error::NoRoom,
        NoRoom = body.waits(), if carries => Error::NoRoom,
    }
}

/// A request and what comes of its body wait here while this is found out, and count against what may wait.
async fn meanwhile<T>(
    body: &mut Body<'_>,
    carries: bool,
    waits: impl Future<Output = NoRoom>,
    finding: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        found = finding => found,
        NoRoom = waits => Err(Error::NoRoom),
        NoRoom = body.waits(), if carries => Err(Error::NoRoom),
    }
}

/// The head as the target gets it, whichever protocol its leg speaks.
fn prepare(passage: &Passage, request: &mut Request, grant: &Grant, record: &Record) -> Result<()> {
    headers::toward_target(
        &mut request.headers,
        grant.credential.authorization(),
        grant.route.impersonation != Impersonation::Nobody,
    )?;
    passage.gateway.upstream.pass_hop(&mut request.headers)?;
    headers::set_audit_id(&mut request.headers, record.audit_id.clone());
    if passage.gateway.parts.settings.load().upstream.forwarded {
        let scheme = if passage.client.secure { "https" } else { "http" };
        headers::set_forwarded(&mut request.headers, passage.client.address, scheme, &request.authority);
    }
    Ok(())
}

/// Only what the client has seen nothing of, and whose body is at hand; and what may change something only if
/// the target has not seen it.
fn may_repeat(request: &Request, error: &Error, record: &Record, kept: &Kept) -> bool {
    let Error::Cut { retry, .. } = error else { return false };
    let idempotent =
        matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    let bodiless = request.framing == Framing::None;
    let safe = match retry {
        Retry::Always => bodiless || kept.stands(),
        Retry::IfIdempotent => bodiless && idempotent,
        Retry::Never => false,
    };
    // An exec asked for by GET changes things all the same.
    safe && request.upgrade.is_none() && !record.has_answered()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use http::uri::PathAndQuery;
    use http::{HeaderMap, HeaderValue};
    use pingora_core::protocols::Stream;
    use tokio::io::AsyncReadExt;
    use tokio::sync::watch;

    use super::*;
    use crate::admit::passage::Client;
    use crate::gateway::Gateway;
    use crate::http::wire::Decoder;
    use crate::metrics::Metrics;
    use crate::modes::reverse::Reverse;
    use crate::standalone::{self, Standalone};
    use crate::upstream::policy;

    const OBJECTS: &str = r#"
kind: ConnectorClass
metadata: {name: k8s}
spec: {auth: {types: [{name: bearerTokenAuth, secretType: connectors.cpaas.io/bearer-token}]}}
---
kind: Connector
metadata: {namespace: demo, name: k8s}
spec: {connectorClassName: k8s, address: "https://target:6443", auth: {name: bearerTokenAuth, secretRef: {name: s}}}
"#;

    /// Of a connection in reverse mode. Who logs in may use no connector.
    fn mode() -> Mode {
        let client = standalone::Client {
            token: "letmein".into(),
            user: "system:serviceaccount:demo:default".into(),
            pod: None,
            connectors: Vec::new(),
        };
        let metrics = Arc::new(Metrics::new().unwrap());
        let (parts, standalone) = Standalone::start(Arc::default(), metrics, vec![client]).unwrap();
        standalone.apply(OBJECTS).unwrap();
        let gateway = Gateway::new(parts, policy::alone()).unwrap();
        let client = Client { address: None, secure: true };
        Mode::Reverse(Arc::new(Reverse::new(gateway, client, None)))
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_its_refusal_holds_nothing_of_its_request() {
        let (mode, (_drain, shutdown)) = (mode(), watch::channel(false));
        // Refused before it is known whose it is, and by admission.
        for login in ["Bearer guessed", "Bearer letmein"] {
            let (near, mut client) = tokio::io::duplex(64);
            let near: Stream = Box::new(near);
            let socket = near.id();
            let (mut read, mut write) = tokio::io::split(near);
            let mut buf = BytesMut::from(&[b'x'; 30 << 10][..]);
            buf.extend_from_slice(b"GET ");
            let head = buf.split_to(30 << 10).freeze();
            let large = HeaderValue::from_maybe_shared(head.clone()).unwrap();
            let mut headers = HeaderMap::from_iter([(http::header::USER_AGENT, large)]);
            headers.insert(http::header::AUTHORIZATION, HeaderValue::from_static(login));
            let request = Request {
                method: Method::GET,
                scheme: None,
                authority: "c-k8s.demo.svc".to_owned(),
                path: PathAndQuery::from_static("/"),
                headers,
                framing: Framing::None,
                upgrade: None,
                rewrite: None,
            };
            let (mut decoder, mut out) = (Decoder::from(Framing::None), BytesMut::new());
            let body = Body::H1 { io: &mut read, buf: &mut buf, decoder: &mut decoder, socket };
            let reply =
                Reply::H1 { io: &mut write, out: &mut out, minor: 1, close: false, shutdown: &shutdown };
            tokio::select! {
                _ = serve(&mode, request, body, reply, "h1") => panic!("{login}: the refusal fits into the pipe"),
                begun = client.read_u8() => assert_eq!(begun.unwrap(), b'H'),
            }
            assert!(head.is_unique(), "{login}");
        }
    }
}
