//! The data plane. A request walks through the files in this order:
//! `accept → head → authenticate → route → authorize → tunnel (200, leaf, TLS) → request → credential → upstream → relay → record`.
//! `gateway.rs` holds what all stages share; `table` turns watched objects into the routing snapshot; `probe` asks the same stages on
//! behalf of the controller.

pub mod accept;
pub mod admin;
pub mod answers;
pub mod authenticate;
pub mod authorize;
pub mod ca;
pub mod cluster;
pub mod connections;
pub mod credential;
pub mod error;
pub mod gateway;
pub mod head;
pub mod headers;
pub mod io;
pub mod leaf;
pub mod metrics;
pub mod parts;
pub mod principal;
pub mod probe;
pub mod record;
pub mod relay;
pub mod request;
pub mod route;
pub mod settings;
pub mod standalone;
pub mod status;
pub mod table;
pub mod target_policy;
pub mod trust;
pub mod tunnel;
pub mod upstream;
