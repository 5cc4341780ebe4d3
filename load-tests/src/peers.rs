//! What stands between client and target: each a process of its own, configured for the same
//! work.

pub mod gateway;
pub mod haproxy;

pub use gateway::Gateway;
pub use haproxy::Haproxy;
