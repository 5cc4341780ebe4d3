//! What a target's answer points to, as a client in reverse mode can find it: `Location`, `Content-Location`
//! and cookies. `reverse` says how the client came, `relay` applies it to the answer. In a tunnel nothing is
//! changed: client and target use the same names there.

use connectors_api::target::{Authority, PathMatch, Target, default_port};
use http::header::{self, HeaderMap, HeaderValue};

/// How the client came, and so how it comes back.
#[derive(Debug)]
pub struct Rewrite {
    /// `https://host`, as the client named it.
    pub origin: String,
    /// `/namespaces/…/connectors/…` if the path named the connector, else empty.
    pub mount: String,
    /// The client's paths are without the prefix of the connector's address.
    pub added: bool,
    /// The client's leg is TLS.
    pub secure: bool,
}

impl Rewrite {
    /// Changes an answer of `target`, the connector's address.
    pub fn apply(&self, headers: &mut HeaderMap, target: &Target) {
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            let url = headers
                .get(&name)
                .and_then(|value| value.to_str().ok())
                .and_then(|url| self.url(url, target));
            if let Some(url) = url.and_then(|url| HeaderValue::try_from(url).ok()) {
                headers.insert(name, url);
            }
        }
        if !headers.contains_key(header::SET_COOKIE) {
            return;
        }
        let cookies: Vec<HeaderValue> =
            headers.get_all(header::SET_COOKIE).iter().map(|cookie| self.cookie(cookie, target)).collect();
        headers.remove(header::SET_COOKIE);
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie);
        }
    }

    /// None: it stays as it is, because it is relative, or leads elsewhere.
    fn url(&self, url: &str, target: &Target) -> Option<String> {
        if url.starts_with('/') && !url.starts_with("//") {
            return Some(self.path(url, target));
        }
        let own = if target.tls { "https:" } else { "http:" };
        let rest = match url.split_once("//")? {
            ("", rest) => rest,
            (scheme, rest) if scheme.eq_ignore_ascii_case(own) => rest,
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let same = Authority::parse(authority)
            .is_ok_and(|authority| authority.is(&target.host, target.port, default_port(target.tls)));
        let slash = if path.starts_with('/') { "" } else { "/" };
        same.then(|| format!("{}{}", self.origin, self.path(&format!("{slash}{path}"), target)))
    }

    /// The path by which the client finds a path of the target.
    fn path(&self, path: &str, target: &Target) -> String {
        let short = match self.added && target.covers(path) == PathMatch::Inside {
            true => path.strip_prefix(target.prefix.as_str()).unwrap_or(path),
            false => path,
        };
        let slash = if short.starts_with('/') { "" } else { "/" };
        format!("{}{slash}{short}", self.mount)
    }

    /// A cookie for the target's host becomes one for the host that the client knows; one for TLS only would
    /// be lost on a plain leg.
    fn cookie(&self, cookie: &HeaderValue, target: &Target) -> HeaderValue {
        let Ok(text) = cookie.to_str() else { return cookie.clone() };
        let mut parts = text.split(';');
        let mut changed = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name.trim() {
                name if name.eq_ignore_ascii_case("domain") => {}
                name if name.eq_ignore_ascii_case("secure") && !self.secure => {}
                name if name.eq_ignore_ascii_case("path") && value.trim().starts_with('/') => {
                    changed.push_str("; Path=");
                    changed.push_str(&self.path(value.trim(), target));
                }
                _ => {
                    changed.push(';');
                    changed.push_str(part);
                }
            }
        }
        HeaderValue::try_from(changed).unwrap_or_else(|_| cookie.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_host(added: bool) -> Rewrite {
        Rewrite { origin: "http://c-git.demo.svc".to_owned(), mount: String::new(), added, secure: false }
    }

    fn by_path(added: bool) -> Rewrite {
        Rewrite {
            origin: "https://gateway".to_owned(),
            mount: "/namespaces/demo/connectors/git".to_owned(),
            added,
            secure: true,
        }
    }

    #[test]
    fn a_redirect_leads_back_to_the_gateway_if_it_leads_to_the_connector() {
        let target = Target::parse("https://git.example.com/base").unwrap();
        for (rewrite, location, expected) in [
            (by_host(false), "https://git.example.com/base/a?x=1", "http://c-git.demo.svc/base/a?x=1"),
            (by_host(true), "https://git.example.com:443/base/a?x=1", "http://c-git.demo.svc/a?x=1"),
            (by_host(true), "https://git.example.com/base", "http://c-git.demo.svc/"),
            (by_host(true), "//GIT.example.com/base/a", "http://c-git.demo.svc/a"),
            (by_host(true), "/base/a", "/a"),
            (by_host(false), "/base/a", "/base/a"),
            (by_host(true), "a/b", "a/b"),
            (by_host(true), "https://other.example.com/base/a", "https://other.example.com/base/a"),
            (by_host(true), "http://git.example.com/base/a", "http://git.example.com/base/a"),
            (by_host(true), "https://git.example.com:444/base/a", "https://git.example.com:444/base/a"),
            (
                by_path(true),
                "https://git.example.com/base/a",
                "https://gateway/namespaces/demo/connectors/git/a",
            ),
            (by_path(true), "/base/a", "/namespaces/demo/connectors/git/a"),
            (by_path(false), "/base/a", "/namespaces/demo/connectors/git/base/a"),
            (
                by_path(true),
                "https://git.example.com?x=1",
                "https://gateway/namespaces/demo/connectors/git/?x=1",
            ),
        ] {
            let mut headers = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_static(location))]);
            rewrite.apply(&mut headers, &target);
            assert_eq!(headers[header::LOCATION], expected, "{location} {rewrite:?}");
        }
    }

    #[test]
    fn a_cookie_comes_back_to_where_the_client_got_it() {
        let target = Target::parse("https://git.example.com/base").unwrap();
        for (rewrite, cookie, expected) in [
            (
                by_host(true),
                "a=1; Domain=git.example.com; Path=/base; Secure; HttpOnly",
                "a=1; Path=/; HttpOnly",
            ),
            (by_host(false), "a=1; path=/base/x", "a=1; Path=/base/x"),
            (by_path(true), "a=1; Path=/; Secure", "a=1; Path=/namespaces/demo/connectors/git/; Secure"),
            (by_path(true), "a=b=c; Max-Age=5", "a=b=c; Max-Age=5"),
            (by_path(true), "a=1", "a=1"),
        ] {
            let mut headers = HeaderMap::from_iter([(header::SET_COOKIE, HeaderValue::from_static(cookie))]);
            headers.append(header::SET_COOKIE, HeaderValue::from_static("second=2"));
            rewrite.apply(&mut headers, &target);
            let cookies: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
            assert_eq!(cookies, [expected, "second=2"], "{cookie} {rewrite:?}");
        }
    }
}
