//! The data plane. The folders are the way of a request, in this order: `listen` (accept, first head) →
//! `modes` (a tunnel, or none: where do its requests belong?) → `serve` (the list of what each request goes
//! through) → `admit` (who, where, by whose leave) → `upstream` (a verified connection) → `relay` (bytes,
//! both ways) → `record`. `http`, `tls`, `home`, `table`, `error`, `settings`, `flags` and `log` are the ground.
//! `gateway` holds what all stages share; `table` turns watched objects into the routing snapshot; `probe`
//! asks the same stages on behalf of the controller.

// A request or an idle connection holds the room of all that it may ever await: what is large and seldom is
// boxed (`clippy.toml`).
#![deny(clippy::large_futures)]

pub mod admin;
pub mod admit;
pub mod connections;
pub mod error;
pub mod flags;
pub mod gateway;
pub mod home;
pub mod http;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod modes;
pub mod probe;
pub mod record;
pub mod relay;
pub mod serve;
pub mod settings;
pub mod standalone;
pub mod table;
pub mod tls;
pub mod upstream;
pub mod workers;
