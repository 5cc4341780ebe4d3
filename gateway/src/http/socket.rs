//! What connections to clients and to targets have in common.

use std::time::Duration;

use pingora_core::protocols::TcpKeepalive;

/// A client whose node is gone is found after idle + count × interval, two minutes; idle watches cost one packet a minute.
pub const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(20),
    count: 3,
    #[cfg(target_os = "linux")]
    // None: it would also cut a client that has merely stopped reading.
    user_timeout: Duration::ZERO,
};

/// Of both legs.
pub const GROUPS: &str = "X25519:P-256";
