//! A TLS target that answers every request with 1 KiB of JSON, as fast as it can, and one CA for both legs.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslMethod, select_next_proto};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

pub const BODY: usize = 1024;

pub struct Certificates {
    pub root_pem: String,
    pub root_key_pem: String,
    leaf: X509,
    leaf_key: PKey<Private>,
}

impl Certificates {
    pub fn new() -> Result<Certificates> {
        let (root, root_key) = issue("bench CA", None)?;
        let (leaf, leaf_key) = issue("127.0.0.1", Some((&root, &root_key)))?;
        let root_key_pem = String::from_utf8(root_key.private_key_to_pem_pkcs8()?)?;
        Ok(Certificates { root_pem: String::from_utf8(root.to_pem()?)?, root_key_pem, leaf, leaf_key })
    }
}

fn issue(name: &str, issuer: Option<(&X509, &PKey<Private>)>) -> Result<(X509, PKey<Private>)> {
    let key = PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?)?;
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    let subject = subject.build();
    let mut cert = X509::builder()?;
    cert.set_version(2)?;
    let serial = BigNum::from_u32(if issuer.is_some() { 2 } else { 1 })?.to_asn1_integer()?;
    cert.set_serial_number(&serial)?;
    cert.set_subject_name(&subject)?;
    cert.set_issuer_name(issuer.map_or(&*subject, |(cert, _)| cert.subject_name()))?;
    let (from, to) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(2)?);
    cert.set_not_before(&from)?;
    cert.set_not_after(&to)?;
    cert.set_pubkey(&key)?;
    if issuer.is_none() {
        cert.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    } else {
        let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&cert.x509v3_context(None, None))?;
        cert.append_extension(names)?;
    }
    cert.sign(issuer.map_or(&key, |(_, key)| key), MessageDigest::sha256())?;
    Ok((cert.build(), key))
}

/// Listens and gives its port.
pub async fn start(certificates: &Certificates, alpn: &'static [u8]) -> Result<u16> {
    let mut acceptor = SslAcceptor::mozilla_modern_v5(SslMethod::tls())?;
    acceptor.set_certificate(&certificates.leaf)?;
    acceptor.set_private_key(&certificates.leaf_key)?;
    acceptor.set_alpn_select_callback(move |_, offered| select_next_proto(alpn, offered).ok_or(AlpnError::NOACK));
    let acceptor = Arc::new(acceptor.build());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            // An error is the end of one connection; the client's own error tells the rest.
            tokio::spawn(async move { serve(&acceptor, stream).await });
        }
    });
    Ok(port)
}

async fn serve(acceptor: &SslAcceptor, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut tls = SslStream::new(Ssl::new(acceptor.context())?, stream)?;
    Pin::new(&mut tls).accept().await?;
    match tls.ssl().selected_alpn_protocol() {
        Some(b"h2") => serve_h2(tls).await,
        _ => serve_h1(tls).await,
    }
}

async fn serve_h1(mut tls: SslStream<TcpStream>) -> Result<()> {
    let answer = [
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {BODY}\r\n\r\n").into_bytes(),
        vec![b'x'; BODY],
    ]
    .concat();
    let mut buf = Vec::with_capacity(4096);
    while tls.read_buf(&mut buf).await? > 0 {
        if buf.ends_with(b"\r\n\r\n") {
            buf.clear();
            tls.write_all(&answer).await?;
        }
    }
    Ok(())
}

async fn serve_h2(tls: SslStream<TcpStream>) -> Result<()> {
    let mut connection = h2::server::handshake(tls).await?;
    let body = Bytes::from(vec![b'x'; BODY]);
    while let Some(request) = connection.accept().await {
        let (_, mut respond) = request?;
        let head = http::Response::builder().header("content-type", "application/json").header("content-length", BODY).body(())?;
        respond.send_response(head, false)?.send_data(body.clone(), true)?;
    }
    Ok(())
}
