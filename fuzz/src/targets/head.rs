//! Heads of HTTP/1.1, of requests and of answers: what is read does not depend on how it arrives, and what we
//! write of it is read as the same.

use bytes::BytesMut;
use connectors_gateway::http::request::parse_target;
use connectors_gateway::http::wire::{
    self, Framing, Persistence, RequestHead, ResponseHead, WireError, request_framing, response_framing,
};
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

use super::pieces;
use crate::Target;

pub const LIMIT: usize = 4096;

pub const TARGET: Target = Target {
    name: "head",
    run,
    words: &[
        "GET ",
        "HEAD ",
        "CONNECT ",
        " HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 204 \r\n",
        "\r\n",
        "\n",
        "Host: ",
        "Content-Length: ",
        "Transfer-Encoding: chunked\r\n",
        "Connection: ",
        "http://",
        "https://",
        "\0",
        "\x0b",
        "?",
        "#",
        "@",
        "%00",
    ],
};

/// Reads by `take`, all at once or piece by piece, and tells what is left behind the head.
pub fn read<H>(
    data: &[u8],
    take: impl Fn(&mut BytesMut, usize) -> Result<Option<H>, WireError>,
) -> (Result<Option<H>, WireError>, Result<Option<H>, WireError>) {
    let mut whole = BytesMut::from(data);
    let at_once = take(&mut whole, LIMIT);
    let mut buf = BytesMut::new();
    let mut in_pieces = Ok(None);
    for piece in pieces(data) {
        let seen = buf.len();
        buf.extend_from_slice(piece);
        if matches!(in_pieces, Ok(None)) && wire::may_be_complete(&buf, seen, LIMIT) {
            in_pieces = take(&mut buf, LIMIT);
        }
    }
    if matches!(at_once, Ok(Some(_))) {
        assert_eq!(whole, buf, "what is left depends on how it came");
    }
    (at_once, in_pieces)
}

fn run(data: &[u8]) {
    match read(data, wire::take_request) {
        (Ok(Some(one)), Ok(Some(other))) => {
            assert_eq!(parts_of(&one), parts_of(&other));
            request(one);
        }
        (one, other) => agree(one.map(|head| head.is_some()), other.map(|head| head.is_some())),
    }
    match read(data, wire::take_response) {
        (Ok(Some(one)), Ok(Some(other))) => {
            assert_eq!((one.status, one.minor, &one.headers), (other.status, other.minor, &other.headers));
            answer(&one);
        }
        (one, other) => agree(one.map(|head| head.is_some()), other.map(|head| head.is_some())),
    }
}

/// What is none in one way is none in the other. In pieces a mistake may show later, or the head be too long before.
pub fn agree(one: Result<bool, WireError>, other: Result<bool, WireError>) {
    assert_eq!(one == Ok(true), other == Ok(true), "{one:?} at once, {other:?} in pieces");
}

fn parts_of(head: &RequestHead) -> (&Method, &[u8], u8, &HeaderMap) {
    (&head.method, &head.target, head.minor, &head.headers)
}

fn clean(headers: &HeaderMap) {
    for (name, value) in headers {
        let bad = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
        assert!(!value.as_bytes().iter().any(bad), "{name} ends its line");
        assert!(!name.as_str().is_empty());
    }
}

fn request(head: RequestHead) {
    clean(&head.headers);
    let framing = request_framing(&head.headers, head.minor);
    let mut headers = head.headers;
    let Ok(whereto) = parse_target(head.target, &mut headers) else { return };
    assert!(whereto.path.as_str().starts_with('/') || whereto.path.as_str() == "*", "{}", whereto.path);
    assert!(!headers.contains_key(header::HOST));
    let Ok(framing) = framing else { return };
    headers.remove(header::TRANSFER_ENCODING);
    let mut wire = BytesMut::new();
    wire::put_request(&mut wire, &head.method, whereto.path.as_str(), "target.example", &headers, framing);
    let Ok(Some(mut again)) = wire::take_request(&mut wire, 4 * LIMIT) else {
        panic!("what we write is not read")
    };
    assert!(wire.is_empty(), "we wrote more than one head");
    assert_eq!(again.method, head.method);
    assert_eq!(request_framing(&again.headers, 1).unwrap(), framing);
    again.headers.remove(header::TRANSFER_ENCODING);
    let whereto_again = parse_target(again.target, &mut again.headers).unwrap();
    assert_eq!(whereto_again.authority, "target.example");
    assert_eq!(whereto_again.path.as_str(), whereto.path.as_str());
    assert_eq!(again.headers, headers);
}

fn answer(head: &ResponseHead) {
    clean(&head.headers);
    for method in [Method::GET, Method::HEAD] {
        let Ok(framing) = response_framing(head, &method) else { continue };
        let mut headers = head.headers.clone();
        headers.remove(header::TRANSFER_ENCODING);
        headers.remove(header::CONNECTION);
        let mut wire = BytesMut::new();
        wire::put_response(&mut wire, head.status, &headers, framing, Persistence::KeepAlive);
        let again = wire::take_response(&mut wire, 16 * LIMIT).unwrap().expect("what we write is read");
        assert!(wire.is_empty(), "we wrote more than one head");
        assert_eq!(again.status, head.status);
        if method == Method::GET && !ambiguous(head.status) && framing != Framing::None {
            assert_eq!(response_framing(&again, &method).unwrap(), framing);
        }
    }
}

/// Has no body, whatever its fields say.
fn ambiguous(status: StatusCode) -> bool {
    status.is_informational() || matches!(status.as_u16(), 204 | 304)
}
