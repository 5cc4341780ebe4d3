//! Path prefixes: read once from an address, compared per request on the raw path, on segment borders.

use std::iter::Peekable;
use std::str::Bytes;

use super::{PathMatch, TargetError};

/// A path that still changes after so many decodings hides something.
const MAX_ROUNDS: usize = 3;

/// The prefix of an address's path: escapes of unreserved characters decoded, other escapes in upper case, no
/// trailing slash.
pub fn prefix(path: &str) -> Result<String, TargetError> {
    if is_suspicious(path) {
        return Err(TargetError::SuspiciousPath);
    }
    if !path.bytes().all(is_path_byte) || has_broken_escape(path) {
        return Err(TargetError::BadPath);
    }
    let normalized: String = Normalized::new(path).map(char::from).collect();
    Ok(normalized.trim_end_matches('/').to_owned())
}

/// Compares a raw path, with or without query, with a prefix made by `prefix`.
pub fn matches(prefix: &str, raw: &str) -> PathMatch {
    let path = &raw[..raw.find(['?', '#']).unwrap_or(raw.len())];
    if climbs(path) {
        return PathMatch::Suspicious;
    }
    let mut rest = Normalized::new(path);
    if prefix.bytes().all(|byte| rest.next() == Some(byte)) && matches!(rest.next(), None | Some(b'/')) {
        PathMatch::Inside
    } else {
        PathMatch::Outside
    }
}

/// Servers and proxies behind us may decode a path, more than once, take backslashes for slashes and drop
/// `;parameters`: whatever they do, no segment may lead out of the prefix. Other escapes, `%2F` among them,
/// are the target's own business.
fn climbs(path: &str) -> bool {
    if !path.contains('%') {
        return has_dot_segment(path.as_bytes());
    }
    let mut decoded = path.as_bytes().to_vec();
    for _ in 0..MAX_ROUNDS {
        if has_dot_segment(&decoded) {
            return true;
        }
        let once: Vec<u8> = percent_encoding::percent_decode(&decoded).collect();
        if once == decoded {
            return false;
        }
        decoded = once;
    }
    has_dot_segment(&decoded) || percent_encoding::percent_decode(&decoded).ne(decoded.iter().copied())
}

fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|byte| matches!(byte, b'/' | b'\\' | b';')).any(|part| matches!(part, b"." | b".."))
}

fn is_suspicious(path: &str) -> bool {
    path.contains('\\') || has_encoded_separator(path) || path.split('/').any(is_dot_segment)
}

fn has_encoded_separator(path: &str) -> bool {
    let escape = |part: &str| {
        part.get(..2).is_some_and(|hex| ["2e", "2f", "5c"].iter().any(|bad| hex.eq_ignore_ascii_case(bad)))
    };
    path.split('%').skip(1).any(escape)
}

/// Some servers (servlet containers) drop `;parameters` before they resolve dot segments.
fn is_dot_segment(segment: &str) -> bool {
    matches!(segment.split(';').next(), Some("." | ".."))
}

/// The characters of a path in RFC 3986.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte)
}

fn has_broken_escape(path: &str) -> bool {
    path.split('%')
        .skip(1)
        .any(|part| part.len() < 2 || !part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

/// Bytes of a path in one spelling, without a buffer. A broken escape passes unchanged.
struct Normalized<'a> {
    bytes: Peekable<Bytes<'a>>,
    /// The two digits of an escape that stays one.
    pending: [Option<u8>; 2],
}

impl<'a> Normalized<'a> {
    fn new(path: &'a str) -> Self {
        Normalized { bytes: path.bytes().peekable(), pending: [None; 2] }
    }

    fn digit(&mut self) -> Option<u8> {
        self.bytes.next_if(u8::is_ascii_hexdigit)
    }
}

impl Iterator for Normalized<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if let Some(byte) = self.pending[0].take() {
            self.pending.swap(0, 1);
            return Some(byte);
        }
        let byte = self.bytes.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let digits = [self.digit(), self.digit()];
        match decoded(digits) {
            Some(plain) if plain.is_ascii_alphanumeric() || b"-_~".contains(&plain) => Some(plain),
            _ => {
                self.pending = digits.map(|digit| digit.map(|digit| digit.to_ascii_uppercase()));
                Some(byte)
            }
        }
    }
}

fn decoded([high, low]: [Option<u8>; 2]) -> Option<u8> {
    let value = |digit: Option<u8>| char::from(digit?).to_digit(16);
    u8::try_from(value(high)? * 16 + value(low)?).ok()
}
