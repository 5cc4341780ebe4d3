//! The controller against a real API server, as the ServiceAccount and with exactly the rights that
//! config/rbac gives it. Where the gateway would probe a target, the fake beside its trait answers.

// The lints know #[test] functions; these are their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod admin;
mod between;
mod ca;
mod class;
mod classes;
mod connector;
mod deep;
mod events;
mod flux;
mod foreign;
mod leader;
mod logs;
mod mistakes;
mod neighbours;
mod outage;
mod prober;
mod ranges;
mod service;
mod tarpits;
mod throttled;
mod trust;
mod watches;
mod world;
