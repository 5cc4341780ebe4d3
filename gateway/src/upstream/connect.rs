//! A new connection to a target: TCP, TLS, the verdict on its certificate. `upstream` has asked the dial
//! policy before.

use std::net::{IpAddr, SocketAddr};

use connectors_api::names::LEGACY_TLS_ANNOTATION;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode};
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::tls::SslStream;
use tokio::net::TcpStream;

use crate::error::{Error, Result};
use crate::http::socket::{GROUPS, KEEPALIVE};
use crate::upstream::trust::{Anchors, Judgement};

const H2_OR_H1: &[u8] = b"\x02h2\x08http/1.1";
const H1: &[u8] = b"\x08http/1.1";

/// OpenSSL's SSL_OP_LEGACY_SERVER_CONNECT, which the binding does not name.
const LEGACY_SERVER_CONNECT: SslOptions = SslOptions::from_bits_retain(1 << 2);
/// OpenSSL's words for a server without RFC 5746.
const LEGACY_REFUSED: &str = "unsafe legacy renegotiation disabled";

/// Which servers a handshake is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renegotiation {
    /// Those that know secure renegotiation (RFC 5746): all of today.
    Secure,
    /// Any; a connector says so for its own targets.
    Legacy,
}

/// Of all connections to targets. It verifies nothing: `trust` judges, with what each route trusts.
pub fn context(renegotiation: Renegotiation) -> std::result::Result<SslContext, ErrorStack> {
    let mut context = SslContextBuilder::new(SslMethod::tls_client())?;
    if renegotiation == Renegotiation::Legacy {
        context.set_options(LEGACY_SERVER_CONNECT);
    }
    // As toward clients: OpenSSL would put an ML-KEM key of 1.2 KB into every first message.
    context.set_groups_list(GROUPS)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    // One system call for a record instead of two; the buffer is released with the others.
    context.set_read_ahead(true);
    context.set_mode(
        SslMode::AUTO_RETRY
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::RELEASE_BUFFERS,
    );
    Ok(context.build())
}

/// `host` is for what the client is told: not the address.
pub async fn tcp(address: SocketAddr, host: &str) -> Result<Socket> {
    let failed = |cause: &str| Error::Unreachable { host: host.to_owned(), cause: cause.to_owned() };
    let stream = TcpStream::connect(address).await.map_err(|error| {
        tracing::debug!(host, %address, %error, "connect failed");
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => failed("connection refused"),
            std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
                failed("no route to host")
            }
            std::io::ErrorKind::TimedOut => Error::ConnectTimeout { host: host.to_owned() },
            _ => failed("connection failed"),
        }
    })?;
    let mut socket = Socket::from(stream);
    socket.set_nodelay().and_then(|()| socket.set_keepalive(&KEEPALIVE)).map_err(|error| {
        tracing::debug!(host, %error, "the socket's options could not be set");
        failed("connection failed")
    })?;
    Ok(socket)
}

/// The handshake. Not judged yet.
pub async fn tls(socket: Socket, context: &SslContext, host: &str, h2: bool) -> Result<SslStream<Socket>> {
    let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
    let mut ssl = Ssl::new(context).map_err(|error| internal(&error))?;
    // An IP address is no server name (RFC 6066, 3).
    if host.parse::<IpAddr>().is_err() {
        ssl.set_hostname(host).map_err(|error| internal(&error))?;
    }
    ssl.set_alpn_protos(if h2 { H2_OR_H1 } else { H1 }).map_err(|error| internal(&error))?;
    let mut stream = SslStream::new(ssl, socket).map_err(|error| internal(&error))?;
    stream.connect().await.map_err(|error| {
        tracing::debug!(host, %error, "TLS handshake with a target failed");
        let cause = match error.to_string().contains(LEGACY_REFUSED) {
            true => format!(
                "its TLS has no secure renegotiation (RFC 5746): update the server, or annotate the connector {LEGACY_TLS_ANNOTATION}=true"
            ),
            false => "TLS handshake failed".to_owned(),
        };
        Error::Unreachable { host: host.to_owned(), cause }
    })?;
    Ok(stream)
}

/// Only a target that is what it must be gets a byte of HTTP.
pub fn judged(stream: SslStream<Socket>, anchors: &Anchors, host: &str) -> Result<Stream> {
    match anchors.judge(stream.ssl()) {
        Judgement::Trusted => Ok(Box::new(stream)),
        Judgement::Changed { fingerprint } => {
            Err(Error::CertificateChanged { host: host.to_owned(), cause: format!("key {fingerprint}") })
        }
        Judgement::Unknown { cause } => Err(Error::Unverified { host: host.to_owned(), cause }),
    }
}
