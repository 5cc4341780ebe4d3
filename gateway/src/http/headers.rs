//! What happens to each header field on its way, in one table. `relay` applies it to every request and
//! response, whichever protocol the legs speak; the credential is added here and nowhere else.

use std::net::IpAddr;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, Result};

/// What becomes of a field of a request on its way to the target: why it is dropped, or none if it passes.
/// Names are in lower case. `impersonation`: the connector lets its users speak as others.
fn dropped(name: &str, impersonation: bool) -> Option<&'static str> {
    match name {
        "authorization" => Some("the client's own goes nowhere: the connector's credential takes its place"),
        "audit-id" => Some("ours says who did it: a client must not write into another's trail"),
        "forwarded" | "x-real-ip" => {
            Some("says where a request came from: only we know (upstream.forwarded)")
        }
        _ if of_one_connection(name) => {
            Some("of one connection (RFC 9110, 7.6.1): an upgrade gets its own two by `set_upgrade`")
        }
        _ if name.starts_with("x-forwarded-") => Some("as x-real-ip"),
        _ if name.starts_with("proxy-") => Some("meant for the gateway: the login is in there"),
        _ if name.starts_with("x-remote-") => {
            Some("request-header authentication of the API server: who sets it is somebody else")
        }
        _ if name.starts_with(IMPERSONATE) && !impersonation => Some(
            "impersonation: the credential's rights are not the client's. `request` refuses it; a trailer is left",
        ),
        _ => None,
    }
}

/// The only value of a field that must not come twice; `twice` says so.
pub fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    twice: &'static str,
) -> Result<Option<&'a HeaderValue>> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Error::Malformed(twice)),
        (value, None) => Ok(value),
    }
}

/// Prefix of the fields by which a client speaks as somebody else (kubectl --as).
const IMPERSONATE: &str = "impersonate-";

/// Whom the client speaks as: `user`, `group`, `uid` or `extra-…`, and the name. To be asked of its fields as
/// they came, before `Connection` takes any of them away.
pub fn speaks_as(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().strip_prefix(IMPERSONATE)?, value.as_bytes())))
}

/// CGI and its heirs (WSGI, PHP) read `X_Remote_User` as they read `X-Remote-User`.
fn deceives(name: &str) -> bool {
    name.contains('_') && {
        let dashed = name.replace('_', "-");
        dashed == "content-length" || dropped(&dashed, false).is_some()
    }
}

/// Never passed on, in either direction.
fn of_one_connection(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
            | "te"
            | "keep-alive"
            | "http2-settings"
    )
}

/// Subprotocol by which browsers carry a bearer token in a WebSocket.
const BEARER_SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// The one value of `TE` that HTTP/2 knows too.
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Must not be nominated by `Connection`: the message would change its meaning for the target.
const NEVER_NOMINATED: [HeaderName; 2] = [header::HOST, header::CONTENT_LENGTH];

/// Which installations of this gateway a request has passed: an id of each, so that one that comes back is
/// known.
const HOPS: HeaderName = HeaderName::from_static("connectors-gateway-hops");
/// More gateways behind each other than anybody wants.
const MAX_HOPS: usize = 8;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Protocols that a client may change to: those of exec, attach, cp and port-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    WebSocket,
    Spdy,
}

impl Protocol {
    const ALL: [Protocol; 2] = [Protocol::WebSocket, Protocol::Spdy];

    /// As it stands in `Upgrade`; compared without case.
    pub fn token(self) -> &'static str {
        match self {
            Protocol::WebSocket => "websocket",
            Protocol::Spdy => "SPDY/3.1",
        }
    }
}

/// The protocol that a request asks to change to. A wish for `h2c` is overlooked, as RFC 9110, 7.8 allows and
/// Java's client expects on its first request; any other protocol, or a choice of several, is refused: the
/// client would wait for what cannot come.
pub fn upgrade(headers: &HeaderMap) -> Result<Option<Protocol>> {
    if !connection_has(headers, "upgrade") {
        return Ok(None);
    }
    let mut wishes = tokens(headers, header::UPGRADE);
    wishes.retain(|wish| !wish.eq_ignore_ascii_case("h2c"));
    match wishes.as_slice() {
        [] => Ok(None),
        [wish] => {
            match Protocol::ALL.into_iter().find(|protocol| protocol.token().eq_ignore_ascii_case(wish)) {
                Some(protocol) => Ok(Some(protocol)),
                None => Err(Error::Upgrade(wish.clone())),
            }
        }
        _ => Err(Error::Upgrade(wishes.join(", "))),
    }
}

/// The fields that change the protocol of one connection. After `toward_target` or `toward_client`, which
/// drop those of the other.
pub fn set_upgrade(headers: &mut HeaderMap, protocol: Protocol) {
    headers.remove(header::TE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol.token()));
}

/// Turns the client's fields into those for an HTTP/1.1 target, except framing and `Host`, which belong to
/// the leg. `ours` is the connector's credential. `TE: trailers` is true of us if it is of the client, and
/// said again.
pub fn toward_target(headers: &mut HeaderMap, ours: Option<&HeaderValue>, impersonation: bool) -> Result<()> {
    let trailers = takes_trailers(headers);
    drop_nominated(headers)?;
    drop_all(headers, |name| deceives(name) || dropped(name, impersonation).is_some());
    if trailers {
        headers.insert(header::TE, TRAILERS);
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    drop_bearer_subprotocols(headers);
    set_credential(headers, ours);
    Ok(())
}

/// By which the target's audit log and our record of a request are found in each other.
pub fn set_audit_id(headers: &mut HeaderMap, id: HeaderValue) {
    headers.insert(AUDIT_ID, id);
}

/// The target's own id of a request, on its way to a client.
pub fn audit_id_once(headers: &mut HeaderMap) {
    if let Some(id) = headers.get_mut(AUDIT_ID) {
        comes_once(id);
    }
}

/// Of a value that no other message has. HTTP/2's encoder would keep each in its table, in place of what comes again,
/// and look through all of them for the next: a twentieth of a small request's instructions (callgrind).
pub fn comes_once(value: &mut HeaderValue) {
    value.set_sensitive(true);
}

/// Adds us to the gateways that a request has passed; refuses one that has been here. `installation`: our id.
pub fn pass_hop(headers: &mut HeaderMap, installation: &HeaderValue) -> Result<()> {
    if headers.contains_key(HOPS) {
        let hops = tokens(headers, HOPS);
        if hops.len() >= MAX_HOPS || hops.iter().any(|hop| hop.as_bytes() == installation.as_bytes()) {
            return Err(Error::Loop);
        }
    }
    headers.append(HOPS, installation.clone());
    Ok(())
}

/// Tells the target where a request came from (`upstream.forwarded`): the client's address, the scheme and
/// host that it named.
pub fn set_forwarded(headers: &mut HeaderMap, client: Option<IpAddr>, scheme: &'static str, host: &str) {
    if let Some(client) = client.and_then(|client| HeaderValue::try_from(client.to_string()).ok()) {
        headers.insert(HeaderName::from_static("x-forwarded-for"), client);
    }
    headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static(scheme));
    if let Ok(host) = HeaderValue::try_from(host) {
        headers.insert(HeaderName::from_static("x-forwarded-host"), host);
    }
}

/// The one place where a credential gets into a request.
pub fn set_credential(headers: &mut HeaderMap, ours: Option<&HeaderValue>) {
    match ours {
        Some(authorization) => headers.insert(header::AUTHORIZATION, authorization.clone()),
        None => headers.remove(header::AUTHORIZATION),
    };
}

/// The rest of the way to an HTTP/2 target, which knows no `Connection`.
pub fn toward_h2(headers: &mut HeaderMap) {
    headers.remove(header::CONNECTION);
    // Streams do without: the gateway itself has said 100 Continue.
    headers.remove(header::EXPECT);
}

/// HTTP/2 may split `Cookie` into several fields, HTTP/1.1 may not (RFC 9113, 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, cookie);
    }
}

/// Turns the target's fields into those for the client, except framing.
pub fn toward_client(status: StatusCode, headers: &mut HeaderMap) {
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        // No body follows, whatever the target says of one (RFC 9110, 8.6): a client that believed it would
        // wait, or read another answer.
        headers.remove(header::CONTENT_LENGTH);
    }
    // A target that nominates nonsense harms only its own answer.
    let _ = drop_nominated(headers);
    drop_all(headers, of_one_connection);
    headers.remove(header::PROXY_AUTHENTICATE);
}

/// Trailers may carry neither framing, nor routing, nor identities (RFC 9110, 6.5.1).
pub fn trailers(headers: &mut HeaderMap) {
    drop_all(headers, |name| deceives(name) || dropped(name, false).is_some());
    for name in [header::HOST, header::CONTENT_LENGTH, header::TRAILER, header::SET_COOKIE] {
        headers.remove(name);
    }
}

fn drop_all(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whatever `Connection` names is of this connection only.
fn drop_nominated(headers: &mut HeaderMap) -> Result<()> {
    if !headers.contains_key(header::CONNECTION) {
        return Ok(());
    }
    for name in tokens(headers, header::CONNECTION) {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Error::Malformed("a Connection header names no header field"))?;
        if NEVER_NOMINATED.contains(&name) {
            return Err(Error::Malformed("a Connection header names Host or Content-Length"));
        }
        // Without it the request would act with all the credential's rights.
        if name.as_str().starts_with(IMPERSONATE) {
            return Err(Error::Malformed("a Connection header names an Impersonate field"));
        }
        headers.remove(name);
    }
    Ok(())
}

fn drop_bearer_subprotocols(headers: &mut HeaderMap) {
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return;
    }
    let kept: Vec<String> = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL)
        .into_iter()
        .filter(|token| !token.starts_with(BEARER_SUBPROTOCOL))
        .collect();
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let (false, Ok(value)) = (kept.is_empty(), HeaderValue::from_str(&kept.join(", "))) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// The comma separated tokens of all lines of a field. Owned, because the callers change the map.
fn tokens(headers: &HeaderMap, name: HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether the client says that it takes trailers. gRPC servers insist on it.
fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TE)
        && tokens(headers, header::TE).iter().any(|token| token.eq_ignore_ascii_case("trailers"))
}

/// Whether `Connection` holds this token, in any case.
pub fn connection_has(headers: &HeaderMap, token: &str) -> bool {
    let lines = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_targets_audit_id_takes_no_place_in_the_table_of_http2() {
        let mut headers = HeaderMap::from_iter([
            (AUDIT_ID, HeaderValue::from_static("1")),
            (header::DATE, HeaderValue::from_static("today")),
        ]);
        audit_id_once(&mut headers);
        assert!(headers[AUDIT_ID].is_sensitive() && !headers[header::DATE].is_sensitive());
    }

    #[test]
    fn nothing_that_speaks_for_someone_else_reaches_the_target() {
        let mut headers = map(&[
            ("accept", "*/*"),
            ("authorization", "Bearer fake-token"),
            ("impersonate-user", "admin"),
            ("impersonate-extra-scopes", "all"),
            ("x-remote-user", "admin"),
            ("x-remote-group", "system:masters"),
            ("x_remote_user", "admin"),
            ("impersonate_user", "admin"),
            ("transfer_encoding", "chunked"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-connection", "keep-alive"),
            ("audit-id", "somebody-elses"),
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-custom", "stays"),
        ]);
        toward_target(&mut headers, Some(&HeaderValue::from_static("Bearer ours")), false).unwrap();
        assert_eq!(names(&headers), ["accept", "authorization", "x-custom"]);
        assert_eq!(headers[header::AUTHORIZATION], "Bearer ours");
    }

    #[test]
    fn impersonation_is_the_connectors_to_allow() {
        let mut headers =
            map(&[("impersonate-user", "jane"), ("impersonate-group", "dev"), ("x-remote-user", "admin")]);
        toward_target(&mut headers, None, true).unwrap();
        assert_eq!(names(&headers), ["impersonate-group", "impersonate-user"]);
    }

    #[test]
    fn what_connection_nominates_is_dropped_with_the_hop_by_hop_fields() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("te", "gzip"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ]);
        toward_target(&mut headers, None, false).unwrap();
        assert_eq!(names(&headers), ["accept"]);
    }

    #[test]
    fn a_client_that_takes_trailers_makes_a_gateway_that_takes_trailers() {
        for (te, said) in
            [("trailers", true), ("gzip;q=0.5, Trailers", true), ("gzip", false), ("trailers2", false)]
        {
            let mut headers = map(&[("te", te), ("connection", "TE, x-secret"), ("x-secret", "1")]);
            toward_target(&mut headers, None, false).unwrap();
            assert_eq!(names(&headers), if said { ["connection", "te"].as_slice() } else { &[] }, "{te}");
            assert!(
                !said || headers[header::TE] == "trailers" && headers[header::CONNECTION] == "te",
                "{te}"
            );
            toward_h2(&mut headers);
            assert_eq!(names(&headers), if said { ["te"].as_slice() } else { &[] }, "{te}");
        }
    }

    #[test]
    fn connection_may_not_nominate_what_frames_or_routes_the_message() {
        for value in ["host", "Content-Length", "a b"] {
            let mut headers = map(&[("connection", value)]);
            assert!(toward_target(&mut headers, None, false).is_err(), "{value}");
        }
    }

    #[test]
    fn an_upgrade_is_one_wish_for_a_protocol_that_kubernetes_speaks() {
        for (connection, wish, expected) in [
            ("Upgrade", "websocket", Some(Some(Protocol::WebSocket))),
            ("keep-alive, upgrade", "WebSocket", Some(Some(Protocol::WebSocket))),
            ("Upgrade", "SPDY/3.1", Some(Some(Protocol::Spdy))),
            ("Upgrade", "spdy/3.1", Some(Some(Protocol::Spdy))),
            ("Upgrade", "h2c", Some(None)),
            ("Upgrade, HTTP2-Settings", "h2c", Some(None)),
            ("Upgrade", "", Some(None)),
            ("keep-alive", "websocket", Some(None)),
            ("Upgrade", "h2c, websocket", Some(Some(Protocol::WebSocket))),
            ("Upgrade", "websocket, SPDY/3.1", None),
            ("Upgrade", "SPDY/3", None),
            ("Upgrade", "websocket/13", None),
            ("Upgrade", "TLS/1.3", None),
        ] {
            let asked = upgrade(&map(&[("connection", connection), ("upgrade", wish)])).ok();
            assert_eq!(asked, expected, "{connection}: {wish}");
        }
    }

    #[test]
    fn the_fields_of_an_upgrade_are_ours() {
        let mut headers = map(&[
            ("connection", "Upgrade, X-Secret"),
            ("upgrade", "websocket"),
            ("x-secret", "1"),
            ("te", "trailers"),
        ]);
        toward_target(&mut headers, None, false).unwrap();
        set_upgrade(&mut headers, Protocol::WebSocket);
        assert_eq!(names(&headers), ["connection", "upgrade"]);
        assert_eq!(
            (&headers[header::CONNECTION], &headers[header::UPGRADE]),
            (&"Upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
    }

    #[test]
    fn a_bearer_token_among_subprotocols_is_taken_out() {
        let mut headers = map(&[(
            "sec-websocket-protocol",
            "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0, v4.channel.k8s.io",
        )]);
        toward_target(&mut headers, None, false).unwrap();
        assert_eq!(headers[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io, v4.channel.k8s.io");
    }
}
