//! Shows the driver to kubelet, without a sidecar: a socket in kubelet's plugins_registry that tells name and
//! endpoint. Made only after the CSI socket serves; a refusal by kubelet ends the process, so that it is seen
//! and retried.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use connectors_api::names::CSI_DRIVER;
use tokio::sync::mpsc::Sender;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::proto::registration::registration_server::{Registration, RegistrationServer};
use crate::proto::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use crate::settings::Settings;
use crate::socket;

/// Kubelet's name for CSI drivers, and the CSI versions that it may speak with this one.
const PLUGIN_TYPE: &str = "CSIPlugin";
const CSI_VERSION: &str = "1.0.0";

/// The name is fixed: a new process replaces the socket of an old one instead of standing beside it.
///
/// It has an `@` because kubelet sends the escaped path as `:authority`, and the h2 crate answers
/// PROTOCOL_ERROR to a host with `%`. What stands before an `@` is user-info, where `%` is allowed, and Go
/// leaves the `@` as it is.
pub fn socket(settings: &Settings) -> PathBuf {
    settings.registration_dir.join(format!("{CSI_DRIVER}@reg.sock"))
}

pub async fn serve(
    settings: &Settings,
    refused: Arc<Sender<String>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let service = RegistrationService { endpoint: settings.csi_socket.display().to_string(), refused };
    let incoming = socket::listen(&socket(settings))?;
    Ok(Server::builder()
        .add_service(RegistrationServer::new(service))
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await?)
}

struct RegistrationService {
    endpoint: String,
    refused: Arc<Sender<String>>,
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: PLUGIN_TYPE.to_owned(),
            name: CSI_DRIVER.to_owned(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec![CSI_VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if status.plugin_registered {
            tracing::info!("registered with kubelet");
        } else {
            // Full means that a refusal is on its way already.
            let _ = self.refused.try_send(status.error);
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use tonic::codegen::http::uri::Authority;

    use super::*;
    use crate::settings::LogFormat;

    #[test]
    fn the_sockets_path_as_kubelet_escapes_it_is_an_authority_that_the_server_accepts() {
        let settings = Settings {
            csi_socket: PathBuf::new(),
            registration_dir: "/var/lib/kubelet/plugins_registry".into(),
            node_name: String::new(),
            namespace: String::new(),
            cluster_domain: String::new(),
            kubernetes_service_host: None,
            get_is_use: false,
            log_format: LogFormat::Json,
        };
        let escaped = socket(&settings).display().to_string().replace('/', "%2F");
        assert!(escaped.parse::<Authority>().is_ok(), "{escaped}");
        assert!(escaped.replace('@', "-").parse::<Authority>().is_err(), "the @ is no longer needed");
    }
}
