//! An installation that Prometheus looks at, under load and in trouble: gateway and controller as processes beside a real
//! API server (`installation`), a target and clients of our own (`target`, `client`, `traffic`), and the course of
//! events (`course`). What dashboards and alerts ask stands in `queries`; `plot` draws it.

mod client;
pub mod course;
mod installation;
pub mod plot;
mod prometheus;
pub mod queries;
mod target;
mod traffic;

pub use course::{Course, Past};
pub use prometheus::Series;
