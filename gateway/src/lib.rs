//! The data plane. A request walks through the files in this order:
//! `accept → head → authenticate → route → authorize → tunnel (200, leaf, TLS) → request → credential → upstream → relay → record`.
//! `gateway.rs` holds what all stages share; `table` turns watched objects into the routing snapshot; `probe` asks the same stages on
//! behalf of the controller.

pub mod answers;
pub mod authenticate;
pub mod authorize;
pub mod ca;
pub mod cluster;
pub mod credential;
pub mod metrics;
pub mod parts;
pub mod principal;
pub mod route;
pub mod settings;
pub mod status;
