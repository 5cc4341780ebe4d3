//! Thousands of idle watches: KiB of the peer for each, and its CPU while nothing happens. Over HTTP/2 they
//! are streams, as client-go's informers share a connection; over HTTP/1.1 each has two connections of its
//! own.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{self, Tls};
use crate::lab::{HAPROXY, Lab, Peer, TUNNEL};
use crate::protocol::Protocol;
use crate::report::{Bound, Figure};
use crate::server::times;

/// Streams of one connection: below the gateway's limit, and what it puts on one connection to a target.
const STREAMS: usize = 200;
const AT_ONCE: usize = 8;
const SETTLED: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(10);
/// Open files that a peer needs beside its watches.
const SPARE_FILES: u64 = 600;

/// Watches that are held by being kept.
enum Held {
    H1 { _streams: Vec<Tls> },
    H2 { _bodies: Vec<h2::RecvStream> },
}

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>> {
    let mut figures = compare(lab, Protocol::H2, lab.options.count(lab.options.watches)).await?;
    let possible = lab.open_files.saturating_sub(SPARE_FILES) / 2;
    let wanted = lab.options.count(lab.options.watches);
    let count = wanted.min(usize::try_from(possible).unwrap_or(wanted));
    if count < wanted {
        eprintln!(
            "h1: {count} watches in place of {wanted}, for a process may open {} files (ulimit -Hn)",
            lab.open_files
        );
    }
    figures.extend(compare(lab, Protocol::H1, count).await?);
    Ok(figures)
}

async fn compare(lab: &Lab, protocol: Protocol, count: usize) -> Result<Vec<Figure>> {
    let what = format!("{count} idle watches, {}", protocol.name());
    let mut memory = Figure::new(what.clone(), "KiB each", [HAPROXY, TUNNEL]);
    let mut cpu = Figure::new(what, "CPU, % of a core", [HAPROXY, TUNNEL]).goal(TUNNEL, Bound::Most(1.0));
    for way in 0..2 {
        let peer = if way == 0 { lab.haproxy(protocol).await? } else { lab.tunnel(protocol).await? };
        lab.client.connection(&peer.way, protocol).await?.exchange().await?;
        let before = peer.process.resident_kib()?;
        let held = hold(lab, &peer, protocol, count).await?;
        tokio::time::sleep(SETTLED).await;
        let (kib, started) = (peer.process.resident_kib()? - before, peer.process.cpu()?);
        tokio::time::sleep(WATCHED).await;
        memory.add(way, kib / count as f64);
        cpu.add(way, (peer.process.cpu()? - started) / WATCHED.as_secs_f64() * 100.0);
        drop(held);
    }
    Ok(vec![memory, cpu])
}

async fn hold(lab: &Lab, peer: &Peer, protocol: Protocol, count: usize) -> Result<Held> {
    match protocol {
        Protocol::H1 => {
            let opened = stream::iter(0..count).map(async |_| watch_h1(lab, peer).await);
            Ok(Held::H1 { _streams: opened.buffer_unordered(AT_ONCE).try_collect().await? })
        }
        Protocol::H2 => {
            let mut bodies = Vec::with_capacity(count);
            while bodies.len() < count {
                let mut send = client::h2(lab.client.open(&peer.way, Protocol::H2).await?).await?;
                for _ in 0..STREAMS.min(count - bodies.len()) {
                    bodies.push(watch_h2(&mut send, peer).await?);
                }
            }
            Ok(Held::H2 { _bodies: bodies })
        }
    }
}

async fn watch_h1(lab: &Lab, peer: &Peer) -> Result<Tls> {
    let mut tls = lab.client.open(&peer.way, Protocol::H1).await?;
    tls.write_all((peer.way.head("/quiet") + "\r\n").as_bytes()).await?;
    let mut text = Vec::with_capacity(512);
    loop {
        let n = tls.read_buf(&mut text).await?;
        ensure!(n > 0, "closed: {}", String::from_utf8_lossy(&text));
        if !times(&mut text.clone()).is_empty() {
            return Ok(tls);
        }
    }
}

async fn watch_h2(send: &mut h2::client::SendRequest<bytes::Bytes>, peer: &Peer) -> Result<h2::RecvStream> {
    let mut body = client::ask_h2(send, peer.way.request("/quiet")?).await?;
    let first = body.data().await.transpose()?;
    ensure!(first.is_some_and(|first| !first.is_empty()), "a watch without its first line");
    Ok(body)
}
