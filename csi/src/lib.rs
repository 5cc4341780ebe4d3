//! The node driver: puts a Connector's files into a Pod's volume and keeps their token fresh.
//!
//! Walk of a mount: `node` → `request` (all refusals) → `inputs` (what the cluster knows) → `render` (pure) →
//! `write`. Walk of a start: [`run`]: CSI socket serves (`identity`, `node`), then `register` shows it to
//! kubelet.

mod access;
mod error;
mod health;
mod identity;
mod inputs;
mod mount;
mod node;
pub mod proto;
mod register;
mod render;
mod request;
mod room;
mod settings;
mod socket;
mod turns;
mod volumes;
mod write;

use std::future::Future;
use std::sync::Arc;

use futures::{FutureExt, TryFutureExt};
use tokio::sync::{mpsc, watch};
use tonic::transport::Server;

pub use crate::error::Error;
pub use crate::health::{check as healthcheck, registered};
pub use crate::settings::{LogFormat, Settings};

use crate::identity::IdentityService;
use crate::inputs::Cluster;
use crate::node::NodeService;
use crate::proto::csi::identity_server::IdentityServer;
use crate::proto::csi::node_server::NodeServer;
use crate::register::Kubelet;

/// Bytes. Most are attributes, which `request` bounds with a better sentence.
const MAX_CALL: usize = 64 << 10;

/// Serves until `shutdown` ends. Mounts outlive it: the next process goes on with them.
///
/// # Errors
/// A socket that cannot be bound, a failed server, or kubelet's refusal of the registration.
pub async fn run(
    settings: Settings,
    client: kube::Client,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let shutdown = shutdown.shared();
    let cluster = Cluster::new(client, settings.clone());
    // Dropped, so removed, in the reverse order: kubelet must not find a registration without a driver.
    let (_csi_socket, incoming) = socket::listen(&settings.csi_socket)?;
    let (_health_socket, questions) = socket::listen(&health::socket(&settings.csi_socket))?;
    let (kubelet, seen) = watch::channel(Kubelet::Away);
    let health = Server::builder()
        .add_service(IdentityServer::new(IdentityService { kubelet: seen }))
        .serve_with_incoming_shutdown(questions, shutdown.clone());
    let node = NodeService::new(cluster, settings.node_name.clone());
    let csi = Server::builder()
        .add_service(IdentityServer::new(IdentityService { kubelet: watch::channel(Kubelet::Registered).1 }))
        .add_service(NodeServer::new(node).max_decoding_message_size(MAX_CALL))
        .serve_with_incoming_shutdown(incoming, shutdown.clone());
    // Kubelet calls the driver as soon as it sees the registration socket, so the driver has to answer by
    // then.
    let (refused, mut refusal) = mpsc::channel(1);
    let registration = async {
        health::check(&settings.csi_socket).await?;
        register::serve(&settings, Arc::new(refused), kubelet, shutdown.clone()).await
    };
    let served = async {
        tokio::try_join!(csi.map_err(Error::from), health.map_err(Error::from), registration).map(drop)
    };
    tokio::select! {
        result = served => result,
        Some(reason) = refusal.recv() => Err(Error::Refused(reason)),
    }
}
