//! What is wrong in settings, in the words of whoever writes them. The library that reads them says where, the schema
//! says what belongs there.

use config::{Config, ConfigError};
use connectors_api::nearest::{TYPO, nearest};
use serde_json::{Map, Value};

use super::{ENVIRONMENT, OLD_NAME, SettingsError, schema};

/// Of settings that were read and are not ours. What cannot be explained keeps the library's words.
pub(super) fn explain(read: &Config, error: ConfigError) -> SettingsError {
    explained(read, &error).unwrap_or(SettingsError::Unreadable(error))
}

fn explained(read: &Config, error: &ConfigError) -> Option<SettingsError> {
    let path = match error {
        ConfigError::Type { key, .. } | ConfigError::At { key, .. } => dotted(key.as_deref().unwrap_or("")),
        // Of the file as a whole.
        ConfigError::Message(_) => String::new(),
        _ => return None,
    };
    let path = path.as_str();
    let written: Value = read.clone().try_deserialize().ok()?;
    let all = schema().to_value();
    let (old, new) = OLD_NAME;
    let schema = at(&all, if path == old { new } else { path })?;
    let found = written.pointer(&pointer(path))?;
    match (found.as_object(), schema["properties"].as_object()) {
        (Some(found), Some(known)) => {
            let unknown = found.keys().find(|key| !known.contains_key(*key) && below(path, key) != old)?;
            let setting = below(path, unknown);
            Some(SettingsError::Unknown {
                place: place(&setting),
                setting,
                instead: instead(path, unknown, known, &all),
            })
        }
        _ => Some(SettingsError::Invalid {
            key: path.to_owned(),
            value: shown(found) + &place(path),
            rule: rule(schema),
        }),
    }
}

/// The library writes `deny[0]ports` for `deny[0].ports`.
fn dotted(key: &str) -> String {
    let dotted = key.replace(']', "].").replace("..", ".").replace(".[", "[");
    dotted.trim_end_matches('.').to_owned()
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// `targets.deny[0].ports` as JSON has it.
fn pointer(path: &str) -> String {
    let parts = path.split(['.', '[']).filter(|part| !part.is_empty());
    parts.map(|part| format!("/{}", part.trim_end_matches(']'))).collect()
}

fn at<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let mut parts = path.split(['.', '[']).filter(|part| !part.is_empty());
    parts.try_fold(schema, |schema, part| match part.ends_with(']') {
        true => schema.get("items"),
        false => schema["properties"].get(part),
    })
}

/// Where it was written, if not in the file.
pub(super) fn place(path: &str) -> String {
    let name = format!("{ENVIRONMENT}__{}", path.replace('.', "__"));
    // The library takes them in any case.
    let given = std::env::vars_os().filter_map(|(variable, _)| variable.into_string().ok());
    let variable = given.into_iter().find(|variable| variable.eq_ignore_ascii_case(&name));
    variable.map(|variable| format!(" in {variable}")).unwrap_or_default()
}

fn shown(found: &Value) -> String {
    match found {
        Value::Null => "blank".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a group of keys".to_owned(),
        value => value.to_string(),
    }
}

/// The setting that was meant, beside the unknown one or in another group, or all that are there.
fn instead(path: &str, unknown: &str, known: &Map<String, Value>, all: &Value) -> String {
    let beside = known.keys().map(|key| below(path, key));
    let groups = all["properties"].as_object().into_iter().flatten();
    let elsewhere = groups.flat_map(|(group, schema)| {
        let keys = schema["properties"].as_object().into_iter().flatten();
        std::iter::once(group.clone()).chain(keys.map(move |(key, _)| below(group, key)))
    });
    let names = beside.chain(elsewhere).map(Name);
    match nearest(unknown, names) {
        // Short names are near to any other.
        Some((edits, Name(meant))) if edits <= TYPO.min(unknown.len() / 2) => {
            format!("did you mean {meant}?")
        }
        _ => format!("known there: {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
    }
}

/// A setting that is looked for by the last part of its path.
struct Name(String);

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or_default()
    }
}

/// What belongs there.
fn rule(schema: &Value) -> String {
    let kind = schema["type"].get(0).unwrap_or(&schema["type"]);
    let choices: Vec<&str> =
        schema["oneOf"].as_array().into_iter().flatten().filter_map(|one| one["const"].as_str()).collect();
    match (schema["format"].as_str(), kind.as_str(), schema["default"].as_str()) {
        (Some("duration"), ..) => {
            let bounds = bounds(&schema["formatMinimum"], &schema["formatMaximum"]);
            format!("must be a duration like 500ms, 10s, 5m or 24h{bounds}")
        }
        (Some("network"), ..) => "must be a network like 10.0.0.0/8 or fd00::/8".to_owned(),
        (_, Some("object"), _) => {
            let keys = schema["properties"].as_object().into_iter().flatten();
            format!("must have keys below it: {}", either(keys.map(|(key, _)| key.as_str())))
        }
        (_, Some("array"), _) => "must be a list".to_owned(),
        (_, Some("boolean"), _) => "must be true or false".to_owned(),
        (format, Some("integer"), _) => {
            let largest = Value::from(u32::MAX);
            let maximum = schema.get("maximum").or((format == Some("uint32")).then_some(&largest));
            format!("must be a whole number{}", bounds(&schema["minimum"], maximum.unwrap_or(&Value::Null)))
        }
        _ if !choices.is_empty() => format!("must be {}", either(choices)),
        (.., Some(example)) => format!("must be written like {example}"),
        _ => "must be a text".to_owned(),
    }
}

fn bounds(least: &Value, most: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (least, most) {
        (Value::Null, Value::Null) => String::new(),
        (least, Value::Null) => format!(", at least {}", plain(least)),
        (Value::Null, most) => format!(", at most {}", plain(most)),
        (least, most) => format!(", {} to {}", plain(least), plain(most)),
    }
}

fn either<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::tests::from_file;

    #[test]
    fn a_wrong_value_is_told_with_its_key_and_what_belongs_there() {
        for (yaml, told) in [
            ("threads: many", r#"threads is "many": must be a whole number, at least 1"#),
            (
                "limits: {connections: many}",
                r#"limits.connections is "many": must be a whole number, at least 1"#,
            ),
            ("limits: {tunnels: many}", r#"limits.tunnels is "many": must be a whole number, at least 1"#),
            ("limits: {streams: -1}", "limits.streams is -1: must be a whole number, 1 to 4294967295"),
            (
                "limits: {streams: 9999999999}",
                "limits.streams is 9999999999: must be a whole number, 1 to 4294967295",
            ),
            (
                "limits: {head_bytes: [1]}",
                "limits.head_bytes is a list: must be a whole number, at least 4096",
            ),
            ("limits: {head_bytes: }", "limits.head_bytes is blank: must be a whole number, at least 4096"),
            (
                "targets: {deny: [{ports: [22, 70000]}]}",
                "targets.deny[0].ports[1] is 70000: must be a whole number, 0 to 65535",
            ),
            (
                "targets: {deny: [{}, {cidrs: [10.0.0.0/8, 10.0.0.0/99]}]}",
                r#"targets.deny[1].cidrs[1] is "10.0.0.0/99": must be a network like 10.0.0.0/8 or fd00::/8"#,
            ),
            (
                "targets: {cluster: [pods]}",
                r#"targets.cluster[0] is "pods": must be a network like 10.0.0.0/8 or fd00::/8"#,
            ),
            ("targets: {deny: {ports: [22]}}", "targets.deny is a group of keys: must be a list"),
            (
                "targets: {deny: [22]}",
                "targets.deny[0] is 22: must have keys below it: cidrs, hosts, namespaces or ports",
            ),
            ("targets: {deny: [{hosts: [{a: 1}]}]}", "hosts[0] is a group of keys: must be a text"),
            ("upstream: {unverified: maybe}", r#"upstream.unverified is "maybe": must be pin, deny or skip"#),
            ("upstream: {plaintext: 1}", "upstream.plaintext is 1: must be warn or deny"),
            ("upstream: {h2: maybe}", r#"upstream.h2 is "maybe": must be true or false"#),
            (
                "timeouts: {connect: 5}",
                "timeouts.connect is 5: must be a duration like 500ms, 10s, 5m or 24h, 1ms to 8760h",
            ),
            (
                "upstream: {idle: 1d}",
                r#"upstream.idle is "1d": must be a duration like 500ms, 10s, 5m or 24h, at most 8760h"#,
            ),
            ("limits:", "limits is blank: must have keys below it: connections, connectors_per_login"),
            ("listeners: {http: 8080}", "listeners.http is 8080: must be written like 0.0.0.0:8080"),
            (
                "listeners: {http: 'localhost:80'}",
                r#"listeners.http is "localhost:80": must be written like 0.0.0.0:8080"#,
            ),
        ] {
            let refused = from_file(yaml).unwrap_err().to_string();
            assert!(refused.starts_with("settings: ") && refused.contains(told), "{yaml}: {refused}");
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_the_one_that_was_meant_or_with_those_that_are_there() {
        for (yaml, told) in [
            ("timeouts: {conect: 5s}", "timeouts.conect is no setting: did you mean timeouts.connect?"),
            ("limts: {}", "limts is no setting: did you mean limits?"),
            ("limits: {tunnels: 7, stream: 1}", "limits.stream is no setting: did you mean limits.streams?"),
            ("connect: 5s", "connect is no setting: did you mean timeouts.connect?"),
            (
                "targets: {deny: [{cidr: [10.0.0.0/8]}]}",
                "targets.deny[0].cidr is no setting: did you mean targets.deny[0].cidrs?",
            ),
            ("records: {colour: red}", "records.colour is no setting: known there: on_full"),
            (
                "targets: {deny: [{a: 1}]}",
                "deny[0].a is no setting: known there: cidrs, hosts, namespaces, ports",
            ),
        ] {
            let refused = from_file(yaml).unwrap_err().to_string();
            assert!(refused.starts_with("settings: ") && refused.contains(told), "{yaml}: {refused}");
        }
    }
}
