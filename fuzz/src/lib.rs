//! What strangers write, in any shape. A target is one parser and what must hold of its answer, whatever it is
//! given: `tests/short` gives each some thousand inputs, `make fuzz` as many as fit into its time.
//!
//! An input that once broke something stays in `seeds/<target>/`, where both begin.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a target fails by panicking")]

mod targets;

pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Words of its language, for whoever makes inputs up.
    pub words: &'static [&'static str],
}

pub fn targets() -> [Target; 11] {
    targets::all()
}

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}
