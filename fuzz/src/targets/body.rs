//! Bodies of HTTP/1.1: what they hold and where they end does not depend on how they arrive, and chunks that we
//! write hold the same.

use bytes::BytesMut;
use connectors_gateway::http::wire::{Decoder, Encoder, Frame, Framing};
use http::header::HeaderMap;

use super::pieces;
use crate::Target;

pub const TARGET: Target = Target {
    name: "body",
    run,
    words: &[
        "0\r\n\r\n",
        "5\r\nhello\r\n",
        "\r\n",
        "ffffffffffffffff\r\n",
        ";ext=1",
        "a: b\r\n",
        "0\r\n",
        "1\n",
        "\0",
    ],
};

#[derive(Debug, PartialEq)]
struct Body {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Bytes behind its end; none if it has none yet.
    rest: Option<Vec<u8>>,
    broken: bool,
}

fn decode<'a>(framing: Framing, arrives: impl Iterator<Item = &'a [u8]>) -> Body {
    let mut decoder = Decoder::from(framing);
    let mut body = Body { data: Vec::new(), trailers: None, rest: None, broken: false };
    let mut buf = BytesMut::new();
    for piece in arrives {
        buf.extend_from_slice(piece);
        while body.rest.is_none() && !body.broken {
            match decoder.next(&mut buf) {
                Ok(Some(Frame::Data(data))) => body.data.extend_from_slice(&data),
                Ok(Some(Frame::Trailers(trailers))) => {
                    body.trailers = Some(trailers);
                    body.rest = Some(Vec::new());
                }
                Ok(Some(Frame::End)) => body.rest = Some(Vec::new()),
                Ok(None) => break,
                Err(_) => {
                    body.broken = true;
                    assert!(decoder.next(&mut buf).is_err(), "a broken body goes on");
                }
            }
        }
    }
    if let Some(rest) = &mut body.rest {
        *rest = buf.to_vec();
    }
    body
}

fn run(data: &[u8]) {
    let length = u64::from(data.first().copied().unwrap_or_default());
    for framing in [Framing::Chunked, Framing::Length(length), Framing::UntilClose, Framing::None] {
        let body = decode(framing, std::iter::once(data));
        let in_pieces = decode(framing, pieces(data).chain(std::iter::once(&[][..])));
        if !body.broken {
            assert_eq!(body, in_pieces, "{framing:?}");
        }
        assert_eq!(body.broken, in_pieces.broken, "{framing:?}");
        if body.rest.is_some() {
            written(&body);
        }
    }
}

fn written(body: &Body) {
    let mut encoder = Encoder::from(Framing::Chunked);
    let mut wire = BytesMut::new();
    pieces(&body.data).for_each(|piece| encoder.data(piece, &mut wire).unwrap());
    encoder.end(body.trailers.as_ref(), &mut wire).unwrap();
    let again = decode(Framing::Chunked, std::iter::once(&wire[..]));
    assert_eq!(again.data, body.data);
    assert_eq!(again.trailers.unwrap_or_default(), body.trailers.clone().unwrap_or_default());
    assert_eq!(again.rest, Some(Vec::new()), "we wrote more than one body");
}
