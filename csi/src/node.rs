//! CSI Node: kubelet's calls for one volume. Publish walks through all stages and is repeated every 60–90 s
//! while the Pod runs; unpublish removes the mount. Every failure is logged with its cause and answered with
//! the next step.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::inputs::{Cluster, Inputs};
use crate::mount::{self, Mounted};
use crate::proto::csi::node_server::Node;
use crate::proto::csi::node_service_capability::{Rpc, Type, rpc};
use crate::proto::csi::{
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability, NodeUnpublishVolumeRequest,
    NodeUnpublishVolumeResponse,
};
use crate::render::{self, Renewed, TOKEN_FILE};
use crate::request::{self, PublishRequest};
use crate::room::{self, Portion, Room, Weight};
use crate::turns::{Call, Turns};
use crate::volumes::{Volume, Volumes};
use crate::write::{self, Files};

pub struct NodeService {
    driver: Arc<Driver>,
    node: String,
}

impl NodeService {
    pub fn new(cluster: Cluster, node: String) -> NodeService {
        let room = Arc::new(Room::new(rustix::param::page_size()));
        let driver = Driver { cluster, volumes: Volumes::default(), room, turns: Turns::default() };
        NodeService { driver: Arc::new(driver), node }
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    /// In a task of its own: kubelet going away must not stop a write between two of its steps.
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let driver = Arc::clone(&self.driver);
        let call = tokio::spawn(async move { driver.publish(request.into_inner()).await });
        call.await.map_err(|_| Error::Stopped.status())??;
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let driver = Arc::clone(&self.driver);
        let call = tokio::spawn(async move { driver.unpublish(request.into_inner()).await });
        call.await.map_err(|_| Error::Stopped.status())??;
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    /// With VOLUME_MOUNT_GROUP kubelet leaves the Pod's fsGroup to us instead of walking over the files.
    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let group = Type::Rpc(Rpc { r#type: rpc::Type::VolumeMountGroup.into() });
        let capabilities = vec![NodeServiceCapability { r#type: Some(group) }];
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse { node_id: self.node.clone() }))
    }
}

/// A token that is older than the volume allows is withdrawn.
async fn check_age(request: &PublishRequest, published: bool, volume: &mut Volume) -> Result<(), Error> {
    match request.attributes.expiration.filter(|limit| request.token.is_older_than(*limit)) {
        Some(limit) => {
            if published {
                volume.forget();
                place(request, Files::new()).await?;
            }
            Err(Error::TokenTooOld(limit))
        }
        None => Ok(()),
    }
}

fn crowded(request: &PublishRequest) -> Error {
    Error::Crowded(request.pod.namespace.clone())
}

struct Driver {
    cluster: Cluster,
    volumes: Volumes,
    room: Arc<Room>,
    turns: Turns,
}

impl Driver {
    async fn publish(&self, wire: NodePublishVolumeRequest) -> Result<(), Status> {
        let volume = wire.volume_id.clone();
        let target = PathBuf::from(&wire.target_path);
        let Err(error) = self.publish_volume(wire).await else { return Ok(()) };
        tracing::warn!(%volume, target = %target.display(), %error, cause = error.cause(), "publish failed");
        // Kubelet takes that for no answer, and there may be thousands.
        if matches!(error, Error::Crowded(_)) {
            return Err(error.status());
        }
        let path = target.clone();
        let keeps_files =
            target.is_absolute() && blocking(move || write::is_published(&path)).await.unwrap_or(false);
        if !keeps_files && !matches!(error, Error::Busy) {
            self.remove_unpublished(&volume, &target).await;
        }
        Err(if keeps_files { error.status_of_republish() } else { error.status() })
    }

    /// Under the lock: another call for this volume may be between its mount and its files.
    async fn remove_unpublished(&self, volume: &str, target: &Path) {
        let Ok(path) = request::volume(volume, &target.to_string_lossy()) else { return };
        let Ok(guard) = self.volumes.lock(&path).await else { return };
        if let Err(error) = blocking(move || write::remove_unpublished(&path)).await {
            tracing::warn!(%volume, target = %target.display(), %error, "cannot remove an empty mount");
        }
        match guard.is_known() {
            true => drop(guard),
            false => self.volumes.release(target, guard),
        }
    }

    async fn publish_volume(&self, wire: NodePublishVolumeRequest) -> Result<(), Error> {
        let id = wire.volume_id.clone();
        let request = request::check(wire)?;
        let mut volume = self.volumes.lock(&request.target).await?;
        // One that is fresh asks nobody: as many may come as there are.
        let is_fresh = volume.is_fresh(&request.token);
        let call = (!is_fresh).then(|| self.turns.call(&request.pod.namespace, volume.is_known()));
        let result = match call {
            Some(None) => Err(crowded(&request)),
            call => self.publish_locked(&request, &mut volume, call.flatten()).await,
        };
        if result.is_err() && !volume.is_known() {
            volume.portion = None;
            self.volumes.release(&request.target, volume);
        }
        if result? {
            let (namespace, pod) = (&request.pod.namespace, &request.pod.name);
            tracing::info!(volume = id, namespace, pod, connectors = ?request.attributes.connectors, "published");
        }
        Ok(())
    }

    /// True when files were written.
    async fn publish_locked(
        &self,
        request: &PublishRequest,
        volume: &mut Volume,
        call: Option<Call<'_>>,
    ) -> Result<bool, Error> {
        let target = request.target.clone();
        let published = blocking(move || write::is_published(&target)).await.map_err(inspect)?;
        check_age(request, published, volume).await?;
        if published && volume.is_fresh(&request.token) {
            return Ok(false);
        }
        if !published && !self.portion(request, volume).set(request.weight) {
            return Err(Error::NoRoom(request.pod.namespace.clone()));
        }
        // Without a call: it is fresh, and no longer mounted.
        let call = call.or_else(|| self.turns.call(&request.pod.namespace, true));
        let call = call.ok_or_else(|| crowded(request))?;
        let _turn = self.turns.next(&call).await.ok_or(Error::Stopped)?;
        let renewed = self.renewed(request, published, volume.last.as_ref()).await;
        let placed = match renewed.and_then(|renewed| self.fitting(request, published, volume, renewed)) {
            Ok(Renewed { files, inputs, stale }) => place(request, files).await.map(|()| (inputs, stale)),
            Err(error) => Err(error),
        };
        match placed {
            Ok((inputs, stale)) => {
                volume.last = Some(inputs);
                stale.map_or(Ok(()), Err)?;
                volume.written(&request.token);
                Ok(true)
            }
            Err(error) if published => {
                self.renew_token(request, volume).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// All files anew, as far as that can be: what is in the way of a part of them keeps no other part.
    async fn renewed(
        &self,
        request: &PublishRequest,
        published: bool,
        last: Option<&Inputs>,
    ) -> Result<Renewed, Error> {
        let last = last.filter(|_| published);
        let gathered = self.cluster.gather(request, published, last).await?;
        render::renew(&request.attributes, request.token.secret(), gathered, last)
    }

    async fn renew_token(&self, request: &PublishRequest, volume: &mut Volume) -> Result<(), Error> {
        let written = renew_token(request, self.room.page).await?;
        if volume.portion.is_none() {
            self.portion(request, volume).had(written);
        }
        Ok(())
    }

    fn portion<'a>(&self, request: &PublishRequest, volume: &'a mut Volume) -> &'a mut Portion {
        volume.portion.get_or_insert_with(|| Portion::new(&self.room, &request.pod.namespace))
    }

    /// If there is room for it. A volume whose inputs are known never lacks it for its token and the CA: of Connectors that
    /// have become too large it keeps what it has.
    fn fitting(
        &self,
        request: &PublishRequest,
        published: bool,
        volume: &mut Volume,
        renewed: Renewed,
    ) -> Result<Renewed, Error> {
        let weight = room::weight(&renewed.files, &renewed.inputs, self.room.page);
        let is_of_before = published && volume.portion.is_none();
        let portion = self.portion(request, volume);
        if is_of_before {
            portion.had(weight);
        }
        if portion.set(weight.files.saturating_add(weight.rest).saturating_add(request.weight)) {
            return Ok(renewed);
        }
        let full = Error::NoRoom(request.pod.namespace.clone());
        let Some(last) = volume.last.clone().filter(|_| published) else { return Err(full) };
        let inputs = Inputs { ca_bundle: renewed.inputs.ca_bundle, ..last };
        let files = render::render(&request.attributes, request.token.secret(), &inputs)?;
        let weight = room::weight(&files, &inputs, self.room.page);
        self.portion(request, volume).has(weight.files + weight.rest + request.weight);
        Ok(Renewed { files, inputs, stale: renewed.stale.or(Some(full)) })
    }

    async fn unpublish(&self, wire: NodeUnpublishVolumeRequest) -> Result<(), Status> {
        self.unpublish_volume(&wire).await.map_err(|error| {
            tracing::warn!(volume = wire.volume_id, target = wire.target_path, %error, cause = error.cause(), "unpublish failed");
            error.status()
        })
    }

    async fn unpublish_volume(&self, wire: &NodeUnpublishVolumeRequest) -> Result<(), Error> {
        let target = request::check_unpublish(wire)?;
        let volume = self.volumes.lock(&target).await?;
        let removed = remove(&target).await;
        self.volumes.release(&target, volume);
        removed
    }
}

/// A driver that knows nothing of before can still renew the one file that is the token alone.
async fn renew_token(request: &PublishRequest, page: usize) -> Result<Weight, Error> {
    let target = request.target.clone();
    let mut files = blocking(move || write::read(&target)).await.map_err(inspect)?;
    let weight = room::written(&files, page);
    if let Some(token) = files.get_mut(TOKEN_FILE) {
        *token = request.token.secret().clone();
        place(request, files).await?;
    }
    Ok(weight)
}

async fn place(request: &PublishRequest, files: Files) -> Result<(), Error> {
    let (target, selinux, group) = (request.target.clone(), request.selinux.clone(), request.group);
    blocking(move || Ok(write::publish(&target, selinux.as_ref(), &files, group))).await.map_err(inspect)?
}

async fn remove(target: &Path) -> Result<(), Error> {
    let path = target.to_owned();
    let left = blocking(move || mount::remove(&path))
        .await
        .map_err(|source| Error::Node { what: "unmount", source })?;
    match left {
        Mounted::Nothing => Ok(()),
        Mounted::Ours | Mounted::Foreign => Err(Error::Foreign(target.to_owned())),
    }
}

/// Threads that read the kernel's table of mounts at the same time, each as a whole.
static BLOCKING: Semaphore = Semaphore::const_new(8);

/// Mounts and files are system calls that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let _place = BLOCKING.acquire().await;
    tokio::task::spawn_blocking(work).await?
}

fn inspect(source: std::io::Error) -> Error {
    Error::Node { what: "inspect", source }
}
