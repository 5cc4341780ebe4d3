//! What the gateway costs beside HAProxy, bare servers and no proxy at all. Each measurement is a file of its
//! own; `lab` starts what they measure, `report` prints what they found. load-tests/README.md says how to run
//! and how to read it; `make bench` runs it. `make load-wan` uses two more commands: `delay` as a relay, and
//! `wan`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line: its output is a table")]

mod authorities;
mod client;
mod delay;
mod environment;
mod events;
mod exec;
mod handshakes;
mod hoard;
mod idle;
mod lab;
mod latency;
mod peers;
mod process;
mod protocol;
mod report;
mod requests;
mod server;
mod stopped;
mod stream;
mod wan;
mod watches;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use lab::Lab;
use report::Figure;

/// The gateway's allocator, so that a bare server differs from it by what it does and by nothing else.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// No measurement takes longer than this; one that does hangs.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Measures.
    Run(Options),
    /// What `run` starts beside itself: a target, which is the bare server too.
    Serve(server::Options),
    /// Relays TCP as if the target were far away.
    Relay(delay::Options),
    /// Tells and draws what load-tests/wan.sh has measured.
    Wan(wan::Options),
}

#[derive(Args, Clone)]
pub struct Options {
    /// The gateway to measure: a release build.
    gateway: PathBuf,
    /// Only these measurements, comma-separated.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measurement>,
    /// Rounds, in each of which all peers take turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Divides all counts: for a quick look.
    #[arg(long, default_value_t = 1)]
    scale: usize,
    /// Idle tunnels held at once.
    #[arg(long, default_value_t = 1_000)]
    idle: usize,
    /// Idle watches held at once.
    #[arg(long, default_value_t = 10_000)]
    watches: usize,
    /// Round trip to the target in `exec`, in milliseconds.
    #[arg(long, default_value_t = 20)]
    delay: u64,
    /// Worker threads of gateway and HAProxy, comma-separated: each number is a row of its own.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    threads: Vec<usize>,
    #[arg(long, default_value = "haproxy")]
    haproxy: PathBuf,
    /// Who writes a record per request: the gateway, as it is shipped; both; or neither.
    #[arg(long, value_enum, default_value_t = Records::Gateway)]
    records: Records,
    /// Also writes the figures as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Records {
    Gateway,
    Both,
    Neither,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    H1,
    H32,
    H2,
    Tunnel,
    Latency,
    Idle,
    Stream,
    Event,
    Watches,
    Exec,
    Stopped,
    Hoard,
}

impl Options {
    /// A count for this run.
    pub fn count(&self, full: usize) -> usize {
        (full / self.scale.max(1)).max(1)
    }
}

// One thread: client and target take the same part of the machine whichever peer is between them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Command::parse().what {
        What::Serve(options) => server::run(options).await,
        What::Relay(options) => delay::run(&options).await,
        What::Wan(options) => wan::run(options),
        What::Run(options) => run(options).await,
    }
}

async fn run(options: Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    ensure!(!options.threads.is_empty() && !options.threads.contains(&0), "--threads must be 1 or more");
    let environment = environment::describe(&options)?;
    println!("{}\n{}", report::environment(&environment), report::HEAD);
    let lab = Lab::new(options.clone()).await?;
    let mut figures = Vec::new();
    for measurement in Measurement::value_variants() {
        if options.only.is_empty() || options.only.contains(measurement) {
            let started = Instant::now();
            let measured = tokio::time::timeout(PATIENCE, measure(*measurement, &lab)).await;
            let found = measured
                .context("it hangs")
                .flatten()
                .with_context(|| format!("measuring {measurement:?}"))?;
            // At once: a run that fails later has measured this all the same.
            print!("{}", report::rows(&found));
            figures.extend(found);
            eprintln!("{measurement:?}: {:.0} s", started.elapsed().as_secs_f64());
        }
    }
    if let Some(path) = &options.json {
        std::fs::write(path, report::json(&environment, &figures)?)?;
    }
    Ok(())
}

async fn measure(measurement: Measurement, lab: &Lab) -> Result<Vec<Figure>> {
    match measurement {
        Measurement::H1 => requests::h1(lab, 1).await,
        Measurement::H32 => requests::h1(lab, 32).await,
        Measurement::H2 => requests::h2(lab).await,
        Measurement::Tunnel => handshakes::measure(lab).await,
        Measurement::Latency => latency::measure(lab).await,
        Measurement::Idle => idle::measure(lab).await,
        Measurement::Stream => stream::measure(lab).await,
        Measurement::Event => events::measure(lab).await,
        Measurement::Watches => watches::measure(lab).await,
        Measurement::Exec => exec::measure(lab).await,
        Measurement::Stopped => stopped::measure(lab).await,
        Measurement::Hoard => hoard::measure(lab).await,
    }
}
