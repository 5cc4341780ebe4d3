//! The whole driver as kubelet sees it: a real API server, the real sockets, real mounts in a mount namespace
//! of the tests' own.
//!
//! `namespace` makes the mounts private, `cluster` has the API server and its objects, `kubelet` makes
//! kubelet's calls.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

mod calls;
mod cluster;
mod kubelet;
mod logs;
mod namespace;
mod publish;
mod refusals;
mod registration;
mod republish;
mod room;
mod sanity;
mod secrets;
mod unpublish;
