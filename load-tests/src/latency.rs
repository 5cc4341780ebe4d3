//! The time of one request over one kept connection, without load beside it: without a proxy and through
//! each.

use std::time::Instant;

use anyhow::Result;

use crate::client::Connection;
use crate::lab::{Lab, TUNNEL};
use crate::protocol::Protocol;
use crate::report::{Bound, Figure, median};

const REQUESTS: usize = 5_000;

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for protocol in Protocol::ALL {
        figures.push(compare(lab, protocol).await?);
    }
    Ok(figures)
}

async fn compare(lab: &Lab, protocol: Protocol) -> Result<Figure> {
    let direct = lab.direct(protocol);
    let peers = lab.peers(protocol).await?;
    let mut connections = vec![lab.client.connection(direct, protocol).await?];
    for peer in &peers {
        connections.push(lab.client.connection(&peer.way, protocol).await?);
    }
    let names = std::iter::once(direct.name).chain(peers.iter().map(|peer| peer.way.name));
    let mut figure = Figure::new(format!("one {} request, median", protocol.name()), "µs", names);
    if protocol == Protocol::H1 {
        figure = figure.goal(TUNNEL, Bound::Plus(25.0));
    }
    let count = lab.options.count(REQUESTS);
    for connection in &mut connections {
        connection.repeat(count / 5 + 1).await?;
    }
    for _ in 0..lab.options.rounds {
        for (way, connection) in connections.iter_mut().enumerate() {
            figure.add(way, median(&times(connection, count).await?));
        }
    }
    Ok(figure)
}

/// Microseconds.
pub async fn times(connection: &mut Connection, count: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        connection.exchange().await?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}
