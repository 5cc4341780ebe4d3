//! A target as `upstream` has resolved it, and what a request gets to speak to it over.

use std::net::SocketAddr;
use std::sync::Arc;

use connectors_api::target::default_port;
use http::uri::Authority;
use pingora_core::protocols::Stream;

use super::multiplex::Lent;
use super::policy::Candidate;
use super::pool::Pool;
use super::trust::Anchors;
use crate::error::Retry;
use crate::http::http2::{Portion, Share};

/// Streams that a target is thought to allow before it has said: as many as it should (RFC 9113, 6.5.2).
const EACH: usize = 100;

/// A target of a route, resolved: whom to dial and how to know it.
pub struct Dial {
    pub host: String,
    /// For `Host` and `:authority`.
    pub authority: Authority,
    pub(super) namespace: String,
    /// Of what HTTP/2 streams may hold.
    pub(crate) share: Arc<Share>,
    /// As in `Candidate`.
    pub(super) in_cluster: bool,
    /// For SNI and the certificate; the host, unless the connector says otherwise.
    pub(crate) server_name: String,
    /// None: plain HTTP.
    pub(crate) anchors: Option<Anchors>,
    pub(super) legacy_tls: bool,
    pub(super) addresses: Vec<Address>,
}

pub(super) struct Address {
    pub address: SocketAddr,
    pub pool: Arc<Pool>,
}

/// A verified connection, or leave for a stream on one.
pub enum Session {
    /// `place`: which address of the dial it belongs to, for its way back to the pool. `held`: what it takes.
    H1 {
        stream: Stream,
        held: Portion,
        taken: Taken,
        place: usize,
    },
    H2 {
        lent: Lent,
        taken: Taken,
    },
}

/// Where a session's connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    New,
    /// The target may have closed it in the meantime, with nothing to do with this request.
    FromPool,
}

impl Taken {
    /// What a break before the first byte of an answer says about the request.
    pub fn retry(self) -> Retry {
        match self {
            Taken::New => Retry::Never,
            Taken::FromPool => Retry::IfIdempotent,
        }
    }
}

/// What an exchange leaves of its connection to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is over to the last byte in both directions, with nothing unread: the next may begin.
    Clean,
    Spent,
}

/// Which connection a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A pooled one, or a new one.
    Any,
    /// A new one: the pool may hold more that the target has closed.
    Fresh,
    /// A new one that speaks HTTP/1.1: for upgrades. No pooled one, since it might be dead, and nobody could
    /// say then whether an exec has run.
    FreshH1,
}

impl Dial {
    pub fn default_port(&self) -> u16 {
        default_port(self.anchors.is_some())
    }

    pub(super) fn candidate(&self, address: SocketAddr) -> Candidate<'_> {
        Candidate { namespace: &self.namespace, host: &self.host, in_cluster: self.in_cluster, address }
    }

    /// Requests that the next connection will carry at once: as many as another did.
    pub(super) fn each(&self) -> usize {
        self.addresses.iter().find_map(|Address { pool, .. }| pool.each()).unwrap_or(EACH)
    }

    /// What stands open to one of the addresses. `h2` may have been switched off since, and an address
    /// forbidden: what rests there is closed.
    pub(super) fn pooled(&self, h2: bool, open: impl Fn(SocketAddr) -> bool) -> Option<Session> {
        self.addresses.iter().enumerate().find_map(|(place, Address { address, pool })| {
            if !open(*address) {
                pool.clear();
                return None;
            }
            let lent = if h2 { pool.lend() } else { None };
            match lent {
                Some(lent) => Some(Session::H2 { lent, taken: Taken::FromPool }),
                None => {
                    let h1 = |(stream, held)| Session::H1 { stream, held, taken: Taken::FromPool, place };
                    pool.idle().map(h1)
                }
            }
        })
    }
}
