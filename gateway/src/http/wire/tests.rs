//! Cases for the wire format: what is taken, what is refused, and that a body survives both ways.

use super::*;

fn request(text: &str) -> Result<Option<(RequestHead, Framing)>, WireError> {
    let mut buf = BytesMut::from(text);
    let Some(head) = take_request(&mut buf, 4096)? else { return Ok(None) };
    let framing = request_framing(&head.headers, head.minor)?;
    Ok(Some((head, framing)))
}

fn decode(decoder: &mut Decoder, wire: &[u8]) -> Result<(Vec<u8>, Option<HeaderMap>, bool), WireError> {
    // One byte at a time: every state must survive a pause at every place.
    let mut buf = BytesMut::new();
    let mut body = Vec::new();
    for byte in wire {
        buf.put_u8(*byte);
        while let Some(frame) = decoder.next(&mut buf)? {
            match frame {
                Frame::Data(data) => body.extend_from_slice(&data),
                Frame::Trailers(trailers) => return Ok((body, Some(trailers), true)),
                Frame::End => return Ok((body, None, true)),
            }
        }
    }
    Ok((body, None, false))
}

#[test]
fn a_head_that_comes_byte_by_byte_is_read_at_its_beginning_and_where_it_may_end() {
    for (head, reads) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        ("GET / HTTP/1.1\nHost: a\n\n", 2),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 2),
    ] {
        let tried = (0..head.len()).filter(|seen| may_be_complete(&head.as_bytes()[..seen + 1], *seen, 4096));
        let tried: Vec<usize> = tried.collect();
        assert_eq!((tried.len(), tried.last()), (reads, Some(&(head.len() - 1))), "{head:?}");
    }
    assert!(may_be_complete(&[b'a'; 101], 100, 100), "one that is too long is refused at once");
}

#[test]
fn a_request_that_a_target_might_frame_differently_is_refused() {
    for (name, lines) in [
        ("length beside chunks", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        ("two lengths", "Content-Length: 3\r\nContent-Length: 4\r\n"),
        ("two equal lengths", "Content-Length: 3\r\nContent-Length: 3\r\n"),
        ("a list of lengths", "Content-Length: 3, 3\r\n"),
        ("a signed length", "Content-Length: +3\r\n"),
        ("an empty length", "Content-Length: \r\n"),
        ("a hexadecimal length", "Content-Length: 0x3\r\n"),
        ("a length beyond 64 bits", "Content-Length: 99999999999999999999\r\n"),
        ("another coding", "Transfer-Encoding: gzip, chunked\r\n"),
        ("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked by another name", "Transfer-Encoding: xchunked\r\n"),
        ("a folded line", "X-A: 1\r\n folded\r\n"),
        ("a space before the colon", "X-A : 1\r\n"),
        ("a bare line feed", "X-A: 1\nX-B: 2\r\n"),
        ("a NUL in a value", "X-A: \0\r\n"),
        ("a control character in a name", "X\u{1}A: 1\r\n"),
    ] {
        assert!(request(&format!("POST / HTTP/1.1\r\nHost: t\r\n{lines}\r\n")).is_err(), "{name}");
    }
    assert!(
        request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err(),
        "chunks of an HTTP/1.0 client"
    );
}

#[test]
fn the_framing_of_a_request_follows_its_fields() {
    for (lines, framing) in [
        ("", Framing::None),
        ("Content-Length: 0\r\n", Framing::None),
        ("content-length: 7\r\n", Framing::Length(7)),
        ("Transfer-Encoding: Chunked\r\n", Framing::Chunked),
    ] {
        let (head, found) =
            request(&format!("POST /a?b=c HTTP/1.1\r\nHost: t\r\n{lines}\r\n")).unwrap().unwrap();
        assert_eq!(found, framing, "{lines}");
        assert_eq!(head.target, "/a?b=c");
        assert_eq!(head.headers[header::HOST], "t");
    }
}

#[test]
fn a_head_waits_for_its_end_and_never_grows_past_the_limit() {
    assert!(request("GET / HTTP/1.1\r\nHost: t\r\n").unwrap().is_none());
    let long = format!("GET / HTTP/1.1\r\nX-A: {}", "a".repeat(5000));
    assert_eq!(request(&long).err(), Some(WireError::TooLarge));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: 1\r\n".repeat(200));
    assert_eq!(request(&many).err(), Some(WireError::TooLarge));
}

#[test]
fn bytes_behind_a_head_stay_in_the_buffer() {
    let mut buf = BytesMut::from("GET / HTTP/1.1\r\n\r\nGET /next");
    take_request(&mut buf, 4096).unwrap().unwrap();
    assert_eq!(buf, "GET /next");
}

#[test]
fn the_fields_of_an_answer_are_bounded_by_their_bytes_and_not_by_their_number() {
    let warnings = |count: usize| -> BytesMut {
        let lines: String = (0..count).map(|n| format!("Warning: 299 - \"object {n}\"\r\n")).collect();
        BytesMut::from(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_str())
    };
    for count in [99, 100, 101, 2000] {
        let mut whole = warnings(count);
        let mut part = whole.clone();
        part.truncate(whole.len() - 1);
        assert!(take_response(&mut part, 64 << 10).unwrap().is_none(), "{count}");
        let head = take_response(&mut whole, 64 << 10).unwrap().unwrap();
        assert_eq!(head.headers.get_all("warning").iter().count(), count);
        assert!(whole.is_empty());
    }
    assert_eq!(take_response(&mut warnings(4000), 64 << 10).err(), Some(WireError::TooLarge));
}

#[test]
fn chunks_are_read_with_extensions_and_trailers() {
    let wire = b"5;name=value\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n";
    let (body, trailers, done) = decode(&mut Decoder::ChunkSize, wire).unwrap();
    assert_eq!(body, b"hello world");
    assert_eq!(trailers.unwrap()["x-sum"], "1");
    assert!(done);
}

#[test]
fn broken_chunks_are_refused() {
    for wire in [
        "5 \r\nhello\r\n",
        "\r\n",
        "-1\r\n",
        "0x5\r\nhello",
        "5\nhello",
        "5\r\nhelloX\r\n",
        "ffffffffffffffffff\r\n",
        "0\r\nbroken\r\n\r\n",
    ] {
        assert!(decode(&mut Decoder::ChunkSize, wire.as_bytes()).is_err(), "{wire:?}");
    }
}

#[test]
fn behind_a_broken_body_nothing_is_read() {
    let mut buf = BytesMut::from("X-A: 1\nX-B: 2\r\n\r\nX-C: 3\r\n\r\n");
    let mut decoder = Decoder::Trailers;
    for _ in 0..2 {
        assert!(decoder.next(&mut buf).is_err());
        assert_eq!(decoder, Decoder::Broken);
    }
}

#[test]
fn a_body_of_known_length_leaves_what_follows_it() {
    let mut buf = BytesMut::from("helloGET /");
    let mut decoder = Decoder::from(Framing::Length(5));
    assert!(matches!(decoder.next(&mut buf), Ok(Some(Frame::Data(data))) if data == "hello"));
    assert!(matches!(decoder.next(&mut buf), Ok(Some(Frame::End))));
    assert_eq!(buf, "GET /");
}

#[test]
fn a_response_has_a_body_unless_its_status_or_method_says_otherwise() {
    for (status, method, lines, framing) in [
        (200, Method::GET, "Content-Length: 5\r\n", Framing::Length(5)),
        (200, Method::HEAD, "Content-Length: 5\r\n", Framing::None),
        (204, Method::GET, "", Framing::None),
        (304, Method::GET, "Content-Length: 5\r\n", Framing::None),
        (200, Method::GET, "", Framing::UntilClose),
        (200, Method::GET, "Transfer-Encoding: chunked\r\n", Framing::Chunked),
    ] {
        let mut buf = BytesMut::from(format!("HTTP/1.1 {status} X\r\n{lines}\r\n").as_str());
        let head = take_response(&mut buf, 4096).unwrap().unwrap();
        assert_eq!(response_framing(&head, &method), Ok(framing), "{status} {method} {lines}");
    }
}

#[test]
fn what_is_encoded_decodes_to_the_same() {
    for framing in [Framing::Length(11), Framing::Chunked] {
        let (mut encoder, mut out) = (Encoder::from(framing), BytesMut::new());
        encoder.data(b"hello", &mut out).unwrap();
        encoder.data(b" world", &mut out).unwrap();
        encoder.end(None, &mut out).unwrap();
        let (body, ..) = decode(&mut Decoder::from(framing), &out).unwrap();
        assert_eq!(body, b"hello world", "{framing:?}");
    }
}

#[test]
fn a_body_of_another_length_than_announced_is_an_error() {
    let mut out = BytesMut::new();
    assert!(Encoder::Length(3).data(b"hello", &mut out).is_err());
    assert!(Encoder::Length(3).end(None, &mut out).is_err());
    assert!(Encoder::None.data(b"x", &mut out).is_err());
}
