//! URLs as Go's `net/url` reads them: nothing is normalized, so a default port stays where it was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::super::value::{Result, error, text};
use super::{Args, Entry};

pub const FUNCTIONS: &[Entry] = &[("urlParse", 1, 1, url_parse), ("urlJoin", 1, 1, url_join)];

fn url_parse(args: Args<'_>) -> Result<Value> {
    let parts = Parts::read(args.text(0)?).ok_or_else(|| error("the text is no URL"))?;
    let hostname = hostname(parts.host);
    let fields = [
        ("scheme", parts.scheme.to_ascii_lowercase()),
        ("host", parts.host.to_owned()),
        ("hostname", hostname.to_owned()),
        ("path", unescape(parts.path)?),
        ("query", parts.query.to_owned()),
        ("opaque", parts.opaque.to_owned()),
        ("fragment", unescape(parts.fragment)?),
        ("userinfo", encoded_user(parts.user_info)?),
    ];
    Ok(Value::Map(Arc::new(
        fields.into_iter().map(|(key, value)| (Arc::from(key), text(value))).collect::<BTreeMap<_, _>>(),
    )))
}

fn url_join(args: Args<'_>) -> Result<Value> {
    let fields = args.map(0)?;
    let part = |key: &str| match fields.get(key) {
        None => Ok(""),
        Some(Value::String(value)) => Ok(value.as_ref()),
        Some(_) => Err(error("a part of a URL must be a string")),
    };
    let (scheme, host, user, path) = (part("scheme")?, part("host")?, part("userinfo")?, part("path")?);
    let mut url = String::from(scheme);
    if !scheme.is_empty() {
        url.push(':');
    }
    match part("opaque")? {
        "" => {
            let empty = host.is_empty() && path.is_empty() && user.is_empty();
            let relative = scheme.is_empty() && host.is_empty() && user.is_empty();
            if !empty && !relative {
                url += "//";
            }
            if !user.is_empty() {
                url += &encoded_user(user)?;
                url.push('@');
            }
            url.extend(utf8_percent_encode(host, IN_HOST));
            join_path(&mut url, path, host);
        }
        opaque => url += opaque,
    }
    push_after(&mut url, '?', part("query")?);
    push_after(&mut url, '#', &utf8_percent_encode(part("fragment")?, IN_FRAGMENT).to_string());
    Ok(text(url))
}

fn join_path(url: &mut String, path: &str, host: &str) {
    if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
        url.push('/');
    }
    // What stands before a colon would be taken for a scheme.
    if url.is_empty() && path.split('/').next().is_some_and(|segment| segment.contains(':')) {
        url.push_str("./");
    }
    match path {
        "*" => url.push('*'),
        _ => url.extend(utf8_percent_encode(path, IN_PATH)),
    }
}

fn push_after(url: &mut String, mark: char, part: &str) {
    if !part.is_empty() {
        url.push(mark);
        url.push_str(part);
    }
}

/// Name and password, as they stand before the `@`.
fn encoded_user(written: &str) -> Result<String> {
    if !written.bytes().all(is_in_user) {
        return Err(error("the user of a URL has characters that must be escaped"));
    }
    let encode = |part: &str| unescape(part).map(|part| utf8_percent_encode(&part, IN_USER).to_string());
    match written.split_once(':') {
        Some((name, password)) => Ok(format!("{}:{}", encode(name)?, encode(password)?)),
        None => encode(written),
    }
}

/// What Go's `net/url` writes as it is, beside letters and digits.
const OTHERS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const IN_USER: &AsciiSet =
    &OTHERS.remove(b'$').remove(b'&').remove(b'+').remove(b',').remove(b';').remove(b'=');
const IN_PATH: &AsciiSet = &IN_USER.remove(b'/').remove(b':').remove(b'@');
const IN_FRAGMENT: &AsciiSet = &IN_PATH.remove(b'?').remove(b'!').remove(b'(').remove(b')').remove(b'*');
const IN_HOST: &AsciiSet = &IN_USER
    .remove(b'!')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b':')
    .remove(b'[')
    .remove(b']')
    .remove(b'<')
    .remove(b'>')
    .remove(b'"');

/// A URL cut into its parts, none of them decoded.
#[derive(Default)]
struct Parts<'a> {
    scheme: &'a str,
    opaque: &'a str,
    user_info: &'a str,
    host: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl<'a> Parts<'a> {
    fn read(url: &'a str) -> Option<Parts<'a>> {
        if url.bytes().any(|byte| byte.is_ascii_control()) {
            return None;
        }
        let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
        let (scheme, rest) = scheme(rest)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !scheme.is_empty() && !rest.starts_with('/') {
            return Some(Parts { scheme, opaque: rest, query, fragment, ..Parts::default() });
        }
        let bare = scheme.is_empty() && rest.starts_with("///");
        let Some(authority) = rest.strip_prefix("//").filter(|_| !bare) else {
            return Some(Parts { scheme, path: rest, query, fragment, ..Parts::default() });
        };
        let (authority, path) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
        let (user_info, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let plain = user_info.bytes().all(is_in_user) && host.bytes().all(is_in_host);
        (plain && has_valid_port(host)).then_some(Parts {
            scheme,
            opaque: "",
            user_info,
            host,
            path,
            query,
            fragment,
        })
    }
}

/// The scheme, if there is one; nothing for a URL that starts with `:` or has one in the first segment of a
/// relative path.
fn scheme(url: &str) -> Option<(&str, &str)> {
    let Some((scheme, rest)) = url.split_once(':') else { return Some(("", url)) };
    let mut bytes = scheme.bytes();
    let letter = bytes.next()?.is_ascii_alphabetic();
    if letter && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return Some((scheme, rest));
    }
    scheme.contains(['/', '?']).then_some(("", url))
}

fn is_in_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte)
}

/// Without `%`, which Go takes for what is not ASCII and for zones.
fn is_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"-._~!$&'()*+,;=:[]<>\"".contains(&byte)
}

fn has_valid_port(host: &str) -> bool {
    let after = match host.strip_prefix('[') {
        Some(literal) => literal
            .rsplit_once(']')
            .and_then(|(address, rest)| address.parse::<std::net::Ipv6Addr>().is_ok().then_some(rest)),
        None => Some(host.find(':').map_or("", |at| &host[at..])),
    };
    after.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn hostname(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, _)) => inner,
        None => host.split(':').next().unwrap_or(host),
    }
}

/// A `%` without two digits is an error.
fn unescape(part: &str) -> Result<String> {
    let escaped =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    if !part.split('%').skip(1).all(escaped) {
        return Err(error("the text is no URL"));
    }
    percent_decode_str(part)
        .decode_utf8()
        .map(String::from)
        .map_err(|_| error("an escape of the URL is not text"))
}
