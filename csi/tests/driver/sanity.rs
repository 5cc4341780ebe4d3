//! csi-sanity against the driver: all specs of "Node Service" and "Identity Service".
//!
//! csi-sanity makes persistent volumes by a Controller service and publishes them writable and without Pod
//! information; the driver serves inline read-only volumes only and has no Controller. So a front stands
//! between the two and does what kubelet and the CSIDriver object do (read-only, Pod information, token), and
//! it hands out volume names in the Controller's place. Every call for a node still reaches the driver, and
//! the driver's answer csi-sanity.
//!
//! Not run: the Controller, snapshot, group and expansion suites, for services that the driver does not have.
//! Skipped by csi-sanity itself: NodeStage, NodeUnstage, NodeGetVolumeStats and NodeExpand, capabilities that
//! the driver does not claim.

use std::path::Path;

use connectors_csi::proto::csi::identity_client::IdentityClient;
use connectors_csi::proto::csi::identity_server::{Identity, IdentityServer};
use connectors_csi::proto::csi::node_client::NodeClient;
use connectors_csi::proto::csi::node_server::{Node, NodeServer};
use connectors_csi::proto::csi::plugin_capability::{Service, Type, service};
use connectors_csi::proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeUnpublishVolumeRequest,
    NodeUnpublishVolumeResponse, PluginCapability, ProbeRequest, ProbeResponse,
};
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use crate::cluster::Demo;
use crate::kubelet::{Kubelet, PodVolume, connect};
use crate::namespace::isolated;
use controller::controller_server::{Controller, ControllerServer};
use controller::controller_service_capability::{Rpc, Type as ControllerType, rpc};
use controller::{
    ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse, ControllerServiceCapability,
    CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest, DeleteVolumeResponse, Volume,
};

#[allow(clippy::all)]
mod controller {
    include!(concat!(env!("OUT_DIR"), "/tests/csi.v1.rs"));
}

#[test]
fn csi_sanitys_node_and_identity_specs_pass() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("sanity").await, Kubelet::start().await);
        let volume = kubelet.volume(demo.namespace, "sanity", &demo.token().await);
        let socket = kubelet.folder.path().join("front.sock");
        let front = Front::new(connect(&kubelet.settings.csi_socket).await.unwrap(), volume);
        let serving = tokio::spawn(front.serve(UnixListener::bind(&socket).unwrap()));
        let report = run_csi_sanity(&socket, kubelet.folder.path()).await;
        serving.abort();
        assert!(report.contains("SUCCESS!"), "{report}");
        // Three of Identity; of Node: capabilities, info, three refusals of publish, two of unpublish and its
        // clean-up, "should work" and "should be idempotent".
        assert!(report.contains("13 Passed") && report.contains("0 Failed"), "{report}");
    });
}

async fn run_csi_sanity(socket: &Path, folder: &Path) -> String {
    let csi_sanity =
        tokio::task::spawn_blocking(|| connectors_testenv::tool("csi-sanity")).await.unwrap().unwrap();
    let output = Command::new(csi_sanity)
        .arg(format!("--csi.endpoint=unix://{}", socket.display()))
        .arg(format!("--csi.mountdir={}", folder.join("sanity").display()))
        .arg(format!("--csi.stagingdir={}", folder.join("staging").display()))
        .args(["--ginkgo.focus=Node Service|Identity Service", "--ginkgo.no-color"])
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[derive(Clone)]
struct Front {
    identity: IdentityClient<Channel>,
    node: NodeClient<Channel>,
    volume: PodVolume,
}

impl Front {
    fn new(driver: Channel, volume: PodVolume) -> Front {
        Front { identity: IdentityClient::new(driver.clone()), node: NodeClient::new(driver), volume }
    }

    async fn serve(self, listener: UnixListener) -> Result<(), tonic::transport::Error> {
        Server::builder()
            .add_service(IdentityServer::new(self.clone()))
            .add_service(NodeServer::new(self.clone()))
            .add_service(ControllerServer::new(self))
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
    }
}

#[tonic::async_trait]
impl Identity for Front {
    async fn get_plugin_info(
        &self,
        request: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        self.identity.clone().get_plugin_info(request.into_inner()).await
    }

    async fn get_plugin_capabilities(
        &self,
        request: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let mut response = self.identity.clone().get_plugin_capabilities(request.into_inner()).await?;
        let service = Type::Service(Service { r#type: service::Type::ControllerService.into() });
        response.get_mut().capabilities.push(PluginCapability { r#type: Some(service) });
        Ok(response)
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        self.identity.clone().probe(request.into_inner()).await
    }
}

#[tonic::async_trait]
impl Node for Front {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let mut request = request.into_inner();
        request.readonly = true;
        request.volume_context.extend(self.volume.attributes.clone());
        self.volume.add_what_kubelet_adds(&mut request);
        self.node.clone().node_publish_volume(request).await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        self.node.clone().node_unpublish_volume(request.into_inner()).await
    }

    async fn node_get_capabilities(
        &self,
        request: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        self.node.clone().node_get_capabilities(request.into_inner()).await
    }

    async fn node_get_info(
        &self,
        request: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        self.node.clone().node_get_info(request.into_inner()).await
    }
}

#[tonic::async_trait]
impl Controller for Front {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let volume = Volume { volume_id: request.into_inner().name, capacity_bytes: 10 << 30 };
        Ok(Response::new(CreateVolumeResponse { volume: Some(volume) }))
    }

    async fn delete_volume(
        &self,
        _: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        Ok(Response::new(DeleteVolumeResponse {}))
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let create = ControllerType::Rpc(Rpc { r#type: rpc::Type::CreateDeleteVolume.into() });
        let capabilities = vec![ControllerServiceCapability { r#type: Some(create) }];
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities }))
    }
}
