//! Tuning: defaults < one YAML file < environment `CONNECTORS_GATEWAY__GROUP__KEY`, validated as a whole.
//! `settings/keys` has them all, `settings/watch` swaps a changed file in; what takes effect at a restart is read
//! once at start.

mod defaults;
mod duration;
mod keys;
mod mistake;
mod networks;
mod restart;
mod schema;
pub mod watch;

use std::path::Path;

pub use keys::{
    Authorization, InCluster, Limits, Listeners, MetricsSettings, OnFull, Plaintext, Records, Settings,
    TargetRule, Targets, Timeouts, Tokens, Unverified, UpstreamSettings,
};
pub use schema::schema;

/// File name inside the mounted directory.
pub const FILE: &str = "gateway.yaml";
/// Environment variables `CONNECTORS_GATEWAY__TIMEOUTS__CONNECT=3s` win over the file.
const ENVIRONMENT: &str = "CONNECTORS_GATEWAY";
/// A setting that was renamed, known by both names for one release.
const OLD_NAME: (&str, &str) = ("limits.tunnels", "limits.connections");

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No YAML; the text says where.
    #[error("settings: {0}")]
    Unreadable(#[from] config::ConfigError),
    #[error("settings: {path} {what}: write the settings there, or {{}} for the defaults")]
    Absent { path: String, what: &'static str },
    #[error("settings: {key} is {value}: {rule}")]
    Invalid { key: String, value: String, rule: String },
    #[error("settings: {setting}{place} is no setting: {instead}")]
    Unknown { setting: String, place: String, instead: String },
}

impl Settings {
    /// Reads `gateway.yaml` of the directory and the environment. Without `required` a missing file means
    /// defaults.
    pub fn load(directory: &Path, required: bool) -> Result<Settings, SettingsError> {
        let path = directory.join(FILE);
        let written = if required { Some(written(&path)?) } else { None };
        let file = config::File::from(path.clone()).format(config::FileFormat::Yaml).required(required);
        let builder = config::Config::builder().add_source(file);
        let environment = config::Environment::with_prefix(ENVIRONMENT)
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true);
        let read = builder.add_source(environment).build()?;
        // After the file was read, since a mistake in it has its own words by then.
        if written == Some(false) {
            return Err(absent(&path, "holds no settings, or YAML that not every reader takes"));
        }
        renamed(&read)?;
        let settings: Settings =
            read.clone().try_deserialize().map_err(|error| mistake::explain(&read, error))?;
        settings.validate()?;
        Ok(settings)
    }

    fn validate(&self) -> Result<(), SettingsError> {
        let timeouts = &self.timeouts;
        for (key, value) in [
            ("timeouts.head", timeouts.head),
            ("timeouts.handshake", timeouts.handshake),
            ("timeouts.connect", timeouts.connect),
            ("timeouts.response_header", timeouts.response_header),
            ("timeouts.ping", timeouts.ping),
            ("timeouts.pong", timeouts.pong),
            ("timeouts.api_server", timeouts.api_server),
            ("authorization.fresh", self.authorization.fresh),
        ] {
            check(!value.is_zero(), key, format_args!("0s"), "must be longer than zero")?;
        }
        let limits = &self.limits;
        check(limits.head_bytes >= 4096, "limits.head_bytes", limits.head_bytes, "must be at least 4096")?;
        check(limits.connections > 0, "limits.connections", limits.connections, "must be at least 1")?;
        check(limits.streams > 0, "limits.streams", limits.streams, "must be at least 1")?;
        let logins = limits.connectors_per_login;
        check((1..=16).contains(&logins), "limits.connectors_per_login", logins, "must be 1 to 16")?;
        check(self.threads != Some(0), "threads", 0, "must be at least 1")?;
        let connectors = self.metrics.connectors;
        check(connectors <= 10_000, "metrics.connectors", connectors, "must be at most 10000")?;
        let authorization = &self.authorization;
        check(
            authorization.outage >= authorization.fresh,
            "authorization.outage",
            authorization.outage,
            "must not be shorter than authorization.fresh",
        )?;
        check(!self.tokens.audience.is_empty(), "tokens.audience", "", "must name an audience")
    }
}

/// Whether there are keys and values in the file, or `{}`. What is missing or blank is a mistake of somebody's, not a
/// wish for defaults: rules that deny would be gone. Readers of YAML differ in what is blank (a tab): what only one of
/// them takes for nothing is no settings either.
fn written(path: &Path) -> Result<bool, SettingsError> {
    match std::fs::read_to_string(path) {
        Err(_) => Err(absent(path, "cannot be read")),
        Ok(text) => match serde_yaml_ng::from_str::<serde_yaml_ng::Value>(&text) {
            Ok(serde_yaml_ng::Value::Null) => Err(absent(path, "is blank")),
            Ok(value) if !value.is_mapping() => Err(absent(path, "holds no keys")),
            read => Ok(read.is_ok()),
        },
    }
}

fn renamed(read: &config::Config) -> Result<(), SettingsError> {
    let (old, new) = OLD_NAME;
    let given = |key| read.get::<serde_json::Value>(key).ok();
    let Some(value) = given(old) else { return Ok(()) };
    let both = format!("its new name {new} is there too, write that alone");
    check(given(new).is_none(), old, format_args!("{value}"), &both)?;
    tracing::warn!("{old} is called {new} now: the old name will not be known in the next release");
    Ok(())
}

fn absent(path: &Path, what: &'static str) -> SettingsError {
    SettingsError::Absent { path: path.display().to_string(), what }
}

fn check(holds: bool, key: &str, value: impl std::fmt::Debug, rule: &str) -> Result<(), SettingsError> {
    if holds {
        return Ok(());
    }
    let value = format!("{value:?}{}", mistake::place(key));
    Err(SettingsError::Invalid { key: key.to_owned(), value, rule: rule.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    pub(super) fn from_file(yaml: &str) -> Result<Settings, SettingsError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), yaml).unwrap();
        Settings::load(directory.path(), true)
    }

    #[test]
    fn an_absent_file_means_defaults_only_where_none_is_required() {
        let nowhere = tempfile::tempdir().unwrap();
        assert_eq!(Settings::load(nowhere.path(), false).unwrap(), Settings::default());
        let refused = Settings::load(nowhere.path(), true).unwrap_err().to_string();
        assert!(
            refused
                .ends_with("gateway.yaml cannot be read: write the settings there, or {} for the defaults"),
            "{refused}"
        );
    }

    #[test]
    fn a_blank_file_is_a_mistake_and_an_empty_object_means_defaults() {
        for blank in ["", " \n\n", "# limits: {streams: 1}\n", "---\n", "null"] {
            let refused = from_file(blank).unwrap_err().to_string();
            assert!(
                refused.contains("gateway.yaml is blank: write the settings there, or {}"),
                "{blank:?}: {refused}"
            );
        }
        // One reader takes a tab for nothing, another for no YAML.
        for other in ["\t", "\t\n# a comment\n"] {
            let refused = from_file(other).unwrap_err().to_string();
            assert!(refused.contains("gateway.yaml"), "{other:?}: {refused}");
        }
        assert_eq!(from_file("{}").unwrap(), Settings::default());
    }

    #[test]
    fn keys_of_the_file_replace_defaults_one_by_one() {
        let yaml = "timeouts: {connect: 500ms, drain: 2m}\nupstream: {unverified: deny}\ntargets: {allow: [{cidrs: [127.0.0.0/8], ports: [6443]}]}";
        let settings = from_file(yaml).unwrap();
        assert_eq!(settings.timeouts.connect, Duration::from_millis(500));
        assert_eq!(settings.timeouts.drain, Duration::from_secs(120));
        assert_eq!(settings.timeouts.head, Duration::from_secs(10));
        assert_eq!(settings.upstream.unverified, Unverified::Deny);
        assert_eq!(settings.targets.allow[0].ports, [6443]);
    }

    #[test]
    fn an_old_name_of_a_key_still_works_and_not_beside_the_new_one() {
        assert_eq!(from_file("limits: {tunnels: 7}").unwrap().limits.connections, 7);
        let refused = from_file("limits: {tunnels: 7, connections: 8}").unwrap_err().to_string();
        assert_eq!(
            refused,
            "settings: limits.tunnels is 7: its new name limits.connections is there too, write that alone"
        );
    }

    #[test]
    fn a_value_out_of_bounds_is_told_with_its_key_and_the_bound() {
        for (yaml, told) in [
            ("timeouts: {connect: 0s}", "timeouts.connect is 0s: must be longer than zero"),
            ("timeouts: {ping: 0s}", "timeouts.ping is 0s: must be longer than zero"),
            ("limits: {connectors_per_login: 40}", "limits.connectors_per_login is 40: must be 1 to 16"),
            ("metrics: {connectors: 10001}", "metrics.connectors is 10001: must be at most 10000"),
            (
                "authorization: {outage: 1s}",
                "authorization.outage is 1s: must not be shorter than authorization.fresh",
            ),
            ("tokens: {audience: ''}", r#"tokens.audience is "": must name an audience"#),
        ] {
            assert_eq!(from_file(yaml).unwrap_err().to_string(), format!("settings: {told}"), "{yaml}");
        }
    }

    #[test]
    fn a_file_that_is_no_group_of_keys_is_told_so_and_broken_yaml_by_its_line() {
        for (yaml, told) in [
            ("- a", "gateway.yaml holds no keys: write the settings there"),
            ("a text", "gateway.yaml holds no keys: write the settings there"),
            ("limits:\n  streams: [1", "line 3"),
        ] {
            let refused = from_file(yaml).unwrap_err().to_string();
            assert!(refused.contains(told), "{yaml}: {refused}");
        }
    }
}
