//! Shows the driver to kubelet, without a sidecar: a socket in kubelet's plugins_registry that tells name and
//! endpoint. Made only after the CSI socket serves; a refusal by kubelet ends the process, so that it is seen
//! and retried. That no kubelet comes is told by the health check (`health`) and, after a minute, by the log.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use connectors_api::names::CSI_DRIVER;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::time::timeout;
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
/// Kubelet looks at its folder each second, and needs longer only when it has just started itself.
const PATIENCE: Duration = Duration::from_secs(60);

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
    registered: watch::Sender<bool>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut seen = registered.subscribe();
    let service =
        RegistrationService { endpoint: settings.csi_socket.display().to_string(), refused, registered };
    let incoming = socket::listen(&socket(settings))?;
    let served = Server::builder()
        .add_service(RegistrationServer::new(service))
        .serve_with_incoming_shutdown(incoming, shutdown);
    let told = async {
        tell_of_no_kubelet(&mut seen, PATIENCE, &settings.registration_dir).await;
        std::future::pending().await
    };
    tokio::select! {
        outcome = served => Ok(outcome?),
        never = told => never,
    }
}

async fn tell_of_no_kubelet(
    registered: &mut watch::Receiver<bool>,
    patience: Duration,
    registration_dir: &Path,
) {
    if timeout(patience, registered.wait_for(|registered| *registered)).await.is_err() {
        tracing::warn!("{}", Error::NotRegistered(registration_dir.to_owned()));
    }
}

struct RegistrationService {
    endpoint: String,
    refused: Arc<Sender<String>>,
    /// Stays true: a kubelet that starts anew calls again, and a driver that does so asks anew.
    registered: watch::Sender<bool>,
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
            self.registered.send_replace(true);
        } else {
            // Full means that a refusal is on its way already.
            let _ = self.refused.try_send(status.error);
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use tonic::codegen::http::uri::Authority;

    use super::*;
    use crate::settings::LogFormat;

    /// What is logged where kubelet's folder is wrong and a moment passes.
    async fn logged(registered: bool) -> String {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let lines = tracing_subscriber::fmt().with_writer(File::create(&log).unwrap()).finish();
        let _guard = tracing::subscriber::set_default(lines);
        let (_sender, mut seen) = watch::channel(registered);
        tell_of_no_kubelet(&mut seen, Duration::from_millis(1), Path::new("/wrong/plugins_registry")).await;
        fs::read_to_string(&log).unwrap()
    }

    #[tokio::test]
    async fn a_driver_to_which_no_kubelet_comes_warns_of_the_folder_and_the_value_to_correct() {
        let text = logged(false).await;
        for words in ["WARN", "/wrong/plugins_registry", "driver.kubelet (Helm)"] {
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(logged(true).await, "");
    }

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
