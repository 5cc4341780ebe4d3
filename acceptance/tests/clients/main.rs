//! Every client through the gateway on a real node, over both kubeconfigs; the table in `docs/clients.md` is
//! written from the result. `make test-clients` runs it. With words as arguments only the clients are run
//! whose name contains one, and nothing is written.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is its own test runner")]

mod packages;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use connectors_acceptance::cluster::Cluster;
use connectors_acceptance::matrix::{Found, Matrix, Outcome, Row};
use connectors_acceptance::{clients, start};

/// Set in the inner run. Its value does not matter.
const INSIDE: &str = "CONNECTORS_CLIENT_TESTS";
/// Seconds for which the watches see nothing, in place of the default.
const IDLE: &str = "CONNECTORS_CLIENTS_IDLE";
/// Longer than the 20 s between two PINGs of the gateway.
const SHORT_IDLE: u64 = 30;
const SIZE: u64 = 64 << 20;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if std::env::args().any(|argument| argument == "--list") {
        return Ok(ExitCode::SUCCESS);
    }
    // Outside this installs what is missing; inside it only finds it.
    let idle = std::env::var(IDLE).ok().map_or(Ok(SHORT_IDLE), |text| text.parse().context(IDLE))?;
    let rows = tokio::task::spawn_blocking(move || rows(idle)).await??;
    if std::env::var_os(INSIDE).is_none() {
        return start::again_beside_a_node(INSIDE, &words);
    }
    let all = rows.len();
    let rows: Vec<Row> = rows
        .into_iter()
        .filter(|row| words.is_empty() || words.iter().any(|word| row.name.contains(word)))
        .collect();
    let cluster = Cluster::install().await?;
    let matrix = Matrix { cluster: &cluster, rows, size: SIZE, idle: Duration::from_secs(idle) };
    let start = Instant::now();
    let found = matrix.run().await?;
    tell(&found, start.elapsed());
    if !found.wrong.is_empty() {
        eprintln!("{}", cluster.explain().await);
        return Ok(ExitCode::FAILURE);
    }
    // The page tells of the usual run.
    if matrix.rows.len() == all && idle == SHORT_IDLE {
        report::write(&matrix.rows, &found)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// In the order of the table. Some give up after `idle` seconds.
fn rows(idle: u64) -> Result<Vec<Row>> {
    Ok(vec![
        clients::kubectl()?,
        packages::old_kubectl()?,
        packages::helm()?,
        clients::client_go()?,
        packages::kube_rs()?,
        packages::python()?,
        packages::fabric8()?,
        packages::javascript(idle)?,
        clients::curl()?,
    ])
}

fn tell(found: &Found, took: Duration) {
    for cell in &found.cells {
        let how = match cell.outcome {
            Outcome::Did => "ok",
            Outcome::Could(_) => "ok (cannot, as declared)",
        };
        println!("test {} / {} / {} ... {how}", cell.row, cell.flavour.file(), cell.operation.word());
    }
    for wrong in &found.wrong {
        println!("test {wrong}\n  ... FAILED");
    }
    println!("{} passed, {} failed, in {} s", found.cells.len(), found.wrong.len(), took.as_secs());
}
