//! A real Kubernetes for tests and the demo, built from pinned Go modules and gone when the command ends.
//!
//! Tests start a [`ControlPlane`] (etcd and kube-apiserver on loopback, no root, seconds); the binary
//! `testenv` runs a command beside a whole node and a second cluster in private namespaces. [`tool`] builds
//! what either needs, once per machine. [`pki`] and [`eventually`] are what all tests need.

mod cgroup;
mod cluster;
mod control_plane;
pub mod deep;
mod docker_archive;
mod eventually;
mod images;
mod kubeconfig;
mod packages;
pub mod pki;
mod plan;
mod prerequisites;
pub mod process;
mod say;
mod scratch;
pub mod session;
mod token;
mod tools;

pub use control_plane::ControlPlane;
pub use eventually::{Look, eventually, within};
pub use kubeconfig::kubeconfig_in_the_clear;
pub use packages::{Step, packages};
pub use token::{signed_again, signing_key};
pub use tools::{manifest, tool, tool_names};
