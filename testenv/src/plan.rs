//! What a run consists of: which clusters, with what images, beside which command. Written by `session`, read
//! by the processes inside.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a cluster consists of.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Kind {
    None,
    /// etcd and kube-apiserver
    ControlPlane,
    /// a whole cluster that runs Pods
    Node,
}

/// Everything that the processes inside need to know.
#[derive(Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) scratch: PathBuf,
    /// The scratch folder's name, unique on this machine.
    pub(crate) run: String,
    pub(crate) home: Kind,
    pub(crate) target: Kind,
    pub(crate) target_cluster_info: bool,
    pub(crate) images: Vec<PathBuf>,
    /// None: the user's shell.
    pub(crate) command: Option<Vec<String>>,
}
