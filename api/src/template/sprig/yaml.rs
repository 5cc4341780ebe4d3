//! A text as one YAML scalar: plain where every reader takes it for the same text, quoted otherwise. Not
//! sprig's: sprig's `quote` is Go's, whose escapes are not YAML's, and a text that is printed as it is may
//! end its line and begin anything.

use std::fmt::Write;

use super::super::value::text;
use super::Entry;

pub const FUNCTIONS: &[Entry] = &[("yamlScalar", 1, 1, |args| Ok(text(scalar(args.text(0)?))))];

/// Words that some version of YAML reads as no text. In lower case.
const NO_TEXT: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

fn scalar(value: &str) -> String {
    if is_plain(value) { value.to_owned() } else { quoted(value) }
}

/// Begins with a letter, so that it is no number, date or indicator; holds nothing that ends a scalar, in a
/// block or between brackets.
fn is_plain(value: &str) -> bool {
    let begins = value.starts_with(|first: char| first.is_ascii_alphabetic());
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=~".contains(c);
    begins
        && value.chars().all(allowed)
        && !value.ends_with(':')
        && !NO_TEXT.contains(&value.to_ascii_lowercase().as_str())
}

/// Double-quoted, with whatever is not printable ASCII as an escape.
fn quoted(value: &str) -> String {
    let mut output = String::with_capacity(value.len() + 2);
    output.push('"');
    for c in value.chars() {
        // Writing into a String cannot fail.
        let _ = match (c, u32::from(c)) {
            ('"' | '\\', _) => write!(output, "\\{c}"),
            (' '..='~', _) => write!(output, "{c}"),
            (_, code @ ..=0xff) => write!(output, "\\x{code:02x}"),
            (_, code @ ..=0xffff) => write!(output, "\\u{code:04x}"),
            (_, code) => write!(output, "\\U{code:08x}"),
        };
    }
    output.push('"');
    output
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_yaml_ng::Value;

    use super::*;

    #[test]
    fn what_is_safe_stays_as_it_is() {
        for plain in [
            "https://10.0.0.1:6443",
            "https://platform.example/kubernetes/global",
            "http://demo%2Fk8s:eyJhbGciOi.J9-_x@c-k8s.demo.svc.cluster.local",
            "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==",
        ] {
            assert_eq!(scalar(plain), plain);
        }
    }

    #[test]
    fn what_could_be_read_as_something_else_is_quoted() {
        for (value, written) in [
            ("", r#""""#),
            ("a: b", r#""a: b""#),
            ("a #b", r#""a #b""#),
            ("a:", r#""a:""#),
            ("Yes", r#""Yes""#),
            ("1e3", r#""1e3""#),
            ("2026-11-27", r#""2026-11-27""#),
            ("[a]", r#""[a]""#),
            ("a\n- b", r#""a\x0a- b""#),
            ("a\"\\", r#""a\"\\""#),
            ("\u{2028}\u{1f600}é", r#""\u2028\U0001f600\xe9""#),
        ] {
            assert_eq!(scalar(value), written);
        }
    }

    proptest! {
        /// In a block, in a list and between brackets.
        #[test]
        fn any_text_is_read_back_as_itself(value in "\\PC*|(?s).{0,20}|[-a-z0-9:#@ ,{}\\[\\]&*!|>%\"'\n]{0,12}|true|null|~|0x1f|1_000") {
            for (before, after) in [("a: ", "\nb: c\n"), ("- ", "\n- c\n"), ("{a: ", ", b: c}\n"), ("[", ", c]\n")] {
                let document = format!("{before}{}{after}", scalar(&value));
                let read: Value = serde_yaml_ng::from_str(&document).unwrap();
                let first = read.get("a").or_else(|| read.get(0)).and_then(Value::as_str);
                prop_assert_eq!(first, Some(value.as_str()), "{}", document);
            }
        }
    }
}
