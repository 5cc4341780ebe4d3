//! KiB of resident memory per idle connection that has carried one request, and the CPU that holding them
//! takes. Each peer is started anew: a process keeps what it had once. The kernel's socket buffers are
//! nobody's here.

use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use crate::client::Connection;
use crate::lab::{BARE, HAPROXY, Lab, Peer, TUNNEL};
use crate::protocol::Protocol;
use crate::report::{Bound, Figure};

/// Code and tables that any connection brings in are not a tunnel's.
const WARM_UP: usize = 20;
/// Handshakes at once.
const AT_ONCE: usize = 8;
const SETTLED: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(5);
/// With many connections one round takes long, and their number evens the noise out.
const MANY: usize = 2_000;

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for protocol in Protocol::ALL {
        figures.extend(compare(lab, protocol).await?);
    }
    Ok(figures)
}

async fn compare(lab: &Lab, protocol: Protocol) -> Result<Vec<Figure>> {
    let count = lab.options.count(lab.options.idle);
    let what = format!("{count} idle {} tunnels", protocol.name());
    let ways = [BARE, HAPROXY, TUNNEL];
    let mut memory = Figure::new(what.clone(), "KiB each", ways).goal(TUNNEL, Bound::Plus(6.0));
    let mut cpu = Figure::new(what, "CPU, % of a core", [TUNNEL]).goal(TUNNEL, Bound::Most(1.0));
    let rounds = if count > MANY { 1 } else { lab.options.rounds.min(2) };
    for round in 0..rounds {
        let peers =
            [lab.server(protocol, BARE).await?, lab.haproxy(protocol).await?, lab.tunnel(protocol).await?];
        for (way, peer) in peers.iter().enumerate() {
            let warm = open(lab, peer, protocol, WARM_UP).await?;
            let before = peer.process.resident_kib()?;
            let held = open(lab, peer, protocol, count).await?;
            tokio::time::sleep(SETTLED).await;
            memory.add(way, (peer.process.resident_kib()? - before) / count as f64);
            if round == 0 && peer.way.name == TUNNEL {
                cpu.add(0, percent(peer).await?);
            }
            drop((warm, held));
        }
    }
    Ok(vec![memory, cpu])
}

/// Of a core, while nothing happens.
async fn percent(peer: &Peer) -> Result<f64> {
    let before = peer.process.cpu()?;
    tokio::time::sleep(WATCHED).await;
    Ok((peer.process.cpu()? - before) / WATCHED.as_secs_f64() * 100.0)
}

async fn open(lab: &Lab, peer: &Peer, protocol: Protocol, count: usize) -> Result<Vec<Connection>> {
    let opened = stream::iter(0..count).map(async |_| {
        let mut connection = lab.client.connection(&peer.way, protocol).await?;
        connection.exchange().await?;
        anyhow::Ok(connection)
    });
    opened.buffer_unordered(AT_ONCE).try_collect().await
}
