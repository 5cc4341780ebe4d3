//! Which changed settings wait for a restart. The schema says of each when it takes effect.

use serde_json::Value;

use super::{Settings, schema};

/// Names of the settings that differ from those the process was started with and are read at start alone.
pub(super) fn waiting(started: &Settings, now: &Settings) -> Vec<String> {
    let [started, now] = [started, now].map(|settings| serde_json::to_value(settings).unwrap_or_default());
    differing("", &schema().to_value(), false, &started, &now)
}

/// `restart` holds for what does not say itself when it takes effect.
fn differing(path: &str, schema: &Value, restart: bool, started: &Value, now: &Value) -> Vec<String> {
    let restart = schema.get("x-takes-effect").map_or(restart, |when| when == "restart");
    match schema["properties"].as_object() {
        Some(keys) => {
            let inside = keys.iter().map(|(key, schema)| {
                differing(&format!("{path}.{key}"), schema, restart, &started[key], &now[key])
            });
            inside.flatten().collect()
        }
        None if restart && started != now => vec![path.trim_start_matches('.').to_owned()],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::from_file;

    #[test]
    fn only_what_differs_from_the_start_and_is_read_then_waits_for_a_restart() {
        const STARTED: &str = "threads: 2\nlisteners: {http: '127.0.0.1:80'}\ntimeouts: {connect: 1s}";
        for (now, expected) in [
            (STARTED, ""),
            ("threads: 2\nlisteners: {http: '127.0.0.1:80'}\ntimeouts: {connect: 9s, head: 9s}", ""),
            ("threads: 2\nlisteners: {http: '127.0.0.1:80'}\ntargets: {deny: [{ports: [22]}]}", ""),
            ("threads: 3\nlisteners: {http: '127.0.0.1:80'}\nlimits: {streams: 1}", "threads"),
            ("listeners: {http: '127.0.0.1:81'}\ntokens: {cache_entries: 1}", {
                "listeners.http, threads, tokens.cache_entries"
            }),
            ("threads: 2\nlisteners: {http: '127.0.0.1:80'}\nrecords: {on_full: wait}", "records.on_full"),
        ] {
            let waiting = waiting(&from_file(STARTED).unwrap(), &from_file(now).unwrap());
            assert_eq!(waiting.join(", "), expected, "{now}");
        }
    }
}
