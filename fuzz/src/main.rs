//! One target under libFuzzer, which has the main function; `fuzz/run.sh` calls it.
//!
//! `CONNECTORS_FUZZ_TARGET` names the target. Without it the names are printed, one a line.

#![no_main]
#![allow(clippy::exit, clippy::print_stdout, reason = "libFuzzer knows no other way to end before it begins")]

use std::sync::OnceLock;

use connectors_fuzz::{Target, target, targets};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn chosen() -> &'static Target {
    TARGET.get_or_init(|| match std::env::var("CONNECTORS_FUZZ_TARGET").ok().as_deref().map(target) {
        Some(Some(target)) => target,
        _ => {
            targets().iter().for_each(|target| println!("{}", target.name));
            std::process::exit(0)
        }
    })
}

fuzz_target!(init: { chosen(); }, |data: &[u8]| (chosen().run)(data));
