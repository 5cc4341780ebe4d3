//! URLs as Go's `net/url` reads them: nothing is normalized, so a default port stays where it was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;
use percent_encoding::percent_decode_str;

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
        ("userinfo", parts.user_info.to_owned()),
    ];
    Ok(Value::Map(Arc::new(
        fields.into_iter().map(|(key, value)| (Arc::from(key), text(value))).collect::<BTreeMap<_, _>>(),
    )))
}

fn url_join(args: Args<'_>) -> Result<Value> {
    let fields = args.map(0)?;
    let part = |key: &str, before: &str, after: &str| match fields.get(key).and_then(Value::as_str) {
        Some(value) if !value.is_empty() => format!("{before}{value}{after}"),
        _ => String::new(),
    };
    let (scheme, user, host) = (part("scheme", "", ":"), part("userinfo", "", "@"), part("host", "", ""));
    let authority = if host.is_empty() { host } else { format!("//{user}{host}") };
    let path = part("path", "", "");
    let slash = if !authority.is_empty() && !path.is_empty() && !path.starts_with('/') { "/" } else { "" };
    Ok(text(format!(
        "{scheme}{authority}{slash}{path}{}{}",
        part("query", "?", ""),
        part("fragment", "#", "")
    )))
}

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
        if url.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return None;
        }
        let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
        let (scheme, rest) = scheme(rest)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !scheme.is_empty() && !rest.starts_with('/') {
            return Some(Parts { scheme, opaque: rest, query, fragment, ..Parts::default() });
        }
        let Some(authority) = rest.strip_prefix("//") else {
            return Some(Parts { scheme, path: rest, query, fragment, ..Parts::default() });
        };
        let (authority, path) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
        let (user_info, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        has_valid_port(host).then_some(Parts { scheme, opaque: "", user_info, host, path, query, fragment })
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

fn has_valid_port(host: &str) -> bool {
    let after = match host.starts_with('[') {
        true => host.rfind(']').map(|at| &host[at + 1..]),
        false => Some(host.find(':').map_or("", |at| &host[at..])),
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

fn unescape(part: &str) -> Result<String> {
    percent_decode_str(part)
        .decode_utf8()
        .map(String::from)
        .map_err(|_| error("an escape of the URL is not text"))
}
