//! The requests of a client that speaks HTTP/2: one task per stream. The connection itself is a loop here,
//! with PINGs that find dead clients, and a GOAWAY when it drains.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::{self, HeaderMap};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use tokio::time::timeout;

use crate::error::status::Form;
use crate::error::{Error, Result};
use crate::http::headers;
use crate::http::http2::{
    Blocks, Flusher, GIVEN_UP, GIVEN_UP_TIME, Gathering, Inflow, Outflow, SEND_BUFFER, STREAM_WINDOW,
    connection_window, gather, silence,
};
use crate::http::request::{self, Request, Scheme};
use crate::http::wire::{self, Framing, MAX_FIELDS};
use crate::modes::Mode;
use crate::record;
use crate::relay::client::{Body, Reply};

/// So many requests that a client takes back before their answer are nobody's habit, if it takes back most of
/// them. Each costs a target's time, on a connection that others use too (CVE-2023-44487).
const TAKEN_BACK: usize = 500;
/// Streams that a client makes us reset, in the life of its connection (CVE-2025-8671): fewer than a target may,
/// whose connection others use too.
const CLIENTS_MISTAKES: usize = 4000;

/// Serves a connection to its end.
pub async fn serve(mode: Mode, stream: Stream, shutdown: &ShutdownWatch) {
    let mode = &mode;
    let timeouts = mode.gateway().parts.settings.load().timeouts.clone();
    let list = mode.gateway().parts.settings.load().limits.head_bytes;
    let (outflow, of) = (Outflow::default(), mode.clone());
    let owner = Box::new(move || of.share());
    let stream = Blocks::of_client(stream, (list, timeouts.head), outflow.clone(), owner);
    let (stream, mut flusher) = gather(stream, 0, outflow);
    let handshake = options(mode).handshake(stream);
    let mut connection = match Box::pin(timeout(timeouts.head, handshake)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "no HTTP/2"),
        Err(_) => return tracing::debug!("the client did not begin its HTTP/2 in time"),
    };
    flusher.begin();
    let mut watch = shutdown.clone();
    let mut ending = pin!(watch.wait_for(|ending| *ending));
    let mut draining = false;
    let (mut asked, taken_back) = (0, Arc::new(AtomicUsize::new(0)));
    let mut dead = pin!(silence(connection.ping_pong(), timeouts.ping, timeouts.pong));
    // Boxed: it is for those who have not been known yet.
    let mut nobody = Box::pin(stays_unknown(mode));
    loop {
        tokio::select! {
            biased;
            _ = &mut ending, if !draining => {
                connection.graceful_shutdown();
                draining = true;
            }
            stream = poll_fn(|cx| accept(&mut connection, &mut flusher, &mut draining, mode, cx)) => match stream {
                Some(Ok((request, respond))) => {
                    asked += 1;
                    let so_far = taken_back.load(Ordering::Relaxed);
                    if so_far > TAKEN_BACK && so_far * 2 > asked {
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                        continue;
                    }
                    let (mode, outflow, taken_back) =
                        (mode.clone(), flusher.outflow().clone(), taken_back.clone());
                    tokio::spawn(async move {
                        if !exchange(&mode, request, respond, outflow).await {
                            taken_back.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                // Its streams end with it: each writes its own record.
                Some(Err(_)) | None => return,
            },
            () = &mut dead => return,
            () = &mut nobody => return,
        }
    }
}

/// A request, and where its answer goes.
type Asked = (http::Request<RecvStream>, SendResponse<Bytes>);

/// The next stream. When there is none for now, what this turn has written leaves.
fn accept(
    connection: &mut Connection<Gathering<Blocks<Stream>>, Bytes>,
    flusher: &mut Flusher<Blocks<Stream>>,
    draining: &mut bool,
    mode: &Mode,
    cx: &mut Context<'_>,
) -> Poll<Option<std::result::Result<Asked, h2::Error>>> {
    let accepted = pin!(connection.accept()).poll(cx);
    match accepted {
        Poll::Pending => match flusher.poll(cx, || mode.share()) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            Poll::Ready(Ok(())) | Poll::Pending => {
                if flusher.outflow().is_worn() && !std::mem::replace(draining, true) {
                    connection.graceful_shutdown();
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        },
        stream => stream,
    }
}

/// Resolves when no request has proved in time whose the connection is.
async fn stays_unknown(mode: &Mode) {
    if let Some(limit) = mode.patience() {
        tokio::time::sleep(limit).await;
        if mode.patience().is_some() {
            return;
        }
    }
    pending().await
}

fn options(mode: &Mode) -> H2Options {
    let settings = mode.gateway().parts.settings.load();
    let mut options = default_h2_options();
    options
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(connection_window(settings.limits.streams))
        .max_concurrent_streams(settings.limits.streams)
        .max_header_list_size(u32::try_from(settings.limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(GIVEN_UP)
        .reset_stream_duration(GIVEN_UP_TIME)
        .max_pending_accept_reset_streams(TAKEN_BACK)
        .max_local_error_reset_streams(Some(CLIENTS_MISTAKES));
    options
}

/// One request. True: the client has waited for the beginning of its answer.
async fn exchange(
    mode: &Mode,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    outflow: Outflow,
) -> bool {
    let (parts, body) = request.into_parts();
    let reply = Reply::H2 { respond, stream: None, outflow, answered: false };
    let limit = mode.gateway().parts.settings.load().limits.head_bytes;
    match request_of(parts, body.is_end_stream(), limit) {
        Ok(request) => {
            let body = Inflow::new(body, mode.gateway().upstream.budget.nobodys());
            // Boxed: it would be moved, and have room in the task twice.
            Box::pin(super::serve(mode, request, Body::H2(body), reply, "h2")).await
        }
        Err(error) => {
            drop(body);
            turn_away(mode, error, reply).await
        }
    }
}

async fn turn_away(mode: &Mode, error: Error, mut reply: Reply<'_>) -> bool {
    record::turned_away(mode.gateway(), mode.known(), &error, Form::Status, "h2");
    super::refuse(mode, &mut reply, &http::Method::GET, Form::Status, &error).await;
    reply.open()
}

fn request_of(parts: http::request::Parts, ended: bool, limit: usize) -> Result<Request> {
    let http::request::Parts { method, uri, mut headers, .. } = parts;
    // The library bounds their bytes, and HPACK makes a field of one.
    if headers.len() > MAX_FIELDS {
        return Err(Error::HeadTooLarge(limit));
    }
    let host = host(&mut headers)?;
    let authority = match (uri.authority().map(|authority| authority.as_str().to_owned()), host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(&host) => {
            return Err(Error::Malformed("Host and :authority differ"));
        }
        (Some(authority), _) => authority,
        (None, Some(host)) => host,
        (None, None) => return Err(Error::Malformed("the request names no host")),
    };
    let path = request::rooted(uri.path_and_query().ok_or(Error::Malformed("the request has no path"))?)?;
    let length =
        wire::length(&headers).map_err(|_| Error::Malformed("the Content-Length is not one number"))?;
    let framing = match length {
        _ if ended => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    headers::join_cookies(&mut headers);
    // HTTP/2 has no Upgrade, and extended CONNECT (RFC 8441) is not offered: the h2 crate resets streams that
    // try either.
    let scheme = uri
        .scheme_str()
        .map(|scheme| Scheme::parse(scheme).ok_or(Error::Malformed("the scheme is not http or https")));
    let scheme = scheme.transpose()?;
    Ok(Request { method, scheme, authority, path, headers, framing, upgrade: None, rewrite: None })
}

/// Takes `Host` out: one at most.
fn host(headers: &mut HeaderMap) -> Result<Option<String>> {
    let host = headers::single(headers, &header::HOST, "two Host headers")?
        .map(|host| host.to_str().map(str::to_owned))
        .transpose()
        .map_err(|_| Error::Malformed("the Host header is not valid"))?;
    headers.remove(header::HOST);
    Ok(host)
}
