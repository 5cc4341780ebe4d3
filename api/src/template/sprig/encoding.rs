//! Base64, base32, digests, JSON.

use std::io::{self, Write};
use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, PAD};
use base64::prelude::BASE64_STANDARD;
use gotmpl::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::super::MAX_OUTPUT;
use super::super::value::{Result, error, from_json, list, text, to_json};
use super::{Args, Entry};

pub const FUNCTIONS: &[Entry] = &[
    ("b64enc", 1, 1, |args| Ok(text(BASE64_STANDARD.encode(args.text(0)?)))),
    ("b64dec", 1, 1, |args| decoded(BASE64_DECODE.decode(one_line(args.text(0)?)).ok())),
    ("b32enc", 1, 1, |args| Ok(text(base32_encode(args.text(0)?.as_bytes())))),
    ("b32dec", 1, 1, |args| decoded(base32_decode(&one_line(args.text(0)?)))),
    ("adler32sum", 1, 1, |args| Ok(text(adler32(args.text(0)?).to_string()))),
    ("sha1sum", 1, 1, |args| Ok(text(hex(&<Sha1 as sha1::Digest>::digest(args.text(0)?))))),
    ("sha256sum", 1, 1, |args| Ok(text(hex(&Sha256::digest(args.text(0)?))))),
    ("sha512sum", 1, 1, |args| Ok(text(hex(&Sha512::digest(args.text(0)?))))),
    ("toJson", 1, 1, |args| Ok(text(html_safe(&raw_json(args)?)))),
    ("mustToJson", 1, 1, |args| Ok(text(html_safe(&raw_json(args)?)))),
    ("toRawJson", 1, 1, |args| Ok(text(raw_json(args)?))),
    ("mustToRawJson", 1, 1, |args| Ok(text(raw_json(args)?))),
    ("toPrettyJson", 1, 1, to_pretty_json),
    ("mustToPrettyJson", 1, 1, to_pretty_json),
    ("fromJson", 1, 1, parsed_json),
    ("mustFromJson", 1, 1, parsed_json),
];

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Bits left over at the end count for nothing, as in Go.
const BASE64_DECODE: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, PAD.with_decode_allow_trailing_bits(true));

/// Go's decoders pass over line breaks.
fn one_line(encoded: &str) -> String {
    encoded.replace(['\r', '\n'], "")
}

fn decoded(bytes: Option<Vec<u8>>) -> Result<Value> {
    let bytes = bytes.ok_or_else(|| error("the text is not so encoded"))?;
    String::from_utf8(bytes).map(text).map_err(|_| error("what is encoded is not text"))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Five bytes make eight characters of five bits.
fn base32_encode(bytes: &[u8]) -> String {
    let mut output = String::new();
    for chunk in bytes.chunks(5) {
        let bits =
            (0..5).fold(0u64, |bits, index| bits << 8 | u64::from(chunk.get(index).copied().unwrap_or(0)));
        let digits = (chunk.len() * 8).div_ceil(5);
        let digit = |index: usize| char::from(BASE32[(bits >> (35 - 5 * index) & 31) as usize]);
        output.extend((0..8).map(|index| if index < digits { digit(index) } else { '=' }));
    }
    output
}

fn base32_decode(encoded: &str) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    let digits = encoded.trim_end_matches('=').as_bytes();
    // What 1, 2, … bytes take.
    let whole = [0, 2, 4, 5, 7].contains(&(digits.len() % 8));
    if !encoded.len().is_multiple_of(8) || encoded.len() - digits.len() > 6 || !whole {
        return None;
    }
    for chunk in digits.chunks(8) {
        let mut bits = 0u64;
        for index in 0..8 {
            let digit = chunk.get(index).map(|byte| BASE32.iter().position(|digit| digit == byte));
            bits = bits << 5 | digit.unwrap_or(Some(0))? as u64;
        }
        output.extend((0..chunk.len() * 5 / 8).map(|index| (bits >> (32 - 8 * index)) as u8));
    }
    Some(output)
}

fn raw_json(args: Args<'_>) -> Result<String> {
    Ok(line_safe(&to_json(args.get(0))?.to_string()))
}

/// JavaScript once took these two for line breaks.
fn line_safe(json: &str) -> String {
    json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Go's encoder escapes what could end a script element.
fn html_safe(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Deep values have more blanks than anything else when they are indented.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn to_pretty_json(args: Args<'_>) -> Result<Value> {
    let mut bounded = Bounded(Vec::new());
    serde_json::to_writer_pretty(&mut bounded, &to_json(args.get(0))?)
        .map_err(|_| error("a value grew too large"))?;
    let pretty = String::from_utf8(bounded.0).map_err(|_| error("the value is no JSON"))?;
    Ok(text(html_safe(&line_safe(&pretty))))
}

fn parsed_json(args: Args<'_>) -> Result<Value> {
    serde_json::from_str(args.text(0)?)
        .map(|json| in_floats(&from_json(&json)))
        .map_err(|_| error("the text is no JSON"))
}

/// Go reads every number of JSON as a fraction; serde_json bounds the depth.
fn in_floats(value: &Value) -> Value {
    match value {
        Value::Int(number) => Value::Float(*number as f64),
        Value::List(items) => list(items.iter().map(in_floats)),
        Value::Map(fields) => Value::Map(Arc::new(
            fields.iter().map(|(key, value)| (Arc::clone(key), in_floats(value))).collect(),
        )),
        other => other.clone(),
    }
}

/// RFC 1950.
fn adler32(source: &str) -> u32 {
    let sums = |(a, b): (u32, u32), byte: u8| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    };
    let (a, b) = source.bytes().fold((1, 0), sums);
    b << 16 | a
}
