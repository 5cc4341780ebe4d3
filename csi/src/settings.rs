//! Settings of the driver: flags, each with an environment variable, defaults as in config/csi.
//! `main` reads them, `lib` uses them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use connectors_api::names::SYSTEM_NAMESPACE;

#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Socket of the driver, at the same path inside the container and on the node: kubelet gets it from the
    /// registration
    #[arg(
        long,
        env = "CSI_SOCKET",
        default_value = "/var/lib/kubelet/plugins/connectors-csi/csi.sock",
        global = true
    )]
    pub csi_socket: PathBuf,
    /// Folder in which kubelet looks for registration sockets
    #[arg(
        long,
        env = "REGISTRATION_DIR",
        default_value = "/var/lib/kubelet/plugins_registry",
        global = true
    )]
    pub registration_dir: PathBuf,
    /// Name of this node: must be given
    #[arg(long, env = "NODE_NAME", default_value = "")]
    pub node_name: String,
    /// Namespace of gateway and controller, where the connector CA is published (not the driver's own)
    #[arg(long, env = "CONNECTORS_NAMESPACE", default_value = SYSTEM_NAMESPACE)]
    pub namespace: String,
    /// Domain of the cluster's Services
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Address of the API server as Pods know it: it stays out of the proxy
    #[arg(long, env = "KUBERNETES_SERVICE_HOST")]
    pub kubernetes_service_host: Option<String>,
    /// Whoever may get a connector may mount it: set it together with the gateway's authorization.get_is_use,
    /// for migration
    #[arg(long, env = "GET_IS_USE")]
    pub get_is_use: bool,
    /// json for machines, text for people
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}
