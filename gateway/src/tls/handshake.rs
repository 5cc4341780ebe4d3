//! The client's handshake, inside of a tunnel or on the https listener, with a context of `leaf`.

use bytes::Bytes;
use openssl::ssl::{Ssl, SslContext};
use pingora_core::protocols::Stream;
use pingora_core::protocols::tls::SslStream;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result};
use crate::tls::replay::Replay;

/// `first` was read already.
pub async fn accept(
    stream: Stream,
    first: Bytes,
    context: &SslContext,
    deadline: Instant,
) -> Result<SslStream<Replay>> {
    let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
    let ssl = Ssl::new(context).map_err(|error| internal(&error))?;
    let mut tls = SslStream::new(ssl, Replay::new(first, stream)).map_err(|error| internal(&error))?;
    match timeout_at(deadline, tls.accept()).await {
        Ok(Ok(())) => Ok(tls),
        Ok(Err(error)) => Err(Error::ClientGone(format!("TLS handshake: {error}"))),
        Err(_) => Err(Error::HeadTimeout),
    }
}
