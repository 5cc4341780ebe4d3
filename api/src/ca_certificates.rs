//! Which CA certificates a Secret gives. One rule for controller and gateway: what the one calls sound is
//! what the other trusts, and what cannot be read is never taken for "none given".
//!
//! A CERTIFICATE block counts; other blocks, text around blocks, CR LF and a byte order mark are overlooked.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// Of one Secret. As many as a distribution has, and some more: each costs kilobytes in memory, and time in each
/// connection that trusts it.
const MOST: usize = 256;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// In words that follow `Secret "name" `. They quote nothing of the Secret but the name of a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaError {
    #[error(
        "contains invalid PEM data under {key:?}: certificate {number} cannot be read; look for damage, and for spaces before its lines"
    )]
    Block {
        key: String,
        /// 1 for the first CERTIFICATE block under this key.
        number: usize,
    },
    #[error(
        "contains invalid PEM data under {key:?}: there is no certificate; put PEM there, not encoded twice and no path, or remove the key"
    )]
    NoPem { key: String },
    #[error("contains no certificate: put PEM under a key that ends in .crt")]
    None,
    #[error("contains more than {MOST} certificates: give those that the target's own certificate is under")]
    TooMany,
}

/// Certificates of a Secret that is named for its CAs: of keys that end in `.crt` or `.pem`, and of values
/// that hold a certificate. `parse` reads DER. Never empty.
pub fn of_secret<'a, T>(
    data: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, CaError> {
    let mut all = Vec::new();
    for (key, value) in data {
        if !(key.ends_with(".crt") || key.ends_with(".pem") || holds(value, BEGIN)) {
            continue;
        }
        match of_value(key, value, &parse) {
            Ok(certificates) if all.len() + certificates.len() > MOST => return Err(CaError::TooMany),
            Ok(certificates) => all.extend(certificates),
            // A private key beside its certificate.
            Err(CaError::NoPem { .. }) if holds(value, "-----BEGIN ") => {}
            Err(error) => return Err(error),
        }
    }
    if all.is_empty() { Err(CaError::None) } else { Ok(all) }
}

/// Certificates of one value that is given for its CAs, such as `ca.crt` beside a credential. Never empty.
pub fn of_value<T>(key: &str, value: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>, CaError> {
    let text = value.strip_prefix(BYTE_ORDER_MARK).unwrap_or(value);
    let mut certificates = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    let broken = |before: usize| CaError::Block { key: key.to_owned(), number: before + 1 };
    for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end) {
        match &mut open {
            None if line == BEGIN.as_bytes() => open = Some(Vec::new()),
            None if holds(line, BEGIN) => return Err(broken(certificates.len())),
            None => {}
            Some(_) if certificates.len() == MOST => return Err(CaError::TooMany),
            Some(body) if line == END.as_bytes() => {
                let certificate = STANDARD.decode(body).ok().and_then(|der| parse(&der));
                certificates.push(certificate.ok_or_else(|| broken(certificates.len()))?);
                open = None;
            }
            Some(body) => body.extend_from_slice(line),
        }
    }
    match open {
        Some(_) => Err(broken(certificates.len())),
        None if certificates.is_empty() => Err(CaError::NoPem { key: key.to_owned() }),
        None => Ok(certificates),
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a certificate is does not matter here: any bytes but `bad`.
    fn parse(der: &[u8]) -> Option<String> {
        String::from_utf8(der.to_vec()).ok().filter(|text| text != "bad")
    }

    fn block(content: &str) -> String {
        format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(content))
    }

    fn read(value: &str) -> Result<Vec<String>, CaError> {
        of_value("ca.crt", value.as_bytes(), parse)
    }

    #[test]
    fn more_certificates_than_a_distribution_has_are_refused() {
        let many = block("one").repeat(MOST);
        assert_eq!(read(&many).unwrap().len(), MOST);
        assert_eq!(read(&format!("{many}{}", block("two"))), Err(CaError::TooMany));
        let half = block("one").repeat(MOST / 2 + 1);
        let data = [("a.crt", half.as_bytes()), ("b.crt", half.as_bytes())];
        assert_eq!(of_secret(data, parse), Err(CaError::TooMany));
    }

    #[test]
    fn certificates_count_and_what_is_around_them_does_not() {
        let (one, two) = (block("one"), block("two"));
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for text in [
            format!("{one}{two}"),
            format!("\u{feff}# the root\n{one}\n\n subject=CN = two\n{two}"),
            format!("{one}{two}").replace('\n', "\r\n"),
            format!("{key}{one}{key}{two}{key}"),
            format!("{one}{two}").trim_end().to_owned(),
            format!("{one}{two}").replace('\n', " \t\n"),
        ] {
            assert_eq!(read(&text), Ok(vec!["one".to_owned(), "two".to_owned()]), "{text}");
        }
    }

    #[test]
    fn one_bad_certificate_is_named_by_its_number() {
        let (one, two) = (block("one"), block("two"));
        for (text, number) in [
            (format!("{one}{}", block("bad")), 2),
            (format!("{}{one}", block("bad")), 1),
            (format!("{one}{two}").replace("dHdv", "d!dv"), 2),
            (format!("{one}{}", two.replace('\n', "\n  ")).replace("\n  -----END", "\n-----END"), 2),
            (format!("  {}", one.replace('\n', "\n  ")), 1),
            (one.replace('\n', "\\n"), 1),
            (one.replace('\n', " "), 1),
            (format!("{one}{BEGIN}\n"), 2),
            (format!("{one}{BEGIN}\n{two}"), 2),
            (one.replace(END, "-----END X509 CRL-----"), 1),
        ] {
            assert_eq!(read(&text), Err(CaError::Block { key: "ca.crt".into(), number }), "{text}");
        }
    }

    #[test]
    fn what_is_given_and_holds_no_certificate_is_an_error() {
        let twice = STANDARD.encode(block("one"));
        for text in [
            "",
            "\n",
            "/etc/ssl/ca.crt",
            &twice,
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ] {
            assert_eq!(read(text), Err(CaError::NoPem { key: "ca.crt".into() }), "{text}");
        }
    }

    #[test]
    fn of_a_secret_the_keys_for_certificates_count_and_values_that_hold_one() {
        let (one, bad) = (block("one"), block("bad"));
        let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let no_pem = |key: &str| Err(CaError::NoPem { key: key.into() });
        for (data, found) in [
            (vec![("ca.crt", one.as_str())], Ok(1)),
            (vec![("anything", one.as_str()), ("password", "x")], Ok(1)),
            (vec![("cert.pem", one.as_str()), ("key.pem", private)], Ok(1)),
            (vec![("a.crt", one.as_str()), ("b.pem", one.as_str())], Ok(2)),
            (vec![("a.crt", one.as_str()), ("b.pem", "x")], no_pem("b.pem")),
            (
                vec![("a.crt", one.as_str()), ("other", bad.as_str())],
                Err(CaError::Block { key: "other".into(), number: 1 }),
            ),
            (vec![("key.pem", private)], Err(CaError::None)),
            (vec![("password", "x")], Err(CaError::None)),
            (vec![], Err(CaError::None)),
        ] {
            let names: Vec<&str> = data.iter().map(|(key, _)| *key).collect();
            let read = of_secret(data.into_iter().map(|(key, value)| (key, value.as_bytes())), parse);
            assert_eq!(read.map(|all| all.len()), found, "{names:?}");
        }
    }

    proptest! {
        /// Whatever stands in a text: as many certificates come out as begin in it, or none at all.
        #[test]
        fn no_certificate_is_left_out_silently(parts in prop::collection::vec("[ -~\n]{0,20}|-----BEGIN CERTIFICATE-----\n|-----END CERTIFICATE-----\n|dHdv\n|\n", 0..12)) {
            let text = parts.concat();
            if let Ok(read) = read(&text) {
                prop_assert_eq!(read.len(), text.matches(BEGIN).count());
            }
        }
    }
}
