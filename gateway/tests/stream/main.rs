//! The data path as its clients see it: an in-process gateway on a free port, real TLS targets, and clients
//! that are curl, the h2 crate and raw sockets. `world` builds all three.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that calls them"
)]

mod bad_input;
mod both;
mod crossing;
mod drains;
mod flow;
mod forward;
mod frames;
mod goaway;
mod h2spec;
mod hostile;
mod http;
mod impersonation;
mod kubectl_refusals;
mod kubernetes;
mod leaves;
mod loops;
mod model;
mod peers;
mod pieces;
mod pipe;
mod plaintext;
mod records;
mod refusals;
mod reverse;
mod streams;
mod surroundings;
mod target;
mod trust;
mod tunnels;
mod upgrade_load;
mod upgrades;
mod world;
