//! `config/` against a real API server: `install` applies it, `access` asks what its roles allow, `admission`
//! what its policies refuse, `projects` who shares connectors, `flux` what its extra role may, `flow` how the API
//! server queues the parts' requests. `monitoring`, `promises`, `refusals_page`, `settings_page` and `status_page` hold what is
//! written against the sources; `pages` and `use_in` do what pages say; `queries` asks a Prometheus what dashboards and
//! alerts ask. What only a running node can show is in `node_product`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which fail by panicking")]

mod access;
mod admission;
mod chart;
mod flow;
mod flux;
mod install;
mod monitoring;
mod pages;
mod projects;
mod promises;
mod queries;
mod refusals_page;
mod settings_page;
mod status_page;
mod use_in;

use connectors_acceptance::pages::{block, shell};
use connectors_testenv::ControlPlane;

/// A folder of the repository, wherever the tests are started from.
fn folder(path: &str) -> String {
    format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs kubectl as administrator, demands success and returns all that it said.
async fn printed(cluster: &ControlPlane, arguments: &[&str]) -> String {
    let output = cluster.kubectl(arguments).await.unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "kubectl {arguments:?}: {said}");
    said
}

/// Installs the product as docs/installation.md says, by one command, and waits until the API server serves its
/// kinds.
async fn install(cluster: &ControlPlane) -> String {
    let commands = block("docs/installation.md", "kubectl apply -k config/default").unwrap().text;
    let said = shell(&commands, &[("KUBECONFIG", cluster.kubeconfig().into())]).await.unwrap();
    cluster.established().await.unwrap();
    said
}
