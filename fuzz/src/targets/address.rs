//! Addresses of connectors, and whether a request's path lies under one: held against a second reader that
//! decodes and resolves a path in every way that a target might.

use connectors_api::target::{Authority, PathMatch, Target as Address};
use percent_encoding::percent_decode;

use super::{parts, text};
use crate::Target;

pub const TARGET: Target = Target {
    name: "address",
    run,
    words: &[
        "https://",
        "http://",
        "target.example",
        ":443",
        ":65535",
        "/",
        "/a/b",
        "..",
        "%2e",
        "%2F",
        "%5c",
        "%25",
        "\\",
        ";",
        "?",
        "#",
        "[::1]",
        "127.1",
        "0x7f.1",
        "@",
        "//",
        "%61",
        "%00",
        "\0/a/",
    ],
};

/// A target decodes more than once only if it is several programs in a row.
const ROUNDS: usize = 8;

fn run(data: &[u8]) {
    let (url, path) = parts(data);
    let (Some(url), Some(path)) = (text(url), text(path)) else { return };
    authority(url);
    let Ok(address) = Address::parse(url) else { return };
    let again = Address::parse(&format!("{}{}", address.origin(), address.prefix)).expect("our own spelling");
    assert_eq!(again, address, "an address with two spellings");
    let covers = address.covers(path);
    if address.prefix.is_empty() {
        return assert_eq!(covers, PathMatch::Inside);
    }
    if covers == PathMatch::Inside {
        let prefix = segments(address.prefix.as_bytes()).expect("an address does not climb");
        let mut read = path.as_bytes()[..path.find(['?', '#']).unwrap_or(path.len())].to_vec();
        for _ in 0..ROUNDS {
            let leads = segments(&read).expect("it climbs above the root");
            assert!(leads.starts_with(&prefix), "{path:?} is not under {:?}", address.prefix);
            read = percent_decode(&read).collect();
        }
    }
}

fn authority(text: &str) {
    let Ok(authority) = Authority::parse(text) else { return };
    let host = &authority.host;
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let again = Authority::parse(&bracketed).expect("our own spelling is one");
    assert_eq!(&again.host, host, "a host with two spellings");
    if let Ok(uri) = format!("https://{bracketed}/").parse::<http::Uri>() {
        assert_eq!(uri.host().map(|host| host.trim_matches(['[', ']'])), Some(host.as_str()));
    } else {
        panic!("{bracketed:?} is no host of a URL");
    }
}

/// Where a path leads: its segments, decoded for comparison, without parameters, dot segments resolved. None:
/// above the root.
fn segments(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut leads: Vec<Vec<u8>> = Vec::new();
    for part in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = part.split(|byte| *byte == b';').next().unwrap_or_default();
        match name {
            b"" | b"." => {}
            b".." => drop(leads.pop()?),
            _ => leads.push(percent_decode(name).collect()),
        }
    }
    Some(leads)
}
