//! One whole cluster, started inside namespaces of its own: an API server alone or with a node. Writes
//! `ready` when it is usable and then watches its components until it is killed.

mod addons;
mod layout;
mod network;
mod node;
mod runtime;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::control_plane::{Place, Server, connect, write};
use crate::plan::{Kind, Plan};
use crate::process::Process;
use crate::say::say;
pub(crate) use layout::Layout;
pub(crate) use network::{join, set_up as set_up_network, wait_for_link};

/// Every single step of a start ends within this, or the start has failed.
const STEP: Duration = Duration::from_secs(120);

/// What the steps of a start need to know.
pub(crate) struct Site {
    pub(crate) layout: Layout,
    /// `<scratch>/<name>`
    pub(crate) dir: PathBuf,
    /// `<scratch>/log/<name>`
    pub(crate) logs: PathBuf,
    /// The control group for Pods.
    pub(crate) cgroup: String,
    pub(crate) images: Vec<PathBuf>,
    place: Place,
    kind: Kind,
    started: Instant,
}

impl Site {
    pub(crate) fn new(plan: &Plan, layout: Layout, place: Place, kind: Kind) -> Site {
        let dir = plan.scratch.join(layout.name);
        let logs = plan.scratch.join("log").join(layout.name);
        let cgroup = crate::cgroup::path(&plan.run, layout.name);
        Site { layout, dir, logs, cgroup, images: plan.images.clone(), place, kind, started: Instant::now() }
    }

    /// One line of progress.
    pub(crate) fn say(&self, what: &str) {
        say(format_args!("{}: {what} ({:.1} s)", self.layout.name, self.started.elapsed().as_secs_f32()));
    }

    /// Appears in a cluster's folder when the cluster is usable, and holds its URL.
    pub(crate) fn ready_file(dir: &Path) -> PathBuf {
        dir.join("ready")
    }
}

/// The processes of a running cluster.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) processes: Vec<Process>,
}

impl Cluster {
    /// Fails with the last lines of a component that has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.server.check()?;
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// Asks twenty times a second until the answer is yes.
    pub(crate) async fn until(&mut self, what: &str, mut answer: impl AsyncFnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + STEP;
        while !answer().await {
            self.check()?;
            if Instant::now() > deadline {
                bail!("{what}: not within {} s", STEP.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// Starts one cluster of the plan.
pub(crate) async fn start(plan: &Plan, site: &Site) -> Result<Cluster> {
    std::fs::create_dir_all(&site.dir)?;
    std::fs::create_dir_all(&site.logs)?;
    let cluster = match site.kind {
        Kind::Node => node::start(site).await?,
        _ => control_plane(site).await?,
    };
    if site.layout.is_target() && plan.target_cluster_info {
        addons::publish_cluster_info(&cluster.server).await?;
    }
    write(&Site::ready_file(&site.dir), cluster.server.url())?;
    Ok(cluster)
}

/// Starts one cluster of the plan inside its network namespace and holds it. Returns only with an error.
pub(crate) async fn hold(plan: &Plan, layout: Layout, kind: Kind) -> Result<u8> {
    set_up_network(&layout)?;
    let site = Site::new(plan, layout, layout.place(), kind);
    let mut cluster =
        start(plan, &site).await.with_context(|| format!("start the {} cluster", layout.name))?;
    loop {
        cluster.check().with_context(|| format!("the {} cluster broke", layout.name))?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// An API server whose Pods are only listed: nothing runs them.
async fn control_plane(site: &Site) -> Result<Cluster> {
    let server = serve(site).await?;
    addons::make_default_service_account(&server).await?;
    Ok(Cluster { server, processes: Vec::new() })
}

async fn serve(site: &Site) -> Result<Server> {
    let server = Server::start(&site.dir, &site.logs, site.place.clone()).await?;
    site.say("API server ready");
    Ok(server)
}

/// A kubeconfig for one component, beside the others of its cluster.
fn component(server: &Server, dir: &Path, user: &str) -> Result<PathBuf> {
    let identity = server.authority().member(user, &[], &[]);
    let path = dir.join(format!("{}.kubeconfig", user.trim_start_matches("system:")));
    write(&path, &crate::kubeconfig::kubeconfig(server.url(), server.ca_pem(), Some(&identity)))?;
    Ok(path)
}

async fn client(server: &Server) -> Result<kube::Client> {
    Ok(connect(server.kubeconfig()).await?.1)
}
