//! The keys of the settings, with what operators read of them: `schema` makes the reference and the chart's rules
//! from these types and their comments (`make crds`). `defaults` has the values, `settings` reads and validates.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::{self, LongerThanZero, MayBeZero};
use super::networks::Network;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub listeners: Listeners,
    /// Workers of the data plane: a connection lives on one of them, with its connections to targets. Where
    /// this is not set: one for each CPU that the container may use.
    #[schemars(range(min = 1), extend("x-takes-effect" = "restart"))]
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

/// Of the log: access records and all else.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-takes-effect" = "restart"))]
pub struct Records {
    /// What becomes of a line while nobody reads the log and 1 MiB of a worker's lines waits.
    pub on_full: OnFull,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFull {
    /// It is lost and counted.
    #[default]
    Drop,
    /// Whoever logs waits: no record is lost, and a reader that stalls stops the gateway.
    Wait,
}

/// Of `/metrics`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-takes-effect" = "restart"))]
pub struct MetricsSettings {
    /// Connectors with series of their own, the oldest first; all others are counted as one.
    #[schemars(range(min = 0, max = 10_000))]
    pub connectors: usize,
}

/// IP addresses to bind, each with its port.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-takes-effect" = "restart"))]
pub struct Listeners {
    /// CONNECT, absolute-form and reverse mode in the clear.
    pub http: SocketAddr,
    /// The same over TLS, with a certificate of the connector CA.
    pub https: SocketAddr,
    /// Metrics, health, readiness.
    pub admin: SocketAddr,
    /// Health and readiness for kubelet alone: the oldest connection makes room for the next.
    pub health: SocketAddr,
    /// Probes for the controller, over TLS with the connector CA.
    pub probe: SocketAddr,
}

/// Each holds for what begins after a change.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-takes-effect" = "at once"))]
pub struct Timeouts {
    /// From accept to the last byte of the first request head. A refusal that its client does not read waits as long.
    #[serde(with = "duration")]
    #[schemars(with = "LongerThanZero", extend("x-takes-effect" = "new connections"))]
    pub head: Duration,
    /// The client's TLS handshake, inside of a tunnel or on the https listener.
    #[serde(with = "duration")]
    #[schemars(with = "LongerThanZero", extend("x-takes-effect" = "new connections"))]
    pub handshake: Duration,
    /// Name resolution, TCP and TLS toward a target together.
    #[serde(with = "duration")]
    #[schemars(with = "LongerThanZero")]
    pub connect: Duration,
    /// From the last byte of a request to the target's response head; and how long a target may take nothing of a
    /// request that it has not begun to answer. Watches answer their head at once, so this never cuts one.
    #[serde(with = "duration")]
    #[schemars(with = "LongerThanZero")]
    pub response_header: Duration,
    /// An HTTP/2 connection, to a client or a target, gets a PING so long after its last answer to one.
    #[serde(with = "duration")]
    #[schemars(with = "LongerThanZero", extend("x-takes-effect" = "new connections"))]
    pub ping: Duration,
    /// How long the peer may take to answer a PING; then its streams end, so that watches are set up anew.
    #[serde(with = "duration")]
    #[schemars(with = "LongerThanZero", extend("x-takes-effect" = "new connections"))]
    pub pong: Duration,
    /// How long open streams may go on after SIGTERM; the process ends earlier when none is left. To be
    /// shorter than the Pod's grace period.
    #[serde(with = "duration")]
    #[schemars(with = "MayBeZero")]
    pub drain: Duration,
    /// One question to the home API server (TokenReview, SubjectAccessReview, a Secret).
    #[serde(with = "duration")]
    #[schemars(with = "LongerThanZero")]
    pub api_server: Duration,
}

/// `connections` and `head_bytes` go with the Pod's memory limit: raise them together.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-takes-effect" = "new connections"))]
pub struct Limits {
    /// Bytes of one request or response head; more is 431.
    #[schemars(range(min = 4096))]
    pub head_bytes: usize,
    /// Open client connections of one process; more are closed at once.
    #[serde(alias = "tunnels")]
    #[schemars(range(min = 1))]
    pub connections: usize,
    /// Connectors in one proxy login.
    #[schemars(range(min = 1, max = 16), extend("x-takes-effect" = "at once"))]
    pub connectors_per_login: usize,
    /// Concurrent HTTP/2 streams of one client connection.
    #[schemars(range(min = 1))]
    pub streams: u32,
}

/// Where the gateway may dial, checked after name resolution. Order: `deny`, `allow`, then the built-in
/// denials (link-local, metadata, loopback, `cluster`, and what `in_cluster` says of the home cluster); what
/// none of them names is allowed. Pooled connections that a change forbids end.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-takes-effect" = "next request"))]
pub struct Targets {
    /// Allowed although a built-in denial would match.
    pub allow: Vec<TargetRule>,
    /// Refused whatever else is said.
    pub deny: Vec<TargetRule>,
    /// Networks that count as the home cluster's beside those that the controller learns, refused except for
    /// its API server, also where `in_cluster` only observes.
    #[schemars(with = "Vec<Network>")]
    pub cluster: Vec<IpNet>,
    /// Services, Pods and nodes of the home cluster as targets.
    pub in_cluster: InCluster,
}

/// What to do with Services, Pods and nodes of the home cluster as targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InCluster {
    /// Count them and name them in the log.
    Observe,
    /// Refuse them.
    #[default]
    Deny,
}

/// Matches when each list that is not empty matches.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TargetRule {
    /// Networks of the target's addresses.
    #[schemars(with = "Vec<Network>")]
    pub cidrs: Vec<IpNet>,
    /// Exact names or `*.example.com`.
    pub hosts: Vec<String>,
    /// Of the target.
    pub ports: Vec<u16>,
    /// Namespaces of the connectors that it is for.
    pub namespaces: Vec<String>,
}

/// What to do with a target that no CA vouches for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Plaintext {
    /// Say so in the connector's status.
    #[default]
    Warn,
    /// Send nothing there: 403.
    Deny,
}

/// Connections to targets.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-takes-effect" = "at once"))]
pub struct UpstreamSettings {
    /// A target that no CA vouches for.
    #[schemars(extend("x-takes-effect" = "new upstream connections"))]
    pub unverified: Unverified,
    /// A target whose address is `http://`.
    #[schemars(extend("x-takes-effect" = "next request"))]
    pub plaintext: Plaintext,
    /// Targets that may be `http://` without a word.
    #[schemars(extend("x-takes-effect" = "next request"))]
    pub plaintext_allow: Vec<TargetRule>,
    /// Offer HTTP/2 to targets.
    pub h2: bool,
    /// Tell targets by `X-Forwarded-For`, `-Proto` and `-Host` where a request came from. What clients say of
    /// that is dropped either way.
    pub forwarded: bool,
    /// Idle connections of HTTP/1.1, and shared ones of HTTP/2, kept for each address of a target; each worker has its
    /// share.
    pub pool_size: usize,
    /// An idle upstream connection is closed after this time. Where a worker has several to one address, all but
    /// one are closed after this time divided by `threads`.
    #[serde(with = "duration")]
    #[schemars(with = "MayBeZero")]
    pub idle: Duration,
}

/// Who clients are.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-takes-effect" = "restart"))]
pub struct Tokens {
    /// Audience that a client's token must have.
    #[schemars(length(min = 1))]
    pub audience: String,
    /// A correctly signed token this long past its end still opens a tunnel without authority.
    #[serde(with = "duration")]
    #[schemars(with = "MayBeZero")]
    pub expired_grace: Duration,
    /// Tokens remembered, valid and refused together.
    pub cache_entries: u64,
}

/// What clients may do.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-takes-effect" = "restart"))]
pub struct Authorization {
    /// `get connectors` counts as use, for migration.
    pub get_is_use: bool,
    /// An answer older than this is asked for again.
    #[serde(with = "duration")]
    #[schemars(with = "LongerThanZero")]
    pub fresh: Duration,
    /// Without the API server, a yes stays valid this long after it was given. Not shorter than `fresh`.
    #[serde(with = "duration")]
    #[schemars(with = "LongerThanZero")]
    pub outage: Duration,
    /// Pairs of principal and connector remembered.
    pub cache_entries: u64,
}

impl Listeners {
    pub fn all(&self) -> [SocketAddr; 5] {
        [self.http, self.https, self.admin, self.health, self.probe]
    }
}

impl Settings {
    /// Worker threads of the data plane.
    pub fn worker_threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}
