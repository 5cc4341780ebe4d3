//! What one tenant takes of the gateway's memory who asks for endless answers on many connections and reads none
//! of them, and whether others are served meanwhile. The goal is 60 % of the memory limit that is shipped.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;

use crate::client;
use crate::lab::{Lab, Peer, TUNNEL};
use crate::protocol::Protocol;
use crate::report::{Bound, Figure};

const CONNECTIONS: usize = 64;
/// Of each connection; `limits.streams` is 250.
const STREAMS: usize = 240;
const OTHERS: usize = 200;
/// MiB; the shipped limit is 1024.
const MOST: f64 = 0.6 * 1024.0;
/// Until everything that may wait for a stopped reader does.
const SETTLED: Duration = Duration::from_secs(3);
/// Others wait no longer.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>> {
    let (connections, streams) = (lab.options.count(CONNECTIONS), STREAMS);
    let what = format!("{connections} connections × {streams} streams that nobody reads");
    let mut memory = Figure::new(what, "MiB of memory", [TUNNEL]).goal(TUNNEL, Bound::Most(MOST));
    let peer = lab.tunnel(Protocol::H2).await?;
    let mut held = Vec::new();
    let mut most = 0f64;
    for _ in 0..connections {
        held.extend(stop(lab, &peer, streams).await?);
        most = most.max(peer.process.resident_kib()? / 1024.0);
    }
    tokio::time::sleep(SETTLED).await;
    let mut other = lab.client.connection(&peer.way, Protocol::H2).await?;
    let repeated = tokio::time::timeout(PATIENCE, other.repeat(OTHERS)).await;
    repeated.context("others are held up")??;
    memory.add(0, most.max(peer.process.resident_kib()? / 1024.0));
    drop(held);
    Ok(vec![memory])
}

/// A connection whose window is nothing from its beginning. A stream that the gateway ends is one less to hold.
async fn stop(lab: &Lab, peer: &Peer, count: usize) -> Result<Vec<h2::RecvStream>> {
    let tls = lab.client.open(&peer.way, Protocol::H2).await?;
    let mut stopped = h2::client::Builder::new();
    stopped.initial_window_size(0);
    let (mut send, connection) = stopped.handshake::<_, Bytes>(tls).await?;
    tokio::spawn(connection);
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        held.extend(client::ask_h2(&mut send, peer.way.request("/endless")?).await);
    }
    Ok(held)
}
