//! What the gateway costs: CPU seconds per 100,000 keep-alive requests of 1 KiB, CPU per new tunnel, KiB per idle tunnel, added latency.
//! Starts a target, the real gateway binary without a cluster on one worker thread, and clients; reads the gateway's /proc entries.
//!
//! `cargo build --release -p connectors-gateway --bins && cargo run --release -p connectors-gateway --example bench -- target/release/connectors-gateway`

#![allow(clippy::print_stdout, reason = "its output is a table")]

mod client;
mod process;
mod target;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use client::{Client, H2};
use process::Gateway;
use target::Certificates;

const WARM_UP: usize = 2_000;
const REQUESTS: usize = 50_000;
const TUNNELS: usize = 1_000;
const NEW_TUNNELS: usize = 1_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().context("give the path of connectors-gateway")?;
    let scale: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let certificates = Certificates::new()?;
    let h1 = target::start(&certificates, b"\x08http/1.1").await?;
    let h2 = target::start(&certificates, b"\x02h2").await?;
    let gateway = Gateway::start(&binary, &certificates, h1, h2).await?;
    let client = Client::new(&certificates, gateway.port)?;
    requests(&gateway, &client, h1, REQUESTS / scale).await?;
    streams(&gateway, &client, h2, REQUESTS / scale).await?;
    new_tunnels(&gateway, &client, h1, NEW_TUNNELS / scale).await?;
    idle(&gateway, &client, h1, TUNNELS / scale).await
}

async fn requests(gateway: &Gateway, client: &Client, port: u16, count: usize) -> Result<()> {
    let mut direct = client.direct(port).await?;
    let mut tunnel = client.tunnel("h1", port, client::H1_ALPN).await?;
    for _ in 0..WARM_UP.min(count) {
        client::exchange(&mut direct, port).await?;
        client::exchange(&mut tunnel, port).await?;
    }
    let alone = latency(count / 5, async || client::exchange(&mut direct, port).await).await?;
    let before = gateway.cpu()?;
    let through = latency(count, async || client::exchange(&mut tunnel, port).await).await?;
    let cpu = gateway.cpu()? - before;
    println!("h1 to h1, 1 connection: {:.2} CPU s per 100,000 requests", per(cpu, count));
    println!("latency p50: direct {:.1} us, through the gateway {:.1} us, added {:.1} us", alone, through, through - alone);
    let before = gateway.cpu()?;
    let mut workers = Vec::new();
    for _ in 0..32 {
        let mut tunnel = client.tunnel("h1", port, client::H1_ALPN).await?;
        workers.push(tokio::spawn(async move {
            for _ in 0..count / 32 {
                client::exchange(&mut tunnel, port).await?;
            }
            anyhow::Ok(())
        }));
    }
    for worker in workers {
        worker.await??;
    }
    println!(
        "h1 to h1, 32 connections: {:.2} CPU s per 100,000 requests, 32 handshakes included",
        per(gateway.cpu()? - before, count)
    );
    Ok(())
}

/// Median in microseconds.
async fn latency(count: usize, mut exchange: impl AsyncFnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        exchange().await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e6)
}

/// 4 connections with 8 streams each.
async fn streams(gateway: &Gateway, client: &Client, port: u16, count: usize) -> Result<()> {
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(H2::open(client.tunnel("h2", port, client::H2_ALPN).await?).await?);
    }
    let before = gateway.cpu()?;
    let mut workers = Vec::new();
    for worker in 0..32 {
        let mut connection = connections[worker % 4].clone();
        workers.push(tokio::spawn(async move {
            for _ in 0..count / 32 {
                connection.exchange(port).await?;
            }
            anyhow::Ok(())
        }));
    }
    for worker in workers {
        worker.await??;
    }
    println!("h2 to h2, 4 x 8 streams: {:.2} CPU s per 100,000 requests", per(gateway.cpu()? - before, count));
    Ok(())
}

async fn new_tunnels(gateway: &Gateway, client: &Client, port: u16, count: usize) -> Result<()> {
    let before = gateway.cpu()?;
    for _ in 0..count {
        let mut tunnel = client.tunnel("h1", port, client::H1_ALPN).await?;
        client::exchange(&mut tunnel, port).await?;
    }
    println!("new tunnel (CONNECT, handshake, one request): {:.0} CPU us", (gateway.cpu()? - before) * 1e6 / count as f64);
    Ok(())
}

async fn idle(gateway: &Gateway, client: &Client, port: u16, count: usize) -> Result<()> {
    let before = gateway.resident_kib()?;
    let mut tunnels = Vec::with_capacity(count);
    for _ in 0..count {
        let mut tunnel = client.tunnel("h1", port, client::H1_ALPN).await?;
        client::exchange(&mut tunnel, port).await?;
        tunnels.push(tunnel);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (after, cpu) = (gateway.resident_kib()?, gateway.cpu()?);
    println!("idle h1 tunnels: {:.1} KiB each at {count}", (after as f64 - before as f64) / count as f64);
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("CPU while they idle: {:.2} % of a core", (gateway.cpu()? - cpu) / 5.0 * 100.0);
    Ok(())
}

fn per(cpu: f64, count: usize) -> f64 {
    cpu * 100_000.0 / count as f64
}
