//! Tuning: defaults < one YAML file < environment `CONNECTORS_GATEWAY__GROUP__KEY`, validated as a whole.
//! `settings/watch` swaps a changed file in; keys marked "restart" are read once at start.

mod defaults;
mod units;
pub mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use units::{duration, networks};

/// File name inside the mounted directory.
pub const FILE: &str = "gateway.yaml";
/// Environment variables `CONNECTORS_GATEWAY__TIMEOUTS__CONNECT=3s` win over the file.
const ENVIRONMENT: &str = "CONNECTORS_GATEWAY";

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub listeners: Listeners,
    /// Workers of the data plane. Default: the number of CPUs that the container may use. Restart.
    pub threads: Option<usize>,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub targets: Targets,
    pub upstream: UpstreamSettings,
    pub tokens: Tokens,
    pub authorization: Authorization,
    pub records: Records,
    pub metrics: MetricsSettings,
}

/// Of the log: access records and all else. Restart.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Records {
    /// What is done with a line while nobody reads the log and 1 MiB waits: `drop` or `wait`. Default drop.
    pub on_full: OnFull,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFull {
    /// Lost and counted.
    #[default]
    Drop,
    /// Whoever logs waits: no record is lost, and a reader that stalls stops the gateway.
    Wait,
}

/// Of `/metrics`. Restart.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSettings {
    /// Connectors with series of their own, the oldest first; all others are counted as one. At most 10000.
    /// Default 100.
    pub connectors: usize,
}

/// Addresses to bind. Restart.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listeners {
    /// CONNECT, absolute-form and origin-form over plain TCP. Default `0.0.0.0:8080`.
    pub http: SocketAddr,
    /// The same over TLS, with a certificate of the connector CA. Default `0.0.0.0:8443`.
    pub https: SocketAddr,
    /// Metrics, health, readiness. Default `0.0.0.0:9090`.
    pub admin: SocketAddr,
    /// Health and readiness for kubelet. Default `0.0.0.0:9091`.
    pub health: SocketAddr,
    /// Probes for the controller, over TLS with the connector CA. Default `0.0.0.0:9443`.
    pub probe: SocketAddr,
}

/// Text with a unit: `500ms`, `10s`, `5m`, `24h`, at most a year. Live, for what begins after the change.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// From accept to the last byte of the first request head. Default 10s.
    #[serde(deserialize_with = "duration")]
    pub head: Duration,
    /// The client's TLS handshake inside a tunnel or on the https listener. Default 10s.
    #[serde(deserialize_with = "duration")]
    pub handshake: Duration,
    /// Name resolution, TCP and TLS toward a target together. Default 5s.
    #[serde(deserialize_with = "duration")]
    pub connect: Duration,
    /// From the last byte of a request to the target's response head. Watches answer their head at once, so
    /// this never cuts one. Default 60s.
    #[serde(deserialize_with = "duration")]
    pub response_header: Duration,
    /// An HTTP/2 connection, to a client or a target, gets a PING so long after its last answer to one.
    /// Default 15s.
    #[serde(deserialize_with = "duration")]
    pub ping: Duration,
    /// How long the peer may take to answer a PING; then its streams end, so that watches are set up anew.
    /// Default 10s.
    #[serde(deserialize_with = "duration")]
    pub pong: Duration,
    /// How long open streams may go on after SIGTERM; the process ends earlier when none is left. Default
    /// 30s.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
    /// One question to the home API server (TokenReview, SubjectAccessReview, a Secret). Default 3s.
    #[serde(deserialize_with = "duration")]
    pub api_server: Duration,
}

/// Live, for new connections.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one request or response head; more is 431. Default 65536.
    pub head_bytes: usize,
    /// Open client connections of one process; more are closed at accept. Default 20000.
    #[serde(alias = "tunnels")]
    pub connections: usize,
    /// Connectors in one proxy login. Default 16.
    pub connectors_per_login: usize,
    /// Concurrent HTTP/2 streams of one client connection. Default 250.
    pub streams: u32,
}

/// Where the gateway may dial, checked after name resolution. Order: `deny`, `allow`, then the built-in
/// denials (link-local, metadata, loopback, `cluster`, and what `in_cluster` says of the home cluster); what
/// none of them names is allowed. Live; pooled connections that it forbids end.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Targets {
    /// Allowed although a built-in denial would match. Default: none.
    pub allow: Vec<TargetRule>,
    /// Refused whatever else is said. Default: none.
    pub deny: Vec<TargetRule>,
    /// Networks that count as the home cluster's beside those that the controller learns, refused except for
    /// its API server. Default: none.
    #[serde(deserialize_with = "networks")]
    pub cluster: Vec<IpNet>,
    /// `observe` or `deny`. Default deny.
    pub in_cluster: InCluster,
}

/// What to do with Services, Pods and nodes of the home cluster as targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InCluster {
    /// Count and name them in the log.
    Observe,
    /// Refuse them.
    #[default]
    Deny,
}

/// Matches when each non-empty list matches.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetRule {
    #[serde(deserialize_with = "networks")]
    pub cidrs: Vec<IpNet>,
    /// Exact names or `*.example.com`.
    pub hosts: Vec<String>,
    pub ports: Vec<u16>,
    /// Namespaces of the connectors that it is for.
    pub namespaces: Vec<String>,
}

/// What to do with a target that no CA vouches for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unverified {
    /// Take its CA or key at first contact and hold to it.
    #[default]
    Pin,
    /// Refuse it.
    Deny,
    /// Do not verify at all. The credential may reach an impostor.
    Skip,
}

/// What to do with an address that is http.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plaintext {
    /// Say so in the connector's status.
    #[default]
    Warn,
    /// Send nothing there.
    Deny,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamSettings {
    /// `pin`, `deny` or `skip`. Default pin. Live, for new upstream connections.
    pub unverified: Unverified,
    /// `warn` or `deny`. Default warn. Live.
    pub plaintext: Plaintext,
    /// Targets that may be http without a word. Default: none. Live.
    pub plaintext_allow: Vec<TargetRule>,
    /// Offer HTTP/2 to targets. Default true. Live.
    pub h2: bool,
    /// Tell targets by X-Forwarded-For, -Proto and -Host where a request came from. Default false. Live.
    pub forwarded: bool,
    /// Idle HTTP/1.1 connections kept for each address of a target. Default 128. Live.
    pub pool_size: usize,
    /// An idle upstream connection is closed after this time. Default 90s. Live.
    #[serde(deserialize_with = "duration")]
    pub idle: Duration,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// Audience that a client's token must have. Default `connectors.alauda.io`. Restart.
    pub audience: String,
    /// A correctly signed token this long past its end still opens a tunnel without authority. Default 24h.
    /// Restart.
    #[serde(deserialize_with = "duration")]
    pub expired_grace: Duration,
    /// Tokens remembered, valid and refused together. Default 50000. Restart.
    pub cache_entries: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// `get connectors` counts as use, for migration. Default false. Restart.
    pub get_is_use: bool,
    /// An answer older than this is asked for again. Default 10s. Restart.
    #[serde(deserialize_with = "duration")]
    pub fresh: Duration,
    /// Without the API server, a yes stays valid this long after it was given. Default 15m. Restart.
    #[serde(deserialize_with = "duration")]
    pub outage: Duration,
    /// Pairs of principal and connector remembered. Default 100000. Restart.
    pub cache_entries: u64,
}

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

impl Listeners {
    pub fn all(&self) -> [SocketAddr; 5] {
        [self.http, self.https, self.admin, self.health, self.probe]
    }
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

    /// Worker threads of the data plane.
    pub fn worker_threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
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
    use super::*;

    fn from_file(yaml: &str) -> Result<Settings, SettingsError> {
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
