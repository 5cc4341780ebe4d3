//! Hosts and ports of addresses and authorities, in one spelling: what `Target` and `Authority` compare.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::TargetError;

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// `host`, `host:port`, `[v6]` or `[v6]:port`, split but not normalized. A `:` without port is refused.
pub fn split_port(text: &str) -> Result<(&str, Option<u16>), TargetError> {
    let after_host = match text.starts_with('[') {
        true => text.find(']').ok_or(TargetError::BadHost)? + 1,
        false => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(after_host);
    if rest.is_empty() {
        return Ok((host, None));
    }
    let digits = rest.strip_prefix(':').ok_or(TargetError::BadHost)?;
    // `parse` alone would take a leading "+".
    let port = if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None };
    port.filter(|port| *port != 0).map(|port| (host, Some(port))).ok_or(TargetError::BadPort)
}

/// Lowercase, without trailing dot and brackets; IPv6 in its canonical form.
pub fn normalize(host: &str) -> Result<String, TargetError> {
    if host.is_empty() {
        return Err(TargetError::NoHost);
    }
    if !host.is_ascii() {
        return Err(TargetError::NotAscii);
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return inner
            .parse::<Ipv6Addr>()
            .map(|address| address.to_string())
            .map_err(|_| TargetError::BadHost);
    }
    let name = trim(host).to_ascii_lowercase();
    if is_name(&name) { Ok(name) } else { Err(TargetError::BadHost) }
}

/// The same without allocating, for a host that is otherwise normalized.
pub fn trim(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner,
        None => host.strip_suffix('.').unwrap_or(host),
    }
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(is_name_byte);
    name.len() <= MAX_NAME
        && name.split('.').all(label)
        && (!ends_in_number(name) || name.parse::<Ipv4Addr>().is_ok())
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Resolvers read `127.1`, `0x7f000001` and `2130706433` as addresses: such a name must be a plain IPv4
/// address.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex =
        last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || last.bytes().all(|byte| byte.is_ascii_digit())
}
