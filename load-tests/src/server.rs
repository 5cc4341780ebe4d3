//! The target of all ways: TLS, one thread, answers as fast as it can. It is the bare server too: its
//! contexts are the gateway's (gateway/src/leaf.rs), and a connection keeps nothing but what its protocol
//! needs. Answers only who brings the credential.

mod h1;
mod h2;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use openssl::pkey::PKey;
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode,
    SslVersion, select_next_proto,
};
use openssl::x509::X509;
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

use crate::process;
use crate::protocol::{BODY, CIPHERS, CREDENTIAL, GROUPS, Protocol};

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    port: u16,
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// PEM of certificate, chain and key.
    #[arg(long)]
    identity: PathBuf,
    /// Gather frames of HTTP/2, as a target that is not bare.
    #[arg(long)]
    gather: bool,
}

/// What a path asks for.
pub enum Asked {
    /// 1 KiB of JSON.
    List,
    /// `/events?count=N&every=MICROSECONDS`: lines that tell when they were sent.
    Events { count: u64, every: Duration },
    /// `/quiet`: one line, then nothing for ever.
    Quiet,
    /// `/endless`: as much as the client takes, over HTTP/2 only.
    Endless,
    /// `/stream?bytes=N`: an upgrade, then bytes.
    Stream { bytes: u64 },
}

impl Asked {
    pub fn parse(path: &str) -> Asked {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let number = |key: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        match path {
            "/events" => {
                Asked::Events { count: number("count"), every: Duration::from_micros(number("every")) }
            }
            "/quiet" => Asked::Quiet,
            "/endless" => Asked::Endless,
            "/stream" => Asked::Stream { bytes: number("bytes") },
            _ => Asked::List,
        }
    }
}

pub async fn run(options: Options) -> Result<()> {
    process::raise_open_files();
    let context = context(&options.identity, options.protocol.alpn())?;
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let context = context.clone();
        // An error is the end of one connection; the client's own error tells the rest.
        tokio::spawn(async move { serve(&context, stream, options.gather).await });
    }
}

fn context(identity: &Path, alpn: &'static [u8]) -> Result<SslContext> {
    let pem = std::fs::read(identity)?;
    let mut certificates = X509::stack_from_pem(&pem)?.into_iter();
    let mut context = SslContextBuilder::new(SslMethod::tls_server())?;
    context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_ciphersuites(CIPHERS)?;
    context.set_groups_list(GROUPS)?;
    context.set_options(SslOptions::NO_TICKET | SslOptions::NO_RENEGOTIATION);
    context.set_num_tickets(0)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    let leaf = certificates.next().context("no certificate")?;
    context.set_certificate(&leaf)?;
    for certificate in certificates {
        context.add_extra_chain_cert(certificate)?;
    }
    let key = PKey::private_key_from_pem(&pem)?;
    context.set_private_key(&key)?;
    context
        .set_alpn_select_callback(move |_, offered| select_next_proto(alpn, offered).ok_or(AlpnError::NOACK));
    context.set_read_ahead(true);
    context.set_mode(
        SslMode::AUTO_RETRY
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::RELEASE_BUFFERS,
    );
    Ok(context.build())
}

async fn serve(context: &SslContext, stream: TcpStream, gather: bool) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut tls = SslStream::new(Ssl::new(context)?, stream)?;
    Box::pin(async { Pin::new(&mut tls).accept().await }).await?;
    // Boxed, so that a connection is as large as what its own protocol needs.
    match tls.ssl().selected_alpn_protocol() {
        Some(b"h2") => Box::pin(h2::serve(tls, gather)).await,
        _ => Box::pin(h1::serve(tls)).await,
    }
}

/// Nanoseconds on the clock that all processes of a machine share.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// A line of `/events`: when it was sent.
fn event() -> String {
    format!("t={:019}\n", now())
}

/// The times in such lines, whatever stands between them; takes them off.
pub fn times(text: &mut Vec<u8>) -> Vec<u64> {
    let mut found = Vec::new();
    let mut rest = 0;
    while let Some(at) = text[rest..].windows(2).position(|window| window == b"t=") {
        let Some(digits) = text.get(rest + at + 2..rest + at + 21) else { break };
        found.extend(std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok()));
        rest += at + 21;
    }
    text.drain(..rest);
    found
}
