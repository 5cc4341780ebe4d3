//! The data path as its clients see it: an in-process gateway on a free port, real TLS targets, and clients that are curl, the h2 crate
//! and raw sockets. `world` builds all three.

mod bad_input;
mod http;
mod kubernetes;
mod pki;
mod streams;
mod target;
mod trust;
mod tunnels;
mod world;
