//! What readers that stop cost the others: the time of one request over HTTP/2, without and with 50 clients,
//! each in a tunnel of its own, that ask for an endless answer and never read it. All of them share the
//! connection to the target.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::client;
use crate::lab::{Lab, Peer};
use crate::latency::times;
use crate::protocol::Protocol;
use crate::report::{Bound, Figure, median, quantile};

const STOPPED: usize = 50;
const REQUESTS: usize = 5_000;
const NOBODY: &str = "nobody stops";
const STOP: &str = "50 readers stop";
/// Until everything that may wait for a stopped reader does.
const SETTLED: Duration = Duration::from_secs(1);
/// A request that is held up would be waited for otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>> {
    let ways = [NOBODY, STOP];
    let mut middle = Figure::new("one h2 request beside stopped readers, median", "µs", ways);
    let mut late = Figure::new("one h2 request beside stopped readers, 99 of 100", "µs", ways)
        .goal(STOP, Bound::Times(1.2));
    let peer = lab.tunnel(Protocol::H2).await?;
    let mut connection = lab.client.connection(&peer.way, Protocol::H2).await?;
    let count = lab.options.count(REQUESTS);
    connection.repeat(count / 5 + 1).await?;
    for _ in 0..lab.options.rounds {
        for (way, readers) in [0, STOPPED].into_iter().enumerate() {
            let held = stop(lab, &peer, readers).await?;
            tokio::time::sleep(SETTLED).await;
            let times = tokio::time::timeout(PATIENCE, times(&mut connection, count))
                .await
                .context("they hold up the others")??;
            middle.add(way, median(&times));
            late.add(way, quantile(&times, 0.99));
            drop(held);
        }
    }
    Ok(vec![middle, late])
}

/// Readers that stop after the head, for as long as they are kept.
async fn stop(lab: &Lab, peer: &Peer, count: usize) -> Result<Vec<h2::RecvStream>> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut send = client::h2(lab.client.open(&peer.way, Protocol::H2).await?).await?;
        held.push(client::ask_h2(&mut send, peer.way.request("/endless")?).await?);
    }
    Ok(held)
}
