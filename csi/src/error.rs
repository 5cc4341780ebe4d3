//! Everything that can go wrong for a volume, as a sentence that says what to do: kubelet shows it as an
//! event on the Pod. `node` turns it into a gRPC status at the end of each call.

use std::path::PathBuf;
use std::time::Duration;

use connectors_api::attributes::AttributeError;
use connectors_api::names::{AUDIENCE, CSI_DRIVER, USER_ROLE};
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::template::TemplateError;
use thiserror::Error;
use tonic::{Code, Status};

#[derive(Debug, Error)]
pub enum Error {
    // The Pod's specification.
    #[error("{0} is required")]
    Missing(&'static str),
    #[error("target_path {0:?} must be absolute and without \"..\"")]
    TargetPath(PathBuf),
    #[error(
        "set csi.readOnly of the pod's volume: driver {CSI_DRIVER} requires all volume requests to set read-only to 'true'"
    )]
    NotReadOnly,
    #[error(
        "driver {CSI_DRIVER} serves inline volumes only: use a csi volume in the pod instead of a PersistentVolume"
    )]
    NotInline,
    #[error("driver {CSI_DRIVER} mounts files: a block volume cannot be had")]
    Block,
    #[error("mount option {0:?} is not supported: remove it")]
    MountOption(String),
    #[error("volume_mount_group {0:?} is not a group id")]
    MountGroup(String),
    #[error("the volume's attributes take {has} KiB, more than the {most} KiB that a volume may have")]
    LargeAttributes { has: usize, most: usize },
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    #[error("none of the configurations {asked:?} exists: {known}")]
    UnknownConfigurations { asked: Vec<String>, known: String },
    #[error("volume attribute \"configuration.params\": configuration {configuration:?} {problem}")]
    Parameter { configuration: String, problem: String },

    // What kubelet must send, set in the CSIDriver object.
    #[error("kubelet sent no {0}: set podInfoOnMount in CSIDriver {CSI_DRIVER}")]
    PodInfo(&'static str),
    #[error(
        "kubelet sent no ServiceAccount token for audience {AUDIENCE}: add it to tokenRequests of CSIDriver {CSI_DRIVER}"
    )]
    Token,
    #[error(
        "the ServiceAccount token is older than token.expiration ({} min) allows: it is served again when kubelet has renewed it \
         (after 24 of 30 min); leave token.expiration out to avoid the gap", .0.as_secs() / 60
    )]
    TokenTooOld(Duration),

    // The connector.
    #[error(
        "connector {:?} not found in namespace {:?}: create it or correct connector.name and connector.namespace",
        .0.name, .0.namespace
    )]
    ConnectorNotFound(ConnectorRef),
    #[error("connector {:?} in namespace {:?} is not ready: {reason}", .connector.name, .connector.namespace)]
    ConnectorNotReady { connector: ConnectorRef, reason: String },
    #[error("connectorclass {class:?} of connector {:?} in namespace {:?} not found", .connector.name, .connector.namespace)]
    ClassNotFound { connector: ConnectorRef, class: String },
    #[error(
        "serviceaccount {account} may not use connector {:?} in namespace {:?}: bind ClusterRole {USER_ROLE} to it in that \
         namespace",
        .connector.name, .connector.namespace
    )]
    NotAllowed { account: String, connector: ConnectorRef },
    #[error("file {file:?} of configuration {configuration:?} in connectorclass {class:?}: {source}")]
    Template { class: String, configuration: String, file: String, source: TemplateError },
    #[error(
        "configuration {configuration:?} in connectorclass {class:?} has a file named {file:?}: use letters, digits, - _ ."
    )]
    FileName { class: String, configuration: String, file: String },
    #[error(
        "file {file:?} of configuration {configuration:?} in connectorclass {class:?} would be no single document of {format}: \
         print values with yamlScalar or toJson"
    )]
    NotOneDocument { class: String, configuration: String, file: String, format: &'static str },
    #[error(
        "the volume's files need {0} KiB, more than the 480 KiB that a volume holds: use fewer configurations"
    )]
    TooLarge(usize),

    #[error(
        "volumes of namespace {0:?} on this node take all the memory that they may: use fewer files and connectors in each, or \
         fewer volumes"
    )]
    NoRoom(String),
    #[error(
        "too many volumes of namespace {0:?} are made or renewed on this node at once: kubelet tries again"
    )]
    Crowded(String),

    // The cluster and the node.
    #[error("the connector CA is not published yet (ConfigMap {0}): is the controller running?")]
    NoCaBundle(String),
    #[error("cannot read {what}: the API server did not answer as expected")]
    Api { what: String, source: Box<kube::Error> },
    #[error("the API server did not answer within {} s", .0.as_secs())]
    Deadline(Duration),
    #[error("another call for this volume is still running")]
    Busy,
    #[error("{0:?} holds something that this driver did not mount: look at it on the node and remove it")]
    Foreign(PathBuf),
    #[error("cannot {what} the volume on the node")]
    Node { what: &'static str, source: std::io::Error },
    #[error("the driver stopped in the middle of a call")]
    Stopped,

    // Start-up.
    #[error("cannot serve on {socket:?}: {source}")]
    Socket { socket: PathBuf, source: std::io::Error },
    #[error("the driver does not answer on {0:?}")]
    NotServing(PathBuf),
    #[error(
        "no kubelet has registered the driver on this node yet, and Pods wait for their volumes: if kubelet's log has no word of \
         it, {0:?} does not lie in kubelet's folder (its --root-dir); correct driver.kubelet (Helm) or config/csi/kubelet.yaml"
    )]
    NotRegistered(PathBuf),
    #[error("the gRPC server failed")]
    Server(#[from] tonic::transport::Error),
    #[error("kubelet refused the registration: {0}")]
    Refused(String),
}

impl Error {
    /// The code that CSI and kubelet expect. Kubelet retries after each of them; `Unavailable` and `Aborted`
    /// also tell it that the volume may exist.
    pub fn code(&self) -> Code {
        match self {
            Error::Missing(_)
            | Error::TargetPath(_)
            | Error::NotReadOnly
            | Error::NotInline
            | Error::Block
            | Error::MountOption(_)
            | Error::MountGroup(_)
            | Error::LargeAttributes { .. }
            | Error::Attribute(_)
            | Error::UnknownConfigurations { .. }
            | Error::Parameter { .. } => Code::InvalidArgument,
            Error::ConnectorNotFound(_) | Error::ClassNotFound { .. } => Code::NotFound,
            Error::NotAllowed { .. } => Code::PermissionDenied,
            Error::PodInfo(_)
            | Error::Token
            | Error::Template { .. }
            | Error::FileName { .. }
            | Error::NotOneDocument { .. }
            | Error::TooLarge(_)
            | Error::Foreign(_) => Code::FailedPrecondition,
            Error::ConnectorNotReady { .. }
            | Error::TokenTooOld(_)
            | Error::NoCaBundle(_)
            | Error::Api { .. }
            | Error::Deadline(_)
            | Error::Stopped => Code::Unavailable,
            Error::NoRoom(_) => Code::ResourceExhausted,
            Error::Crowded(_) | Error::Busy => Code::Aborted,
            Error::Node { .. }
            | Error::Socket { .. }
            | Error::NotServing(_)
            | Error::NotRegistered(_)
            | Error::Server(_)
            | Error::Refused(_) => Code::Internal,
        }
    }

    /// The answer while nothing is mounted.
    pub fn status(&self) -> Status {
        Status::new(self.code(), self.to_string())
    }

    /// The answer while the Pod uses files of an earlier publish. A final code would let older kubelets
    /// remove the mount's folder under the running Pod (kubernetes#121271), so it never is one.
    pub fn status_of_republish(&self) -> Status {
        match self {
            Error::TokenTooOld(_) => self.status(),
            _ => {
                Status::unavailable(format!("what could be renewed was, the rest keeps its content: {self}"))
            }
        }
    }

    /// The cause for the log; the message above is for the Pod's user.
    pub fn cause(&self) -> String {
        std::error::Error::source(self).map(ToString::to_string).unwrap_or_default()
    }
}
