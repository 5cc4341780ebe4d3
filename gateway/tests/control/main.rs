//! The deciding half of the gateway against a real API server, under the RBAC of `config/`: tokens, grants,
//! the routing table, credentials, probes, settings, outages. `world` starts all of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

mod api_server;
mod grants;
mod kubectl;
mod logs;
mod outage;
mod ports;
mod probes;
mod process;
mod settings;
mod table;
mod tokens;
mod world;
