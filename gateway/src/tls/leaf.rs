//! Certificates for the client's leg: minted by the issuing CA for one host, with the TLS context that serves
//! them. In a tunnel that host is the target's, on the https listener the one by which the client came
//! (`c-<name>.<ns>.svc`). Used by the handshake in `tls`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use moka::sync::Cache;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    AlpnError, NameType, SniError, SslAlert, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions,
    SslRef, SslSessionCacheMode, SslVersion, select_next_proto,
};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509NameBuilder};

use crate::error::{Error, Result};
use crate::http::socket::GROUPS;
use crate::metrics::Metrics;
use crate::table::route::Table;
use crate::tls::issuer::{Current, Issuer};

const LIFE: Duration = Duration::from_secs(24 * 3600);
/// Clients' clocks may be behind ours.
const BACKDATE: Duration = Duration::from_secs(3600);
/// A cached leaf always has at least half its life left, unless its issuer ends sooner and is renewed.
const CACHED: Duration = Duration::from_secs(12 * 3600);
/// Each some 20 KiB: whoever has a hundred connectors with addresses of their own has not all the memory.
const HOSTS: u64 = 2_000;
/// Longest common name (RFC 5280); longer hosts stand in the alternative name alone.
const MAX_COMMON_NAME: usize = 64;
/// Preferred first: wire format of the protocols offered inside of a tunnel.
const ALPN: &[u8] = b"\x02h2\x08http/1.1";
const TLS12_CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";

/// Mints and keeps. One key for all leaves: it never leaves the process, and a key per host would cost 23 µs
/// each.
pub struct Leaves {
    mint: Arc<Mint>,
    table: Arc<ArcSwap<Table>>,
    /// Of the https listener: its certificate is chosen by the name that the client asks for.
    pub listener: SslContext,
}

struct Mint {
    issuer: Current,
    key: PKey<Private>,
    contexts: Cache<String, Arc<Leaf>>,
    metrics: Arc<Metrics>,
}

struct Leaf {
    context: SslContext,
    /// A leaf of another issuer than the current one is not served any more.
    issuer: Arc<Issuer>,
}

impl Leaves {
    pub fn new(
        issuer: Current,
        table: Arc<ArcSwap<Table>>,
        metrics: Arc<Metrics>,
    ) -> std::result::Result<Leaves, ErrorStack> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
        let contexts = Cache::builder().max_capacity(HOSTS).time_to_live(CACHED).build();
        let mint = Arc::new(Mint { issuer, key, contexts, metrics });
        let listener = listener(mint.clone(), table.clone())?;
        Ok(Leaves { mint, table, listener })
    }

    /// The server context for a host of somebody's connector: lower case, without brackets. For no other is a
    /// leaf minted, or whoever has a token could have one of any name.
    pub fn context(&self, host: &str) -> Result<SslContext> {
        let table = self.table.load();
        if !table.has_host(host) && !table.is_proxy_host(host) {
            return Err(Error::NobodysHost(host.to_owned()));
        }
        self.mint.context(host)
    }

    /// For the gateway's own admin Service, by which the controller comes.
    pub fn own(&self, service: &str) -> Result<SslContext> {
        self.mint.context(service)
    }
}

impl Mint {
    fn context(&self, host: &str) -> Result<SslContext> {
        let issuer = self.issuer.load_full().ok_or(Error::NoIssuer)?;
        let kept = self.contexts.get(host).filter(|leaf| Arc::ptr_eq(&leaf.issuer, &issuer));
        self.metrics.caches.leaves.count(kept.is_some());
        if let Some(leaf) = kept {
            return Ok(leaf.context.clone());
        }
        let context =
            self.build(&issuer, host).map_err(|error| Error::Internal(format!("minting a leaf: {error}")))?;
        self.metrics.leaves_minted.inc();
        self.contexts.insert(host.to_owned(), Arc::new(Leaf { context: context.clone(), issuer }));
        Ok(context)
    }

    fn build(&self, issuer: &Issuer, host: &str) -> std::result::Result<SslContext, ErrorStack> {
        let mut context = SslContextBuilder::new(SslMethod::tls_server())?;
        harden(&mut context)?;
        let leaf = mint(issuer, &self.key, host)?;
        context.set_certificate(&leaf)?;
        context.set_private_key(&self.key)?;
        for certificate in &issuer.chain {
            context.add_extra_chain_cert(certificate.clone())?;
        }
        let host = host.to_owned();
        context.set_servername_callback(move |ssl, alert| same_name(ssl, alert, &host));
        Ok(context.build())
    }
}

/// Takes the certificate of the host that the client names; only names by which clients may come to us have
/// one.
fn listener(mint: Arc<Mint>, table: Arc<ArcSwap<Table>>) -> std::result::Result<SslContext, ErrorStack> {
    let mut context = SslContextBuilder::new(SslMethod::tls_server())?;
    harden(&mut context)?;
    context.set_servername_callback(move |ssl, alert| {
        let name = ssl.servername(NameType::HOST_NAME).unwrap_or_default();
        let host = name.trim_end_matches('.').to_ascii_lowercase();
        if !table.load().is_proxy_host(&host) {
            *alert = SslAlert::UNRECOGNIZED_NAME;
            return Err(SniError::ALERT_FATAL);
        }
        let chosen = mint.context(&host).map_err(|error| {
            tracing::warn!(%error, host, "no certificate for the https listener");
            *alert = SslAlert::INTERNAL_ERROR;
        });
        let context = chosen.map_err(|()| SniError::ALERT_FATAL)?;
        ssl.set_ssl_context(&context).map_err(|_| SniError::ALERT_FATAL)
    });
    Ok(context.build())
}

/// TLS 1.2 and later, no tickets (kubectl never resumes, and two tickets cost 8–19 % of a handshake), buffers
/// released while idle.
fn harden(context: &mut SslContextBuilder) -> std::result::Result<(), ErrorStack> {
    context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_cipher_list(TLS12_CIPHERS)?;
    context.set_groups_list(GROUPS)?;
    context.set_options(
        SslOptions::NO_TICKET
            | SslOptions::NO_COMPRESSION
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    context.set_num_tickets(0)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_alpn_select_callback(|_, offered| select_next_proto(ALPN, offered).ok_or(AlpnError::NOACK));
    // One system call for a record instead of two; the buffer is released with the others.
    context.set_read_ahead(true);
    // The first three are what tokio-openssl's partial writes need.
    context.set_mode(
        SslMode::AUTO_RETRY
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::RELEASE_BUFFERS,
    );
    Ok(())
}

/// A client that names another host than its CONNECT did is refused with an alert; none is fine (targets by
/// IP address).
fn same_name(ssl: &mut SslRef, alert: &mut SslAlert, host: &str) -> std::result::Result<(), SniError> {
    let Some(name) = ssl.servername(NameType::HOST_NAME) else { return Err(SniError::NOACK) };
    if name.trim_end_matches('.').eq_ignore_ascii_case(host) {
        return Ok(());
    }
    *alert = SslAlert::UNRECOGNIZED_NAME;
    Err(SniError::ALERT_FATAL)
}

fn mint(issuer: &Issuer, key: &PKey<Private>, host: &str) -> std::result::Result<X509, ErrorStack> {
    let now = SystemTime::now();
    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let serial = serial.to_asn1_integer()?;
    certificate.set_serial_number(&serial)?;
    let mut subject = X509NameBuilder::new()?;
    if host.len() <= MAX_COMMON_NAME {
        subject.append_entry_by_nid(Nid::COMMONNAME, host)?;
    }
    let subject = subject.build();
    certificate.set_subject_name(&subject)?;
    certificate.set_issuer_name(issuer.cert.subject_name())?;
    let (not_before, not_after) = (asn1(now - BACKDATE)?, asn1(issuer.not_after.min(now + LIFE))?);
    certificate.set_not_before(&not_before)?;
    certificate.set_not_after(&not_after)?;
    certificate.set_pubkey(key)?;
    certificate.append_extension(BasicConstraints::new().critical().build()?)?;
    certificate.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    certificate.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    let mut names = SubjectAlternativeName::new();
    match host.parse::<IpAddr>() {
        Ok(ip) => names.ip(&ip.to_string()),
        Err(_) => names.dns(host),
    };
    // A name too long for a subject stands here alone (RFC 5280, 4.2.1.6).
    if host.len() > MAX_COMMON_NAME {
        names.critical();
    }
    let context = certificate.x509v3_context(Some(&issuer.cert), None);
    let mut extensions = vec![SubjectKeyIdentifier::new().build(&context)?, names.build(&context)?];
    if issuer.cert.subject_key_id().is_some() {
        extensions.push(AuthorityKeyIdentifier::new().keyid(true).build(&context)?);
    }
    for extension in extensions {
        certificate.append_extension(extension)?;
    }
    certificate.sign(&issuer.key, MessageDigest::sha256())?;
    Ok(certificate.build())
}

fn asn1(time: SystemTime) -> std::result::Result<Asn1Time, ErrorStack> {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Asn1Time::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
}
