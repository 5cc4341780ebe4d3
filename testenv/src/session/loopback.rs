//! Control planes alone: on loopback, without root and without namespaces.

use anyhow::Result;

use super::wait::{Signals, watch};
use crate::cluster::{Cluster, Site, start};
use crate::control_plane::Place;
use crate::plan::Plan;
use crate::process::spawn;
use crate::say::say;
use crate::scratch::Scratch;

/// Runs the plan's command beside its control planes.
pub(super) async fn run(plan: Plan, mut scratch: Scratch) -> Result<u8> {
    let mut signals = Signals::new()?;
    let ended = tokio::select! {
        ended = beside_clusters(&plan) => ended,
        status = signals.next() => return Ok(status),
    };
    let failed = !matches!(ended, Ok(0)) && (ended.is_err() || plan.command.is_some());
    if failed {
        say(format_args!("logs of every component: {}", scratch.keep_logs().display()));
    }
    ended
}

/// The clusters end before the scratch folder goes, whichever way this returns.
async fn beside_clusters(plan: &Plan) -> Result<u8> {
    let mut clusters: Vec<Cluster> = Vec::new();
    for (layout, kind) in plan.clusters() {
        let site = Site::new(plan, layout, Place::loopback(), kind);
        clusters.push(start(plan, &site).await?);
    }
    let mut child = Ending(spawn(plan.command()?)?);
    watch(&mut child.0, || clusters.iter_mut().try_for_each(Cluster::check)).await
}

/// The command ends with us.
struct Ending(std::process::Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
