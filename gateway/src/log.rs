//! One line of JSON for each event, fields beside `timestamp`, `level` and `target`. With tracing-subscriber's own format the record took a
//! quarter of a request's instructions (callgrind, HTTP/1.1, 1 KiB). `lines` gathers them on their way out.

pub mod lines;

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Spans are not used here and not shown.
pub struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        line.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut line)?;
        write!(line, "\",\"level\":\"{}\",\"target\":\"{}\"", event.metadata().level(), event.metadata().target())?;
        let mut fields = Fields { line, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        fields.line.write_str("}\n")
    }
}

struct Fields<'a> {
    line: Writer<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn field(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        // Names are those of the code: nothing in them to escape.
        let named = |line: &mut Writer<'_>| {
            line.write_str(",\"")?;
            line.write_str(field.name())?;
            line.write_str("\":")
        };
        if self.result.is_ok() {
            self.result = named(&mut self.line).and_then(|()| write(&mut self.line));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, |line| {
            line.write_char('"')?;
            write!(Escaped(line), "{value:?}")?;
            line.write_char('"')
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |line| {
            line.write_char('"')?;
            Escaped(line).write_str(value)?;
            line.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |line| line.write_str(if value { "true" } else { "false" }));
    }
}

/// The inside of a JSON string.
struct Escaped<'a, 'b>(&'a mut Writer<'b>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            self.0.write_str(&rest[..at])?;
            match rest.as_bytes()[at] {
                byte @ (b'"' | b'\\') => write!(self.0, "\\{}", char::from(byte))?,
                byte => write!(self.0, "\\u{byte:04x}")?,
            }
            rest = &rest[at + 1..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Lines;

        fn make_writer(&'a self) -> Lines {
            self.clone()
        }
    }

    #[test]
    fn every_event_is_one_line_of_json_whatever_is_in_it() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().event_format(Json).with_writer(lines.clone()).finish();
        let wild = "a \"quote\", a \\ and\na line\u{1}, ü";
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "access", user = wild, count = 7_u64, less = -1, cut = true, none = None::<&str>, shown = %wild, "it {}", wild);
            tracing::warn!(debugged = ?Some("x"), ratio = 0.5, "plain");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let parsed: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parsed.len(), 2, "{text}");
        for (key, value) in [
            ("level", json!("INFO")),
            ("target", json!("access")),
            ("user", json!(wild)),
            ("count", json!(7)),
            ("less", json!(-1)),
            ("cut", json!(true)),
            ("none", Value::Null),
            ("shown", json!(wild)),
            ("message", json!(format!("it {wild}"))),
        ] {
            assert_eq!(parsed[0][key], value, "{key}");
        }
        assert!(parsed[0]["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{text}");
        assert_eq!((&parsed[1]["debugged"], &parsed[1]["ratio"]), (&json!("Some(\"x\")"), &json!("0.5")));
    }
}
