//! The control plane, from start to stop: `leader` (one replica at a time) → `watch` (what may change) →
//! `reconcile` (a Connector, step by step), `namespace` (what a namespace's Connectors have in common),
//! `class_status` (a class), `ca` (the connector CA), `classes` (those of the product) → `status` (one patch). It never connects to a target:
//! `prober` asks the data plane to probe. All state is in the API server.

pub mod admin;
pub mod ca;
pub mod class_status;
pub mod classes;
pub mod context;
pub mod error;
pub mod events;
pub mod foreign;
pub mod keep;
pub mod lately;
pub mod leader;
pub mod metrics;
pub mod namespace;
pub mod prober;
pub mod ranges;
pub mod reconcile;
pub mod schedule;
pub mod settings;
pub mod status;
pub mod watch;

use std::future::Future;
use std::sync::Arc;

use kube::Client;
use tokio::net::TcpListener;

pub use error::Error;
use leader::Lease;
use metrics::Metrics;
use prober::Prober;
use settings::Settings;

/// Runs one replica until `shutdown`: the admin port at once, the work while it holds the Lease. `lost_lines` are those of
/// the log so far.
///
/// # Errors
/// When the admin port is taken or the Lease was lost; the process must end then, because another replica may start.
pub async fn run(
    settings: Settings,
    client: Client,
    prober: Arc<dyn Prober>,
    lost_lines: impl Fn() -> usize + Send + Sync + 'static,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let metrics = Arc::new(Metrics::new(lost_lines)?);
    let listener = TcpListener::bind(settings.admin_address)
        .await
        .map_err(|source| Error::AdminPort { address: settings.admin_address, source })?;
    let lease = Lease::new(&client, &settings, metrics.clone());
    let settings = Arc::new(settings);
    let work = || watch::work(client, settings, prober, metrics.clone());
    tokio::select! {
        ended = leader::lead(lease, shutdown, work) => ended,
        never = admin::serve(listener, metrics.clone()) => match never {},
    }
}
