//! Tuning: defaults < one YAML file < environment `CONNECTORS_GATEWAY__GROUP__KEY`, validated as a whole.
//! `settings/keys` has them all, `settings/watch` swaps a changed file in; what takes effect at a restart is read
//! once at start.

mod defaults;
mod duration;
mod keys;
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

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A broken file, an unknown key or a value of the wrong kind; the text names the key.
    #[error("settings: {0}")]
    Unreadable(#[from] config::ConfigError),
    #[error("settings: {path} {what}: write the settings there, or {{}} for the defaults")]
    Absent { path: String, what: &'static str },
    #[error("settings: {key} is {value}: {rule}")]
    Invalid { key: &'static str, value: String, rule: &'static str },
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
        if read.get::<config::Value>("limits.tunnels").is_ok() {
            tracing::warn!(
                "limits.tunnels is called limits.connections now: the old name will not be known in the next release"
            );
        }
        let settings: Settings = read.try_deserialize()?;
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
            check(!value.is_zero(), key, value, "must be longer than zero")?;
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
        check(!self.tokens.audience.is_empty(), "tokens.audience", "empty", "must name an audience")
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
            read => Ok(read.is_ok_and(|value| value.is_mapping())),
        },
    }
}

fn absent(path: &Path, what: &'static str) -> SettingsError {
    SettingsError::Absent { path: path.display().to_string(), what }
}

fn check(
    holds: bool,
    key: &'static str,
    value: impl std::fmt::Debug,
    rule: &'static str,
) -> Result<(), SettingsError> {
    if holds { Ok(()) } else { Err(SettingsError::Invalid { key, value: format!("{value:?}"), rule }) }
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
        assert!(from_file("limits: {tunnels: 7, connections: 8}").is_err());
    }

    #[test]
    fn a_refused_file_is_told_by_key_and_value() {
        for (yaml, key, value) in [
            ("timeouts: {connect: soon}", "timeouts.connect", "soon"),
            ("timeouts: {connect: 0s}", "timeouts.connect", "0"),
            ("timeouts: {ping: 0s}", "timeouts.ping", "0"),
            ("timeouts: {conect: 5s}", "conect", "timeouts"),
            ("upstream: {unverified: maybe}", "unverified", "maybe"),
            ("limits: {connectors_per_login: 40}", "limits.connectors_per_login", "40"),
            ("targets: {deny: [{cidrs: [10.0.0.0/99]}]}", "cidrs", "10.0.0.0/99"),
            ("metrics: {connectors: 10001}", "metrics.connectors", "10001"),
            ("authorization: {outage: 1s}", "authorization.outage", "1s"),
            ("timeouts: {connect: 999999999999h}", "timeouts.connect", "999999999999h\" is too long"),
            ("timeouts: {drain: 8761h}", "timeouts.drain", "8761h\" is too long"),
        ] {
            let error = from_file(yaml).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(value), "{yaml}: {error}");
        }
    }
}
