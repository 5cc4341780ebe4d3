//! How long an event of a watch takes from the target's writing it to the client's having it. Each event says
//! when it was sent; both ends read the same clock.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{self, Way};
use crate::lab::{Lab, REVERSE, TUNNEL};
use crate::protocol::Protocol;
use crate::report::{Bound, Figure, median, quantile};
use crate::server::{now, times};

const EVENTS: usize = 400;
/// Far enough apart that none waits for another.
const EVERY: Duration = Duration::from_millis(3);
/// An event that is lost would be waited for otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for protocol in Protocol::ALL {
        figures.extend(compare(lab, protocol).await?);
    }
    Ok(figures)
}

async fn compare(lab: &Lab, protocol: Protocol) -> Result<Vec<Figure>> {
    let peers = lab.peers(protocol).await?;
    let ways: Vec<&Way> =
        std::iter::once(lab.direct(protocol)).chain(peers.iter().map(|peer| &peer.way)).collect();
    let names = || ways.iter().map(|way| way.name);
    let goal = Bound::Most(1_000.0);
    let mut middle = Figure::new(format!("event of a watch, {}, median", protocol.name()), "µs", names());
    middle = middle.goal(TUNNEL, goal).goal(REVERSE, goal);
    let mut late = Figure::new(format!("event of a watch, {}, 99 of 100", protocol.name()), "µs", names());
    for _ in 0..lab.options.rounds {
        for (index, way) in ways.iter().enumerate() {
            let delays = delays(lab, way, protocol).await?;
            middle.add(index, median(&delays));
            late.add(index, quantile(&delays, 0.99));
        }
    }
    Ok(vec![middle, late])
}

/// Microseconds.
async fn delays(lab: &Lab, way: &Way, protocol: Protocol) -> Result<Vec<f64>> {
    let count = lab.options.count(EVENTS);
    let path = format!("/events?count={count}&every={}", EVERY.as_micros());
    let tls = lab.client.open(way, protocol).await?;
    let seen = async {
        match protocol {
            Protocol::H1 => over_h1(tls, way.head(&path) + "\r\n", count).await,
            Protocol::H2 => over_h2(tls, way.request(&path)?, count).await,
        }
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .with_context(|| format!("events do not arrive, {}, {protocol:?}", way.name))?
}

async fn over_h1(mut tls: client::Tls, request: String, count: usize) -> Result<Vec<f64>> {
    tls.write_all(request.as_bytes()).await?;
    let (mut seen, mut body) = (Seen::default(), Unchunked::default());
    while seen.delays.len() < count {
        let mut buf = [0; 4096];
        let n = tls.read(&mut buf).await?;
        seen.take(&body.take(&buf[..n])?);
        ensure!(n > 0, "closed after {} events", seen.delays.len());
    }
    Ok(seen.delays)
}

async fn over_h2(tls: client::Tls, request: http::Request<()>, count: usize) -> Result<Vec<f64>> {
    let mut send = client::h2(tls).await?;
    let mut body = client::ask_h2(&mut send, request).await?;
    let mut seen = Seen::default();
    while seen.delays.len() < count {
        let Some(data) = body.data().await.transpose()? else {
            anyhow::bail!("ended after {} events", seen.delays.len())
        };
        seen.take(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(seen.delays)
}

#[derive(Default)]
struct Seen {
    text: Vec<u8>,
    delays: Vec<f64>,
}

impl Seen {
    fn take(&mut self, data: &[u8]) {
        let now = now();
        self.text.extend_from_slice(data);
        self.delays
            .extend(times(&mut self.text).into_iter().map(|sent| now.saturating_sub(sent) as f64 / 1e3));
    }
}

/// The body in an answer's bytes. A proxy may cut chunks as it likes, within an event too.
#[derive(Default)]
struct Unchunked {
    raw: Vec<u8>,
    head_seen: bool,
    left: usize,
}

impl Unchunked {
    fn take(&mut self, data: &[u8]) -> Result<Vec<u8>> {
        self.raw.extend_from_slice(data);
        let mut body = Vec::new();
        loop {
            let n = self.left.min(self.raw.len());
            body.extend(self.raw.drain(..n));
            self.left -= n;
            let Some(line) = self.line() else { return Ok(body) };
            if self.head_seen && line != b"\r\n" {
                self.left = usize::from_str_radix(std::str::from_utf8(&line)?.trim(), 16)?;
            }
            self.head_seen |= line == b"\r\n";
        }
    }

    /// None within a chunk, and before a line is whole.
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.raw.windows(2).position(|window| window == b"\r\n").filter(|_| self.left == 0)?;
        Some(self.raw.drain(..end + 2).collect())
    }
}
