//! One line of JSON for each event, fields beside `timestamp`, `level` and `target`. Its own layer, for a
//! record is some tenth of what a small request costs (`make bench`, with `--records`); with
//! tracing-subscriber's own format it was a quarter of a request's instructions (callgrind, HTTP/1.1, 1 KiB).
//! `lines` gathers them on their way out.

pub mod lines;

use std::cell::Cell;
use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use self::lines::Lines;

/// A thread keeps its buffer unless a line was longer than any usual one.
const KEPT: usize = 4 << 10;

/// Spans are not used here and not shown.
pub struct Json(Lines);

/// What a thread writes its lines into.
#[derive(Default)]
struct Buffer {
    line: String,
    second: Second,
}

/// The text of the second in which the last line was written.
#[derive(Default)]
struct Second {
    /// Since 1970.
    number: u64,
    text: String,
}

thread_local! {
    static BUFFER: Cell<Buffer> = Cell::default();
}

impl Json {
    pub fn new(lines: Lines) -> Json {
        Json(lines)
    }
}

impl<S: Subscriber> Layer<S> for Json {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Taken and not borrowed: a value that logs while it is written finds another.
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        let Buffer { line, second } = &mut buffer;
        put(line, second, event);
        self.0.add(line.as_bytes(), *event.metadata().level() <= Level::WARN);
        line.clear();
        line.shrink_to(KEPT);
        // At a thread's end there is none any more.
        let _ = BUFFER.try_with(|place| place.set(buffer));
    }
}

fn put(line: &mut String, second: &mut Second, event: &Event<'_>) {
    line.push_str("{\"timestamp\":\"");
    second.put_now(line);
    line.push_str("\",\"level\":\"");
    line.push_str(event.metadata().level().as_str());
    line.push_str("\",\"target\":\"");
    line.push_str(event.metadata().target());
    line.push('"');
    event.record(&mut Fields(line));
    line.push_str("}\n");
}

impl Second {
    /// RFC 3339, in microseconds.
    fn put_now(&mut self, line: &mut String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.number != now.as_secs() || self.text.is_empty() {
            self.number = now.as_secs();
            let time =
                Timestamp::from_second(i64::try_from(self.number).unwrap_or_default()).unwrap_or_default();
            self.text = time.to_string().trim_end_matches('Z').to_owned();
        }
        line.push_str(&self.text);
        let _ = write!(line, ".{:06}Z", now.subsec_micros());
    }
}

struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        // Names are those of the code: nothing in them to escape.
        self.0.push_str(",\"");
        self.0.push_str(field.name());
        self.0.push_str("\":");
    }

    fn bare(&mut self, field: &Field, value: &str) {
        self.name(field);
        self.0.push_str(value);
    }
}

/// A value whose own code fails while it is written is shown as far as it came.
impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field);
        self.0.push('"');
        let _ = write!(Escaped(self.0), "{value:?}");
        self.0.push('"');
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        self.0.push('"');
        let _ = Escaped(self.0).write_str(value);
        self.0.push('"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, itoa::Buffer::new().format(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, if value { "true" } else { "false" });
    }
}

/// The inside of a JSON string.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        // Nearly every text is plain, and a look at all of it without a branch is many bytes at a time.
        if text.bytes().fold(true, |so_far, byte| so_far & plain(byte)) {
            self.0.push_str(text);
            return Ok(());
        }
        for character in text.chars() {
            match character {
                '"' | '\\' => self.0.extend(['\\', character]),
                '\0'..' ' => write!(self.0, "\\u{:04x}", u32::from(character))?,
                _ => self.0.push(character),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn by(act: impl FnOnce()) -> Vec<Value> {
            let written = Written::default();
            let subscriber = tracing_subscriber::registry().with(Json::new(Lines::new(written.clone())));
            tracing::subscriber::with_default(subscriber, act);
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
                .collect()
        }
    }

    #[test]
    fn every_event_is_one_line_of_json_whatever_is_in_it() {
        let wild = "a \"quote\", a \\ and\na line\u{1}, ü";
        let parsed = Written::by(|| {
            tracing::info!(target: "access", user = wild, count = 7_u64, less = -1, cut = true, none = None::<&str>, shown = %wild, "it {}", wild);
            tracing::warn!(debugged = ?Some("x"), ratio = 0.5, "plain");
        });
        assert_eq!(parsed.len(), 2, "{parsed:?}");
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
        let told: Timestamp = parsed[0]["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(told.duration_until(Timestamp::now()).as_secs().abs() < 10, "{told}");
        assert_eq!((&parsed[1]["debugged"], &parsed[1]["ratio"]), (&json!("Some(\"x\")"), &json!("0.5")));
    }
}
