//! From nothing to the first byte of an exec, as each `kubectl exec` opens a connection of its own: without a
//! proxy, through a gateway that has nothing open to the target, and through one that has. Once to a target
//! behind a delay, which counts round trips, once without.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Way, head_of};
use crate::delay;
use crate::lab::{DIRECT, Lab};
use crate::peers::Gateway;
use crate::protocol::Protocol;
use crate::report::{Bound, Figure};
use crate::stream::upgrade;

const COLD: &str = "gateway, nothing open";
const WARM: &str = "gateway, warm";
/// Before each exec: for whatever a gateway prepares after a request, and so that all three begin at rest.
const PREPARED: Duration = Duration::from_millis(300);

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>> {
    let round_trip = Duration::from_millis(lab.options.delay.max(1));
    let distant = delay::start(lab.target(Protocol::H1), round_trip).await?;
    let mut trips = Figure::new("exec to its first byte, far target", "round trips", [DIRECT, COLD, WARM]);
    // One at most, and none; the half is for what is no round trip.
    trips = trips.goal(COLD, Bound::Plus(1.5)).goal(WARM, Bound::Plus(0.5));
    let mut time = Figure::new("exec to its first byte, near target", "µs", [DIRECT, COLD, WARM]);
    for _ in 0..lab.options.rounds {
        for (way, taken) in compare(lab, distant).await?.into_iter().enumerate() {
            trips.add(way, taken.as_secs_f64() / round_trip.as_secs_f64());
        }
        for (way, taken) in compare(lab, lab.target(Protocol::H1)).await?.into_iter().enumerate() {
            time.add(way, taken.as_secs_f64() * 1e6);
        }
    }
    Ok(vec![trips, time])
}

/// Direct, through a new gateway, through the same when a request has been there before.
async fn compare(lab: &Lab, target: u16) -> Result<[Duration; 3]> {
    let direct = first_byte(lab, &Lab::direct_to(target, DIRECT)).await?;
    let gateway = Gateway::start(lab, &[("far", target)], 1).await?;
    let peer = gateway.tunnel("far", target);
    // A tunnel without a request: it brings in the leaf and nothing else.
    let unused = lab.client.open(&peer.way, Protocol::H1).await?;
    let cold = first_byte(lab, &peer.way).await?;
    let mut other = lab.client.connection(&peer.way, Protocol::H1).await?;
    other.exchange().await?;
    let warm = first_byte(lab, &peer.way).await?;
    drop((unused, other));
    Ok([direct, cold, warm])
}

async fn first_byte(lab: &Lab, way: &Way) -> Result<Duration> {
    tokio::time::sleep(PREPARED).await;
    let started = Instant::now();
    let mut tls = lab.client.open(way, Protocol::H1).await?;
    tls.write_all(upgrade(way, "/stream?bytes=1").as_bytes()).await?;
    let head = head_of(&mut tls).await?;
    ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
    tls.read_u8().await?;
    Ok(started.elapsed())
}
