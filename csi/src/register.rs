//! Shows the driver to kubelet, without a sidecar: a socket in kubelet's plugins_registry that tells name and
//! endpoint. Made only after the CSI socket serves; a refusal by kubelet ends the process, so that it is seen
//! and retried, and so does one that looks at the driver and then says nothing. That no kubelet comes is told by the
//! health check (`health`) and, after some time, by the log.

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
/// Kubelet looks at its folder each second. But where it has found the socket of a process that was gone, it looks again
/// after two minutes only.
const PATIENCE: Duration = Duration::from_secs(150);
/// What is said where kubelet has looked, and its word has not come: it says it once, and repeats nothing.
const SILENT: &str = "it has looked at the driver and then said nothing";

/// What kubelet has done with the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Kubelet {
    Away,
    Looked,
    /// To the end of the process: a kubelet that starts anew calls again, and a driver that does so asks anew.
    Registered,
}

/// The name is fixed: a new process replaces the socket of an old one instead of standing beside it.
///
/// It has an `@` because kubelet sends the escaped path as `:authority`, and the h2 crate answers
/// PROTOCOL_ERROR to a host with `%`. What stands before an `@` is user-info, where `%` is allowed, and Go
/// leaves the `@` as it is.
pub fn socket(registration_dir: &Path) -> PathBuf {
    registration_dir.join(format!("{CSI_DRIVER}@reg.sock"))
}

pub async fn serve(
    settings: &Settings,
    refused: Arc<Sender<String>>,
    kubelet: watch::Sender<Kubelet>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (mut seen, silent) = (kubelet.subscribe(), refused.clone());
    let endpoint = settings.csi_socket.display().to_string();
    let service = RegistrationService { endpoint, refused, kubelet };
    let (_socket, incoming) = socket::listen(&socket(&settings.registration_dir))?;
    let served = Server::builder()
        .add_service(RegistrationServer::new(service))
        .serve_with_incoming_shutdown(incoming, shutdown);
    let told = async {
        if !is_registered(&mut seen, PATIENCE, &settings.registration_dir).await {
            let _ = silent.try_send(SILENT.to_owned());
        }
        std::future::pending().await
    };
    tokio::select! {
        outcome = served => Ok(outcome?),
        never = told => never,
    }
}

/// Waits for a kubelet as long as it takes, and then for its word.
async fn is_registered(
    kubelet: &mut watch::Receiver<Kubelet>,
    patience: Duration,
    registration_dir: &Path,
) -> bool {
    if timeout(patience, kubelet.wait_for(|kubelet| *kubelet >= Kubelet::Looked)).await.is_err() {
        tracing::warn!("{}", Error::NotRegistered(registration_dir.to_owned()));
    }
    let _ = kubelet.wait_for(|kubelet| *kubelet >= Kubelet::Looked).await;
    timeout(patience, kubelet.wait_for(|kubelet| *kubelet == Kubelet::Registered)).await.is_ok()
}

struct RegistrationService {
    endpoint: String,
    refused: Arc<Sender<String>>,
    kubelet: watch::Sender<Kubelet>,
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        self.kubelet.send_if_modified(|kubelet| {
            let first = *kubelet == Kubelet::Away;
            if first {
                *kubelet = Kubelet::Looked;
            }
            first
        });
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
            self.kubelet.send_replace(Kubelet::Registered);
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

    /// Whether it is registered and what is logged, after a moment of patience; none while it waits on.
    async fn after(kubelet: Kubelet) -> (Option<bool>, String) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let lines = tracing_subscriber::fmt().with_writer(File::create(&log).unwrap()).finish();
        let _guard = tracing::subscriber::set_default(lines);
        let (_sender, mut seen) = watch::channel(kubelet);
        let registered =
            is_registered(&mut seen, Duration::from_millis(1), Path::new("/wrong/plugins_registry"));
        let registered = timeout(Duration::from_millis(100), registered).await.ok();
        (registered, fs::read_to_string(&log).unwrap())
    }

    #[tokio::test]
    async fn a_driver_to_which_no_kubelet_comes_warns_of_the_folder_and_the_value_to_correct_and_waits_on() {
        let (registered, text) = after(Kubelet::Away).await;
        assert_eq!(registered, None);
        for words in ["WARN", "/wrong/plugins_registry", "driver.kubelet (Helm)"] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[tokio::test]
    async fn a_kubelet_that_looks_and_says_nothing_is_not_waited_for_any_longer() {
        assert_eq!(after(Kubelet::Looked).await, (Some(false), String::new()));
        assert_eq!(after(Kubelet::Registered).await, (Some(true), String::new()));
    }

    #[test]
    fn the_sockets_path_as_kubelet_escapes_it_is_an_authority_that_the_server_accepts() {
        let escaped =
            socket(Path::new("/var/lib/kubelet/plugins_registry")).display().to_string().replace('/', "%2F");
        assert!(escaped.parse::<Authority>().is_ok(), "{escaped}");
        assert!(escaped.replace('@', "-").parse::<Authority>().is_err(), "the @ is no longer needed");
    }
}
