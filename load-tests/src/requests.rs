//! CPU seconds per 100,000 requests of 1 KiB over kept connections, how many a second these were, and the time
//! that 99 of 100 stay below: HAProxy, then the gateway in a tunnel and in reverse mode. Handshakes and a
//! warm-up lie before the count.

use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use futures::future::try_join_all;

use crate::client::Connection;
use crate::lab::{Lab, Peer, REVERSE, TUNNEL};
use crate::latency::times;
use crate::process::Process;
use crate::protocol::Protocol;
use crate::report::{Bound, Figure, quantile};

const REQUESTS: usize = 20_000;
const WARM_UP: usize = 1_000;

struct Run {
    process: Rc<Process>,
    workers: Vec<Connection>,
}

pub async fn h1(lab: &Lab, connections: usize) -> Result<Vec<Figure>> {
    let bound = Bound::Times(if connections == 1 { 1.0 } else { 1.2 });
    compare(lab, format!("h1 keep-alive, connections: {connections}"), Protocol::H1, connections, 1, bound)
        .await
}

pub async fn h2(lab: &Lab) -> Result<Vec<Figure>> {
    compare(
        lab,
        "h2 on both legs, 4 connections × 8 streams".to_owned(),
        Protocol::H2,
        4,
        8,
        Bound::Times(1.4),
    )
    .await
}

async fn compare(
    lab: &Lab,
    what: String,
    protocol: Protocol,
    connections: usize,
    streams: usize,
    bound: Bound,
) -> Result<Vec<Figure>> {
    let mut runs = Vec::new();
    let mut names = Vec::new();
    for peer in lab.peers(protocol).await? {
        names.push(peer.way.name);
        runs.push(Run::open(lab, peer, protocol, connections, streams).await?);
    }
    let mut cpu = Figure::new(what.clone(), "CPU s per 100,000 requests", names.iter().copied());
    cpu = cpu.goal(TUNNEL, bound).goal(REVERSE, bound);
    let mut rate = Figure::new(what.clone(), "requests per second", names.iter().copied());
    let mut late = Figure::new(what, "µs, 99 of 100", names);
    for run in &mut runs {
        run.work(lab.options.count(WARM_UP)).await?;
    }
    for _ in 0..lab.options.rounds {
        for (way, run) in runs.iter_mut().enumerate() {
            let (before, started) = (run.process.cpu()?, Instant::now());
            let times = run.work(lab.options.count(REQUESTS)).await?;
            let count = times.len() as f64;
            rate.add(way, count / started.elapsed().as_secs_f64());
            cpu.add(way, (run.process.cpu()? - before) * 100_000.0 / count);
            late.add(way, quantile(&times, 0.99));
        }
    }
    Ok(vec![cpu, rate, late])
}

impl Run {
    async fn open(
        lab: &Lab,
        peer: Peer,
        protocol: Protocol,
        connections: usize,
        streams: usize,
    ) -> Result<Run> {
        let mut workers = Vec::new();
        for _ in 0..connections {
            let connection = lab.client.connection(&peer.way, protocol).await?;
            workers.extend((1..streams).filter_map(|_| connection.stream()));
            workers.push(connection);
        }
        Ok(Run { process: peer.process, workers })
    }

    /// At least so many requests, shared by the workers; gives the time of each.
    async fn work(&mut self, count: usize) -> Result<Vec<f64>> {
        let each = count.div_ceil(self.workers.len());
        let times = try_join_all(self.workers.iter_mut().map(|worker| times(worker, each))).await?;
        Ok(times.concat())
    }
}
