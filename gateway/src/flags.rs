//! The command line, by flag or environment: `main` reads it once. What tunes the data plane is in `settings`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Parser, ValueEnum};
use connectors_api::names;

/// The shared gateway of Connectors: lets workloads use a tool without holding its credential.
#[derive(Parser)]
#[command(version = version())]
pub struct Flags {
    /// Folder with gateway.yaml, which must be there unless --manifests is given; environment variables
    /// CONNECTORS_GATEWAY__GROUP__KEY win over it.
    #[arg(long, env = "SETTINGS_DIR", default_value = "/etc/connectors-gateway")]
    pub settings_dir: PathBuf,
    /// Namespace of the gateway and of the Secret with its issuing CA.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::SYSTEM_NAMESPACE)]
    pub namespace: String,
    /// The Pod's own addresses, which are never a target.
    #[arg(long, env = "POD_IPS", value_delimiter = ',')]
    pub pod_ips: Vec<IpAddr>,
    /// Domain of the cluster's DNS.
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The only user that may ask for probes. Default: ServiceAccount connectors-controller of the namespace.
    #[arg(long, env = "CONTROLLER_USER")]
    pub controller_user: Option<String>,
    /// json for machines, text for people.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// Without a cluster: folder of Connectors, ConnectorClasses and Secrets as YAML.
    #[arg(long, requires_all = ["clients", "ca_cert", "ca_key"])]
    pub manifests: Option<PathBuf>,
    /// Without a cluster: YAML list of clients (token, user, pod, connectors).
    #[arg(long)]
    pub clients: Option<PathBuf>,
    /// Without a cluster: PEM of the issuing CA, then what is above it.
    #[arg(long)]
    pub ca_cert: Option<PathBuf>,
    /// Without a cluster: PEM of the issuing CA's key.
    #[arg(long)]
    pub ca_key: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

/// Security updates of the library arrive by a new build: it must be seen which one is in.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} ({})", env!("CARGO_PKG_VERSION"), openssl::version::version()));
    &VERSION
}
