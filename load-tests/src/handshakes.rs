//! CPU µs of the peer per new tunnel: CONNECT, a full handshake with the client, one request over a kept
//! connection to the target. HAProxy and reverse mode do the same without the CONNECT.

use anyhow::Result;

use crate::lab::{Lab, Peer, TUNNEL};
use crate::protocol::Protocol;
use crate::report::{Bound, Figure};

const TUNNELS: usize = 1_000;
const WARM_UP: usize = 50;

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>> {
    let peers = lab.peers(Protocol::H1).await?;
    let mut figure = Figure::new(
        "new tunnel: CONNECT, handshake, one request",
        "CPU µs",
        peers.iter().map(|peer| peer.way.name),
    );
    // 300 µs where HAProxy took 319 (DESIGN.md, section 5): as a ratio it holds on other machines too.
    figure = figure.goal(TUNNEL, Bound::Times(0.94));
    for peer in &peers {
        tunnels(lab, peer, WARM_UP).await?;
    }
    let count = lab.options.count(TUNNELS);
    for _ in 0..lab.options.rounds {
        for (way, peer) in peers.iter().enumerate() {
            let before = peer.process.cpu()?;
            tunnels(lab, peer, count).await?;
            figure.add(way, (peer.process.cpu()? - before) * 1e6 / count as f64);
        }
    }
    Ok(vec![figure])
}

async fn tunnels(lab: &Lab, peer: &Peer, count: usize) -> Result<()> {
    for _ in 0..count {
        lab.client.connection(&peer.way, Protocol::H1).await?.exchange().await?;
    }
    Ok(())
}
