//! The data plane. A request walks through the files in this order:
//! `accept → entry → head → authenticate → route → authorize → tunnel (200, leaf, TLS) → request → credential → upstream → relay → record`.
//! Without a tunnel it takes `entry → head → reverse → request` and the same way from there.
//! `gateway.rs` holds what all stages share; `table` turns watched objects into the routing snapshot; `probe` asks the same stages on
//! behalf of the controller.

// A request or an idle connection holds the room of all that it may ever await: what is large and seldom is boxed (`clippy.toml`).
#![deny(clippy::large_futures)]

pub mod admin;
pub mod admit;
pub mod connections;
pub mod error;
pub mod gateway;
pub mod home;
pub mod http;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod modes;
pub mod parts;
pub mod probe;
pub mod record;
pub mod relay;
pub mod serve;
pub mod settings;
pub mod standalone;
pub mod table;
pub mod tls;
pub mod upstream;
