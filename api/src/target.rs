//! Which URLs belong to a connector: scheme, host, port and whole segments of the path prefix. The routing
//! table parses addresses once; per request `Target::covers` and `Authority::is` decide where a credential
//! may go.

mod host;
mod path;

use thiserror::Error;

/// Bytes of an address or authority: far beyond any real one.
const MAX_LENGTH: usize = 2048;

/// A parsed address: `http` or `https`, normalized host, explicit port, path prefix without trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub tls: bool,
    /// Lowercase, no trailing dot, no brackets.
    pub host: String,
    pub port: u16,
    /// Empty or `/a/b`.
    pub prefix: String,
}

/// Where a request's path lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathMatch {
    Inside,
    Outside,
    /// The target may read it as a path that leads elsewhere: dot segments, however they are written.
    Suspicious,
}

/// Why an address was refused. The texts do not quote it: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    #[error("is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("must start with http:// or https://")]
    Scheme,
    #[error("must not hold user name or password: put them into the Secret")]
    UserInfo,
    #[error("must not have a query or fragment")]
    QueryOrFragment,
    #[error("has no host")]
    NoHost,
    #[error("has a host with other characters than ASCII: write it as xn-- (punycode)")]
    NotAscii,
    #[error("has a host that is no DNS name, IPv4 address or [IPv6 address]")]
    BadHost,
    #[error("has a port that is not 1 to 65535")]
    BadPort,
    #[error("has a path with characters that must be percent-encoded, or a broken escape")]
    BadPath,
    #[error("has a path with dot segments, encoded dots or slashes, or backslashes")]
    SuspiciousPath,
}

impl Target {
    /// Reads an address: `https://host[:port][/path]`.
    pub fn parse(url: &str) -> Result<Target, TargetError> {
        if url.len() > MAX_LENGTH {
            return Err(TargetError::TooLong);
        }
        let (tls, rest) = split_scheme(url)?;
        if rest.contains(['?', '#']) {
            return Err(TargetError::QueryOrFragment);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let Authority { host, port } = Authority::parse(authority)?;
        Ok(Target { tls, host, port: port.unwrap_or(default_port(tls)), prefix: path::prefix(path)? })
    }

    /// `https://host:port`, always with the port, brackets around IPv6.
    pub fn origin(&self) -> String {
        format!("{}://{}:{}", if self.tls { "https" } else { "http" }, self.bracketed(), self.port)
    }

    /// `host[:port]` for `Host` and `:authority`: without the scheme's default port, brackets around IPv6.
    pub fn authority(&self) -> String {
        match self.port == default_port(self.tls) {
            true => self.bracketed(),
            false => format!("{}:{}", self.bracketed(), self.port),
        }
    }

    /// Whether a request for this raw path (as in the request line, query or not) lies under the prefix.
    /// Allocates only for a path with escapes.
    pub fn covers(&self, raw_path: &str) -> PathMatch {
        if self.prefix.is_empty() {
            return PathMatch::Inside;
        }
        path::matches(&self.prefix, raw_path)
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

/// `host[:port]` as in a CONNECT, a `Host` header or `:authority`; the host is normalized as in `Target`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    pub host: String,
    pub port: Option<u16>,
}

impl Authority {
    pub fn parse(text: &str) -> Result<Authority, TargetError> {
        if text.len() > MAX_LENGTH {
            return Err(TargetError::TooLong);
        }
        if text.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let (host, port) = host::split_port(text)?;
        Ok(Authority { host: host::normalize(host)?, port })
    }

    /// Whether it names this host and port; `default_port` stands in for a port that was left out. Never
    /// allocates.
    pub fn is(&self, host: &str, port: u16, default_port: u16) -> bool {
        self.port.unwrap_or(default_port) == port && self.host.eq_ignore_ascii_case(host::trim(host))
    }
}

fn split_scheme(url: &str) -> Result<(bool, &str), TargetError> {
    let (scheme, rest) = url.split_once("://").ok_or(TargetError::Scheme)?;
    match scheme {
        _ if scheme.eq_ignore_ascii_case("https") => Ok((true, rest)),
        _ if scheme.eq_ignore_ascii_case("http") => Ok((false, rest)),
        _ => Err(TargetError::Scheme),
    }
}

/// The port that a URL without one means.
pub fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

#[cfg(test)]
mod tests;
