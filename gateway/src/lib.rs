//! The data plane. A request walks through the files in this order:
//! `accept → entry → head → authenticate → route → authorize → tunnel (200, leaf, TLS) → request → credential → upstream → relay → record`.
//! Without a tunnel it takes `entry → head → reverse → request` and the same way from there.
//! `gateway.rs` holds what all stages share; `table` turns watched objects into the routing snapshot; `probe` asks the same stages on
//! behalf of the controller.

// A request or an idle connection holds the room of all that it may ever await: what is large and seldom is boxed (`clippy.toml`).
#![deny(clippy::large_futures)]

pub mod accept;
pub mod admin;
pub mod answers;
pub mod authenticate;
pub mod authorize;
pub mod ca;
pub mod cluster;
pub mod connections;
pub mod credential;
pub mod entry;
pub mod error;
pub mod front;
pub mod gateway;
pub mod head;
pub mod headers;
pub mod http2;
pub mod io;
pub mod leaf;
pub mod log;
pub mod metrics;
pub mod outward;
pub mod parts;
pub mod passage;
pub mod principal;
pub mod probe;
pub mod record;
pub mod relay;
pub mod request;
pub mod reverse;
pub mod route;
pub mod settings;
pub mod standalone;
pub mod status;
pub mod table;
pub mod target_policy;
pub mod tls;
pub mod trust;
pub mod tunnel;
pub mod upstream;
