//! Counts lost upgrades: so many (10,000 unless told) over WebSocket and as many over SPDY, 32 at a time, through an in-process gateway to
//! a target that answers 101 together with its first bytes. Fails if one is lost. `make test-upgrades` runs it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "shares the helpers of the tests")]
#![allow(clippy::print_stdout, reason = "the counts are what it is for")]

#[path = "../tests/stream/http.rs"]
mod http;
#[path = "../tests/stream/pki.rs"]
mod pki;
#[path = "../tests/stream/target.rs"]
mod target;
#[path = "../tests/stream/upgrade_load.rs"]
mod upgrade_load;
#[path = "../tests/stream/world.rs"]
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

const AT_ONCE: usize = 32;

#[tokio::main]
async fn main() -> ExitCode {
    let count = std::env::args().nth(1).map_or(10_000, |count| count.parse().expect("the number of upgrades"));
    let world = Arc::new(world::World::new().await);
    let target = upgrade_load::target(&world).await;
    world.connect("target", &target.url());
    let mut lost = 0;
    for protocol in [upgrade_load::WEBSOCKET, upgrade_load::SPDY] {
        let started = Instant::now();
        let outcome = upgrade_load::run(&world, &target, protocol, count, AT_ONCE).await;
        lost += count - outcome.done;
        println!(
            "{protocol}: {} of {count} whole, {} lost or wrong, {:.1?}",
            outcome.done,
            count - outcome.done,
            started.elapsed()
        );
        for why in outcome.failed.iter().take(10) {
            println!("  {why}");
        }
    }
    if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
