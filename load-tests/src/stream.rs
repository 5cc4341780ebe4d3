//! A raw stream of 1 GiB through an upgrade, from the target to the client, as `kubectl cp` or a port-forward
//! sends it. Client and target each do TLS once, a proxy does it twice: with fewer than three free cores no
//! proxy can keep the speed of the direct way, so the CPU that it takes is told beside.

use std::time::Instant;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Way, head_of};
use crate::lab::{DIRECT, HAPROXY, Lab, TUNNEL};
use crate::protocol::Protocol;
use crate::report::{Bound, Figure};

const BYTES: usize = 1 << 30;
const MEBIBYTE: f64 = (1 << 20) as f64;

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>> {
    let bytes = lab.options.count(BYTES);
    let what = format!("stream of {} MiB through an upgrade", bytes >> 20);
    let mut speed =
        Figure::new(what.clone(), "MiB/s", [DIRECT, HAPROXY, TUNNEL]).goal(TUNNEL, Bound::AtLeast(0.8));
    let mut cpu = Figure::new(what.clone(), "CPU s per GiB", [HAPROXY, TUNNEL]);
    let mut growth =
        Figure::new(what, "KiB more at its peak", [HAPROXY, TUNNEL]).goal(TUNNEL, Bound::Most(2048.0));
    let peers = [lab.haproxy(Protocol::H1).await?, lab.tunnel(Protocol::H1).await?];
    for peer in &peers {
        receive(lab, &peer.way, bytes.min(1 << 20)).await?;
    }
    for _ in 0..lab.options.rounds.min(3) {
        speed.add(0, receive(lab, lab.direct(Protocol::H1), bytes).await?);
        for (index, peer) in peers.iter().enumerate() {
            peer.process.forget_peak()?;
            let (cpu_before, before) = (peer.process.cpu()?, peer.process.peak_kib()?);
            speed.add(index + 1, receive(lab, &peer.way, bytes).await?);
            cpu.add(index, (peer.process.cpu()? - cpu_before) * BYTES as f64 / bytes as f64);
            growth.add(index, peer.process.peak_kib()? - before);
        }
    }
    Ok(vec![speed, cpu, growth])
}

/// MiB per second.
async fn receive(lab: &Lab, way: &Way, bytes: usize) -> Result<f64> {
    let mut tls = lab.client.open(way, Protocol::H1).await?;
    tls.write_all(upgrade(way, &format!("/stream?bytes={bytes}")).as_bytes()).await?;
    let head = head_of(&mut tls).await?;
    ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let started = Instant::now();
    let mut buf = vec![0; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let n = tls.read(&mut buf).await?;
        ensure!(n > 0 && n <= left, "{n} bytes where {left} were to come");
        left -= n;
    }
    Ok(bytes as f64 / MEBIBYTE / started.elapsed().as_secs_f64())
}

/// As client-go asks for an exec.
pub fn upgrade(way: &Way, path: &str) -> String {
    way.head(path)
        + "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
           sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n"
}
