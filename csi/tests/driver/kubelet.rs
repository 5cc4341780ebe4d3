//! Kubelet's side: waits for the registration, makes the Pod's folder, calls publish and unpublish with what
//! kubelet sends.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use connectors_csi::proto::csi::node_client::NodeClient;
use connectors_csi::proto::csi::volume_capability::{AccessType, MountVolume};
use connectors_csi::proto::csi::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest, VolumeCapability};
use connectors_csi::proto::registration::registration_client::RegistrationClient;
use connectors_csi::proto::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use connectors_csi::{Error, LogFormat, Settings, run};
use connectors_testenv::eventually;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::cluster;

pub struct Kubelet {
    pub folder: TempDir,
    pub settings: Settings,
    pub driver: Driver,
    node: NodeClient<Channel>,
}

/// The driver in this process, on its own sockets.
pub struct Driver {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Driver {
    pub fn start(settings: &Settings, client: kube::Client) -> Driver {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(run(settings.clone(), client, async move { drop(stopped.await) }));
        Driver { stop, task }
    }

    /// As SIGTERM does.
    pub async fn stop(self) -> Result<(), Error> {
        let _ = self.stop.send(());
        outcome(self.task).await
    }

    /// When it ends of itself.
    pub async fn end(self) -> Result<(), Error> {
        outcome(self.task).await
    }
}

async fn outcome(task: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    tokio::time::timeout(Duration::from_secs(10), task).await.expect("the driver ends within 10 s").unwrap()
}

impl Kubelet {
    /// A node on which the driver has registered itself.
    pub async fn start() -> Kubelet {
        Kubelet::with_client(cluster::drivers_client().await).await
    }

    pub async fn with_client(client: kube::Client) -> Kubelet {
        Kubelet::with(client, |_| {}).await
    }

    pub async fn with(client: kube::Client, change: impl Fn(&mut Settings)) -> Kubelet {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        change(&mut settings);
        let driver = Driver::start(&settings, client);
        let node = register(&settings, true).await;
        Kubelet { folder, settings, driver, node }
    }

    /// As after an update of the DaemonSet: a new process finds the mounts of the old one.
    pub async fn restart_driver(self) -> Kubelet {
        self.driver.stop().await.unwrap();
        let driver = Driver::start(&self.settings, cluster::drivers_client().await);
        let node = register(&self.settings, true).await;
        Kubelet { driver, node, ..self }
    }

    /// A Pod's volume with the quick start's attributes; its folder is there, as kubelet makes it.
    pub fn volume(&self, namespace: &str, pod: &str, token: &str) -> PodVolume {
        let parent = self.folder.path().join("pods").join(pod).join("volumes/kubernetes.io~csi/kubeconfig");
        fs::create_dir_all(&parent).unwrap();
        PodVolume::new(&parent.join("mount"), namespace, pod, token)
    }

    pub async fn publish(&self, volume: &PodVolume) -> Result<(), Status> {
        self.node.clone().node_publish_volume(volume.request()).await.map(drop)
    }

    pub async fn unpublish(&self, volume: &PodVolume) -> Result<(), Status> {
        let (volume_id, target_path) = (volume.id.clone(), volume.target.display().to_string());
        self.node
            .clone()
            .node_unpublish_volume(NodeUnpublishVolumeRequest { volume_id, target_path })
            .await
            .map(drop)
    }
}

/// What a Pod's specification says, and what kubelet adds.
#[derive(Clone)]
pub struct PodVolume {
    pub id: String,
    pub target: PathBuf,
    pub attributes: BTreeMap<String, String>,
    pub token: String,
    pub group: String,
    pub read_only: bool,
    namespace: String,
    pod: String,
}

impl PodVolume {
    pub fn new(target: &Path, namespace: &str, pod: &str, token: &str) -> PodVolume {
        let attributes = [("connector.name", "k8s"), ("configuration.names", "kubeconfig")];
        PodVolume {
            id: format!("csi-{pod}"),
            target: target.to_owned(),
            attributes: attributes
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            token: token.to_owned(),
            group: String::new(),
            read_only: true,
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
        }
    }

    pub fn with(mut self, key: &str, value: &str) -> PodVolume {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn without(mut self, key: &str) -> PodVolume {
        self.attributes.remove(key);
        self
    }

    pub fn request(&self) -> NodePublishVolumeRequest {
        let mut request = NodePublishVolumeRequest {
            volume_id: self.id.clone(),
            target_path: self.target.display().to_string(),
            readonly: self.read_only,
            volume_context: self.attributes.clone().into_iter().collect(),
            ..Default::default()
        };
        let mount = MountVolume { volume_mount_group: self.group.clone(), ..Default::default() };
        request.volume_capability = Some(VolumeCapability { access_type: Some(AccessType::Mount(mount)) });
        self.add_what_kubelet_adds(&mut request);
        request
    }

    /// Pod information in the context and the token in the secrets, as by config/csi/csidriver.yaml.
    pub fn add_what_kubelet_adds(&self, request: &mut NodePublishVolumeRequest) {
        let token = format!(
            r#"{{"connectors.alauda.io":{{"token":"{}","expirationTimestamp":"2030-01-01T00:00:00Z"}}}}"#,
            self.token
        );
        request.secrets.insert("csi.storage.k8s.io/serviceAccount.tokens".into(), token);
        for (key, value) in [
            ("ephemeral", "true"),
            ("pod.name", self.pod.as_str()),
            ("pod.namespace", self.namespace.as_str()),
            ("pod.uid", "0b8f0a1c-0000-4000-8000-000000000000"),
            ("serviceAccount.name", "default"),
        ] {
            request.volume_context.insert(format!("csi.storage.k8s.io/{key}"), value.to_owned());
        }
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.target.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    pub fn mode(&self, file: &str) -> u32 {
        fs::metadata(self.target.join(file)).unwrap().permissions().mode() & 0o7777
    }

    /// What the user sees: not the machinery of the atomic swap.
    pub fn files(&self) -> Vec<String> {
        let names = fs::read_dir(&self.target)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with("..")).collect();
        names.sort();
        names
    }

    /// Lines of the kernel's mount table for the target.
    pub fn mounts(&self) -> Vec<String> {
        let target = self.target.parent().unwrap().canonicalize().unwrap().join("mount");
        let at_target = format!(" {} ", target.display());
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().filter(|line| line.contains(&at_target)).map(str::to_owned).collect()
    }
}

pub fn settings(folder: &Path) -> Settings {
    Settings {
        csi_socket: folder.join("plugins/connectors-csi/csi.sock"),
        registration_dir: folder.join("plugins_registry"),
        node_name: "node-1".into(),
        namespace: "connectors-system".into(),
        cluster_domain: "cluster.local".into(),
        kubernetes_service_host: Some("10.96.0.1".into()),
        get_is_use: false,
        log_format: LogFormat::Json,
    }
}

/// What kubelet's plugin watcher does when it sees a new socket. The driver must serve by then, so its client
/// comes back.
pub async fn register(settings: &Settings, accepted: bool) -> NodeClient<Channel> {
    let (mut registration, info) = found(settings).await;
    let channel = connect(Path::new(&info.endpoint)).await.expect("the driver serves before it registers");
    let error = if accepted { String::new() } else { "no".into() };
    let status = RegistrationStatus { plugin_registered: accepted, error };
    let answer = registration.notify_registration_status(status).await;
    assert!(answer.is_ok() || !accepted, "{answer:?}");
    NodeClient::new(channel)
}

pub async fn found(settings: &Settings) -> (RegistrationClient<Channel>, PluginInfo) {
    let socket = settings.registration_dir.join("connectors-csi@reg.sock");
    let channel = eventually("the registration socket", || connect(&socket)).await;
    let mut registration = RegistrationClient::new(channel);
    let info = registration.get_info(InfoRequest {}).await.unwrap().into_inner();
    (registration, info)
}

pub async fn connect(socket: &Path) -> Option<Channel> {
    Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect().await.ok()
}
