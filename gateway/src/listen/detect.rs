//! A connection on a proxy port, from its first byte: the first bytes decide what it is. A CONNECT opens a
//! tunnel; all else are requests that each say where they belong. Then `serve` has it. The https listener
//! (`secure`) does its handshake here and is the same from there on: ALPN is not asked, for Go writes an
//! HTTP/1.1 CONNECT after it has negotiated h2. Comes after `accept`.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Method;
use openssl::ssl::NameType;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::admit::passage::Client;
use crate::connections::let_go;
use crate::error::Error;
use crate::error::status::Form;
use crate::gateway::Gateway;
use crate::http::socket::linger;
use crate::http::wire;
use crate::listen::head::{self, First};
use crate::metrics::Refusal;
use crate::modes::Mode;
use crate::modes::reverse::Reverse;
use crate::modes::tunnel::{self, Connect, Unopened};
use crate::serve;
use crate::tls::handshake;
use crate::tls::replay::Replay;

/// What a connection does to its end, once it is known what it is. Given back and not awaited here: a tunnel lives for
/// days, and all that was needed to find that out would live with it.
pub type Rest<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Finds out what a connection is. None: it has ended.
pub async fn find(
    gateway: Arc<Gateway>,
    stream: Stream,
    peer: Option<IpAddr>,
    secure: bool,
    shutdown: &ShutdownWatch,
) -> Option<Rest<'_>> {
    if !secure {
        return begin(gateway, stream, Client { address: peer, secure }, None, shutdown).await;
    }
    let deadline = Instant::now() + gateway.parts.settings.load().timeouts.handshake;
    let accepted = tokio::select! {
        biased;
        accepted = Box::pin(handshake::accept(stream, Bytes::new(), &gateway.leaves.listener, deadline)) => accepted,
        () = let_go(shutdown.clone()) => return None,
    };
    match accepted {
        Ok(tls) => {
            let name = tls.ssl().servername(NameType::HOST_NAME).unwrap_or_default();
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            begin(gateway, Box::new(tls), Client { address: peer, secure }, Some(name), shutdown).await
        }
        Err(error) => {
            gateway.parts.metrics.count_refusal(Refusal::Handshake);
            tracing::debug!(%error, "no TLS on the https port");
            None
        }
    }
}

/// `name`: what the client's handshake named, empty if nothing; none without a handshake.
async fn begin(
    gateway: Arc<Gateway>,
    mut stream: Stream,
    client: Client,
    name: Option<String>,
    shutdown: &ShutdownWatch,
) -> Option<Rest<'_>> {
    let (limit, time) = {
        let settings = gateway.parts.settings.load();
        (settings.limits.head_bytes, settings.timeouts.head)
    };
    let (deadline, share) = (Instant::now() + time, || gateway.upstream.budget.nobodys());
    let first = tokio::select! {
        biased;
        first = Box::pin(head::read(&mut stream, limit, client.secure, deadline, share)) => first,
        // Half a head must not hold up a drain.
        () = let_go(shutdown.clone()) => return None,
    };
    let reverse = |gateway| {
        Mode::Reverse(Arc::new(Reverse::new(gateway, client, name.filter(|name| !name.is_empty()))))
    };
    match first {
        Ok(None) => None,
        Ok(Some(First::Head(head, rest))) if head.method == Method::CONNECT => {
            // Copied, or a few bytes would keep the buffer of a large head.
            match tunnel::connect(&head, Bytes::copy_from_slice(&rest)) {
                Ok(connect) => {
                    drop((head, rest));
                    Box::pin(through(gateway, stream, connect, client, shutdown)).await
                }
                Err(error) => Some(Box::pin(close_with(gateway, stream, error))),
            }
        }
        Ok(Some(First::Head(head, rest))) => {
            Some(Box::pin(serve::h1::serve(reverse(gateway), stream, Some(head), rest, shutdown)))
        }
        Ok(Some(First::Http2(first))) => {
            let stream = Box::new(Replay::new(first.freeze(), stream));
            Some(Box::pin(serve::h2::serve(reverse(gateway), stream, shutdown)))
        }
        Err(error) => Some(Box::pin(close_with(gateway, stream, error))),
    }
}

/// Opens a tunnel.
async fn through(
    gateway: Arc<Gateway>,
    stream: Stream,
    connect: Connect,
    client: Client,
    shutdown: &ShutdownWatch,
) -> Option<Rest<'_>> {
    let deadline = Instant::now() + gateway.parts.settings.load().timeouts.handshake;
    // Boxed, each for itself: none has room for the other.
    let (tunnel, context, rest) = match Box::pin(tunnel::admit(&gateway, connect, client.address)).await {
        Ok(admitted) => admitted,
        Err(error) => return Some(Box::pin(close_with(gateway, stream, error))),
    };
    let opened = Box::pin(tunnel::open(stream, &context, rest, deadline)).await;
    let tunnel = Arc::new(tunnel);
    let failed = |error: &Error| {
        gateway.parts.metrics.count_refusal(Refusal::Handshake);
        tracing::debug!(connector = %tunnel.first.connector, host = %tunnel.first.host(), %error, "no TLS in the tunnel");
    };
    match opened {
        Ok((stream, ALPN::H2)) => Some(Box::pin(serve::h2::serve(Mode::Tunnel(tunnel), stream, shutdown))),
        Ok((stream, _)) => {
            let mode = Mode::Tunnel(tunnel);
            Some(Box::pin(serve::h1::serve(mode, stream, None, BytesMut::new(), shutdown)))
        }
        Err(Unopened::Plain(stream, error)) => {
            failed(&error);
            Some(Box::pin(close_with(gateway, stream, error)))
        }
        Err(Unopened::Failed(error)) => {
            failed(&error);
            None
        }
    }
}

/// Answers in the clear and closes.
async fn close_with(gateway: Arc<Gateway>, mut stream: Stream, error: Error) {
    if let Some(refusal) = error.refusal() {
        gateway.parts.metrics.count_refusal(refusal);
    }
    if let Error::ClientGone(why) = &error {
        tracing::debug!(%why, "client left before its first request");
        return;
    }
    tracing::info!(target: "access", blame = error.blame().as_str(), status = error.code(Form::Status), cause = %error, "connection refused");
    let failure = error.failure();
    let (headers, body) = failure.answer(Form::Status);
    let mut out = BytesMut::new();
    wire::put_refusal(&mut out, failure.code, &failure.message, &headers);
    out.extend_from_slice(&body);
    if stream.write_all(&out).await.is_ok() && stream.flush().await.is_ok() {
        let (mut read, mut write) = tokio::io::split(stream);
        linger(&mut read, &mut write).await;
    }
}
