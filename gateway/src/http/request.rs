//! A request as the stages hand it on, whichever protocol brought it, and what a request target says.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Uri};

use super::headers::Protocol;
use super::http2::weight;
use super::rewrite::Rewrite;
use super::wire::Framing;
use crate::error::{Error, Result};

/// In an `Accept` for aggregated discovery: `…;g=apidiscovery.k8s.io;…`.
const DISCOVERY: &[u8] = b"apidiscovery";
/// Ends, since a connector's address may have a path.
const DISCOVERY_PATHS: [&str; 5] = ["/api", "/apis", "/version", "/openapi/v2", "/openapi/v3"];

/// A request as either protocol brings it.
pub struct Request {
    pub method: Method,
    /// Scheme of an absolute request target, or `:scheme`; none in origin-form.
    pub scheme: Option<Scheme>,
    /// `Host` or `:authority`, as sent.
    pub authority: String,
    pub path: PathAndQuery,
    pub headers: HeaderMap,
    pub framing: Framing,
    /// HTTP/1.1 only.
    pub upgrade: Option<Protocol>,
    /// Reverse mode: how the client may find what the answer points to.
    pub rewrite: Option<Rewrite>,
}

/// Another way, and the way back.
pub struct Turned {
    pub path: Option<PathAndQuery>,
    pub rewrite: Rewrite,
}

/// What a request takes that waits, beside its head: a task, two streams.
const WAITS: usize = 8 << 10;
impl Request {
    /// Bytes of memory while it waits. Its head is there twice: as it came, and as it goes.
    pub fn weight(&self) -> usize {
        WAITS + 2 * (self.path.as_str().len() + weight(&self.headers))
    }

    /// What reverse mode makes of it.
    pub fn turn(&mut self, turned: Option<Box<Turned>>) {
        let Some(Turned { path, rewrite }) = turned.map(|turned| *turned) else { return };
        if let Some(path) = path {
            self.path = path;
        }
        self.rewrite = Some(rewrite);
    }

    /// Asks what the API server has, which client-go reads without looking for a Status.
    pub fn is_discovery(&self) -> bool {
        let asks =
            |value: &HeaderValue| value.as_bytes().windows(DISCOVERY.len()).any(|part| part == DISCOVERY);
        let path = self.path.path();
        DISCOVERY_PATHS.iter().any(|end| path.ends_with(end))
            || self.headers.get_all(header::ACCEPT).iter().any(asks)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn parse(text: &str) -> Option<Scheme> {
        match text {
            _ if text.eq_ignore_ascii_case("http") => Some(Scheme::Http),
            _ if text.eq_ignore_ascii_case("https") => Some(Scheme::Https),
            _ => None,
        }
    }
}

/// What a request target and `Host` say together.
pub struct Whereto {
    pub scheme: Option<Scheme>,
    pub authority: String,
    pub path: PathAndQuery,
}

/// Reads a request target: origin-form with `Host`, or absolute-form, which wins over it (RFC 9112, 3.2.2).
/// Takes `Host` out.
pub fn parse_target(target: bytes::Bytes, headers: &mut HeaderMap) -> Result<Whereto> {
    const INVALID: Error = Error::Malformed("the request target is not valid");
    let mut hosts = headers.get_all(header::HOST).into_iter();
    let authority = match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            host.to_str().map_err(|_| Error::Malformed("the Host header is not valid"))?.to_owned()
        }
        (None, _) => return Err(Error::Malformed("the Host header is missing")),
        (Some(_), Some(_)) => return Err(Error::Malformed("two Host headers")),
    };
    headers.remove(header::HOST);
    if target.first() == Some(&b'/') {
        let path = PathAndQuery::from_maybe_shared(target).map_err(|_| INVALID)?;
        return Ok(Whereto { scheme: None, authority, path });
    }
    let uri = Uri::from_maybe_shared(target).map_err(|_| INVALID)?;
    match (uri.scheme_str().and_then(Scheme::parse), uri.authority(), uri.path_and_query()) {
        (Some(scheme), Some(authority), Some(path)) => {
            Ok(Whereto { scheme: Some(scheme), authority: authority.to_string(), path: rooted(path)? })
        }
        _ => Err(INVALID),
    }
}

/// A path begins with a slash. An absolute URL may go without (`https://host?a`); anything else would make
/// another request line of it.
pub fn rooted(path: &PathAndQuery) -> Result<PathAndQuery> {
    const INVALID: Error = Error::Malformed("the path does not begin with a slash");
    match path.as_str().bytes().next() {
        Some(b'/') => Ok(path.clone()),
        Some(b'?') => PathAndQuery::try_from(format!("/{}", path.as_str())).map_err(|_| INVALID),
        _ => Err(INVALID),
    }
}
