//! Tables of addresses, paths and authorities.

use super::PathMatch::{Inside, Outside, Suspicious};
use super::*;

#[test]
fn addresses_are_read_in_one_spelling() {
    for (url, origin, authority, prefix) in [
        ("https://10.0.0.1:6443", "https://10.0.0.1:6443", "10.0.0.1:6443", ""),
        ("https://kube.example.com", "https://kube.example.com:443", "kube.example.com", ""),
        ("https://kube.example.com:443/", "https://kube.example.com:443", "kube.example.com", ""),
        ("https://kube.example.com:0443", "https://kube.example.com:443", "kube.example.com", ""),
        ("http://kube.example.com", "http://kube.example.com:80", "kube.example.com", ""),
        ("http://kube.example.com:443", "http://kube.example.com:443", "kube.example.com:443", ""),
        ("HTTPS://Kube.Example.COM.:6443", "https://kube.example.com:6443", "kube.example.com:6443", ""),
        ("https://platform/kubernetes/global", "https://platform:443", "platform", "/kubernetes/global"),
        ("https://platform/kubernetes/global/", "https://platform:443", "platform", "/kubernetes/global"),
        ("https://platform/Case/Stays", "https://platform:443", "platform", "/Case/Stays"),
        ("https://platform/%41%7e%2d/%7b", "https://platform:443", "platform", "/A~-/%7B"),
        ("https://platform//", "https://platform:443", "platform", ""),
        ("https://[2001:DB8:0::1]:6443/a", "https://[2001:db8::1]:6443", "[2001:db8::1]:6443", "/a"),
        ("https://[::1]", "https://[::1]:443", "[::1]", ""),
        ("http://my_service.ns.svc:8080", "http://my_service.ns.svc:8080", "my_service.ns.svc:8080", ""),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example:443", "xn--bcher-kva.example", ""),
        ("https://1password.example.c0m", "https://1password.example.c0m:443", "1password.example.c0m", ""),
    ] {
        let target = Target::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(
            (target.origin(), target.authority(), target.prefix),
            (origin.into(), authority.into(), prefix.into()),
            "{url}"
        );
    }
}

#[test]
fn addresses_that_could_mean_two_things_are_refused() {
    for (url, error) in [
        ("", TargetError::Scheme),
        ("kube.example.com", TargetError::Scheme),
        ("//kube.example.com", TargetError::Scheme),
        ("ftp://kube.example.com", TargetError::Scheme),
        (" https://kube.example.com", TargetError::Scheme),
        ("https:/kube.example.com", TargetError::Scheme),
        ("https://", TargetError::NoHost),
        ("https:///path", TargetError::NoHost),
        ("https://:443", TargetError::NoHost),
        ("https://user@host", TargetError::UserInfo),
        ("https://user:password@host", TargetError::UserInfo),
        ("https://host?x=1", TargetError::QueryOrFragment),
        ("https://host/#x", TargetError::QueryOrFragment),
        ("https://host:0", TargetError::BadPort),
        ("https://host:65536", TargetError::BadPort),
        ("https://host:", TargetError::BadPort),
        ("https://host:+443", TargetError::BadPort),
        ("https://host:https", TargetError::BadPort),
        ("https://host:1:2", TargetError::BadPort),
        ("https://bücher.example", TargetError::NotAscii),
        ("https://host\\.evil", TargetError::BadHost),
        ("https://ho st", TargetError::BadHost),
        ("https://h%6fst", TargetError::BadHost),
        ("https://a..b", TargetError::BadHost),
        ("https://.", TargetError::BadHost),
        ("https://host..", TargetError::BadHost),
        ("https://*.example.com", TargetError::BadHost),
        ("https://127.1", TargetError::BadHost),
        ("https://0x7f000001", TargetError::BadHost),
        ("https://2130706433", TargetError::BadHost),
        ("https://010.0.0.1", TargetError::BadHost),
        ("https://1.2.3.4.5", TargetError::BadHost),
        ("https://2001:db8::1", TargetError::BadPort),
        ("https://[::1", TargetError::BadHost),
        ("https://[::1]x", TargetError::BadHost),
        ("https://[fe80::1%25eth0]", TargetError::BadHost),
        ("https://[10.0.0.1]", TargetError::BadHost),
        ("https://host/a/../b", TargetError::SuspiciousPath),
        ("https://host/./a", TargetError::SuspiciousPath),
        ("https://host/a%2Fb", TargetError::SuspiciousPath),
        ("https://host/%2e%2E/b", TargetError::SuspiciousPath),
        ("https://host/a\\b", TargetError::SuspiciousPath),
        ("https://host/a b", TargetError::BadPath),
        ("https://host/a%4", TargetError::BadPath),
        ("https://host/a%zz", TargetError::BadPath),
        ("https://host/ü", TargetError::BadPath),
    ] {
        assert_eq!(Target::parse(url), Err(error), "{url}");
    }
    assert_eq!(Target::parse(&format!("https://{}", "a".repeat(MAX_LENGTH))), Err(TargetError::TooLong));
    assert_eq!(Target::parse(&format!("https://{}", "a".repeat(64))), Err(TargetError::BadHost));
}

#[test]
fn a_prefix_ends_on_a_segment_border() {
    let target = Target::parse("https://platform/kubernetes/global").expect("valid");
    for (path, expected) in [
        ("/kubernetes/global", Inside),
        ("/kubernetes/global/", Inside),
        ("/kubernetes/global?watch=true", Inside),
        ("/kubernetes/global/api/v1/pods?limit=1", Inside),
        ("/kubernetes/global//api", Inside),
        ("/%6bubernetes/globa%6C/api", Inside),
        ("/kubernetes/global/api%20v1", Inside),
        ("/kubernetes/global/a..b/...", Inside),
        ("/kubernetes/global?x=/../..%2f", Inside),
        ("/kubernetes/globally", Outside),
        ("/kubernetes/globa", Outside),
        ("/kubernetes/global%20", Outside),
        ("/Kubernetes/global", Outside),
        ("//kubernetes/global", Outside),
        ("/kubernetes//global", Outside),
        ("kubernetes/global", Outside),
        ("/", Outside),
        ("", Outside),
        ("*", Outside),
        ("/api?/kubernetes/global", Outside),
        ("/kubernetes/global/../other", Suspicious),
        ("/kubernetes/global/..", Suspicious),
        ("/kubernetes/global/.", Suspicious),
        ("/kubernetes/./global", Suspicious),
        ("/../kubernetes/global", Suspicious),
        ("/kubernetes/global/..;x=1/other", Suspicious),
        ("/kubernetes/global/%2e%2e/other", Suspicious),
        ("/kubernetes/global/%2E./other", Suspicious),
        ("/kubernetes/global/..%2fother", Suspicious),
        ("/kubernetes/global/..%5Cother", Suspicious),
        ("/kubernetes/global/..\\other", Suspicious),
        ("/kubernetes/global/%252e%252e/x", Suspicious),
        ("/kubernetes/global/%2525252e%2525252e/x", Suspicious),
        ("/kubernetes/global/a%25252525/x", Suspicious),
        ("/kubernetes/global/a;/../x", Suspicious),
        ("/kubernetes/global/a;..", Suspicious),
        ("/kubernetes/global/group%2F..%2Fname", Suspicious),
        ("/kubernetes/global/v1%2Eyaml", Inside),
        ("/kubernetes/global/projects/group%2Fname", Inside),
        ("/kubernetes/global/projects/group%252Fname", Inside),
        ("/kubernetes/global/a%5Cb\\c;d=1", Inside),
        ("/kubernetes%2Fglobal/a", Outside),
        ("/kubernetes/global%2Fa", Outside),
    ] {
        assert_eq!(target.covers(path), expected, "{path}");
    }
}

#[test]
fn other_escapes_match_in_either_case() {
    let target = Target::parse("https://platform/a%7bb").expect("valid");
    for (path, expected) in [
        ("/a%7Bb/x", Inside),
        ("/a%7bb", Inside),
        ("/a{b", Outside),
        ("/a%7b", Outside),
        ("/a%7", Outside),
        ("/a%", Outside),
    ] {
        assert_eq!(target.covers(path), expected, "{path}");
    }
}

#[test]
fn a_target_without_prefix_leaves_paths_to_the_target() {
    let target = Target::parse("https://platform").expect("valid");
    for path in ["/", "/api/../x", "/projects/a%2Fb", "*", "/a\\b"] {
        assert_eq!(target.covers(path), Inside, "{path}");
    }
}

#[test]
fn authorities_compare_without_regard_to_spelling() {
    for (text, host, port, same) in [
        ("host", "host", 443, true),
        ("host:443", "host", 443, true),
        ("Host.:443", "host", 443, true),
        ("host:443", "HOST.", 443, true),
        ("host:6443", "host", 443, false),
        ("host", "host", 6443, false),
        ("host.evil", "host", 443, false),
        ("[::1]:443", "::1", 443, true),
        ("[0:0:0::1]", "[::1]", 443, true),
        ("[::1]", "::2", 443, false),
        ("10.0.0.1:443", "10.0.0.1", 443, true),
    ] {
        let authority = Authority::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(authority.is(host, port, 443), same, "{text} {host}:{port}");
    }
}

#[test]
fn malformed_authorities_are_refused() {
    for text in [
        "",
        ":443",
        "user@host:443",
        "host:",
        "host:x",
        "host:443:443",
        "::1",
        "[::1",
        "[::1]443",
        "host/path",
        "ho\tst",
        "a,b",
        "ü:443",
    ] {
        assert!(Authority::parse(text).is_err(), "{text:?}");
    }
}
