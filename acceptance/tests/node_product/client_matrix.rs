//! The short version of the client matrix: the clients that need no packages, over both kubeconfigs. `make
//! test-clients` runs the rest.

use std::time::Duration;

use anyhow::{Result, bail};

use connectors_acceptance::clients;
use connectors_acceptance::cluster::Cluster;
use connectors_acceptance::matrix::Matrix;

/// More than any window or buffer on the way.
const SIZE: u64 = 8 << 20;
/// Longer than the 5 s after which client-go asks whether its connection lives.
const IDLE: Duration = Duration::from_secs(8);

pub async fn without_packages(cluster: &Cluster) -> Result<()> {
    let rows = vec![clients::kubectl()?, clients::client_go()?, clients::curl()?];
    let found = Matrix { cluster, rows, size: SIZE, idle: IDLE }.run().await?;
    if !found.wrong.is_empty() {
        bail!("{}", found.wrong.join("\n  "));
    }
    Ok(())
}
