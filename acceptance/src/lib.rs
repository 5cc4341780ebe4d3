//! The product as its users meet it. `start` brings a test program beside a real node, `cluster` is what it
//! sees there, `clients` and `matrix` run client programs through the gateway, `pages` follows what `docs/` says, `monitored`
//! lets Prometheus look at it. The tests: `config` (what is
//! installed, on a real API server), `node_product` (on a real node), `clients` (nine clients; minutes).

pub mod clients;
pub mod cluster;
pub mod matrix;
pub mod monitored;
pub mod pages;
pub mod start;
