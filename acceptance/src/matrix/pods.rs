//! What the cells need of the cluster: a connector whose target is the cluster itself (only a target with a
//! kubelet can run `exec`), a Pod that serves, and one Pod per client.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::{Matrix, Row};

/// Helm waits for a Pod instead of a change: until the others have seen theirs.
const BEHIND: u64 = 15;

/// The client programs know it, and the name of the Pod that serves.
pub(super) const NAMESPACE: &str = "clients";
const IMAGE: &str = "alpine/kubectl:1.35.4";
/// The programs, as this checkout has them.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");

/// What the Pod serves: a line twice a second, and a file on port 8000.
const SERVE: &str =
    "mkdir /tmp/www; head -c 1048576 /dev/urandom >/tmp/www/file; busybox httpd -p 8000 -h /tmp/www
n=0; while true; do n=$((n+1)); echo line $n; sleep 0.5; done";

const MAPS: &str = "
{apiVersion: v1, kind: ConfigMap, metadata: {name: listed-1, labels: {for: list}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: listed-2, labels: {for: list}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: listed-3, labels: {for: list}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: watched}, data: {value: '1'}}";

/// A file or folder of this machine that a client's Pod gets, to read only.
#[derive(Clone)]
pub struct Mount {
    pub from: PathBuf,
    pub to: PathBuf,
}

impl Mount {
    pub fn new(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Mount {
        Mount { from: from.into(), to: to.into() }
    }

    /// At the same place, and nothing if this machine does not have it.
    pub fn same(path: impl Into<PathBuf>) -> Option<Mount> {
        let path = path.into();
        path.exists().then(|| Mount::new(path.clone(), path))
    }

    /// The programs and libraries of this machine. `/bin` stays the image's.
    pub fn system() -> Vec<Mount> {
        let folders = ["/usr", "/lib", "/lib64", "/etc/ssl"].map(Path::new).into_iter();
        // `/lib` is a link to `/usr/lib` here, and would not be one there.
        folders
            .filter(|folder| folder.exists())
            .map(|folder| Mount::new(folder.canonicalize().unwrap_or_default(), folder))
            .collect()
    }
}

/// What the right answers are made of.
pub(super) struct Facts {
    /// Sums of what each client's Pod has to copy.
    files: Vec<(&'static str, String)>,
    /// The sum of what the server serves.
    pub(super) served: String,
}

impl Facts {
    pub(super) fn file_of(&self, row: &Row) -> Result<String> {
        let found = self.files.iter().find(|(name, _)| *name == row.name);
        Ok(found.context("every client has a file")?.1.clone())
    }
}

/// Makes all of it, and waits until it is there.
pub(super) async fn start(matrix: &Matrix<'_>) -> Result<Facts> {
    let cluster = matrix.cluster;
    cluster.own_connector(NAMESPACE).await?;
    cluster.apply(NAMESPACE, MAPS).await?;
    cluster.apply(NAMESPACE, &server().to_string()).await?;
    for row in &matrix.rows {
        cluster.apply(NAMESPACE, &pod(row, matrix.idle.as_secs()).to_string()).await?;
    }
    let wait = format!("wait --for condition=Ready -n {NAMESPACE} pod --all --timeout 120s");
    if let Err(error) = cluster.kubectl(&wait).await {
        anyhow::bail!("{error:#}\n{}", cluster.events(NAMESPACE).await?);
    }
    let make =
        format!("head -c {} /dev/urandom >/tmp/file && sha256sum </tmp/file | cut -d ' ' -f 1", matrix.size);
    let files = matrix.rows.iter().map(|row| {
        let make = &make;
        async move { anyhow::Ok((row.name, cluster.exec(NAMESPACE, row.name, make).await?)) }
    });
    let files = try_join_all(files).await?;
    let served = cluster.exec(NAMESPACE, "server", "sha256sum </tmp/www/file | cut -d ' ' -f 1").await?;
    Ok(Facts { files, served })
}

fn server() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "server", "image": IMAGE, "command": ["sh", "-c", SERVE]}],
        },
    })
}

/// The client's Pod: both kubeconfigs, the programs, and what of this machine runs them.
pub fn pod(row: &Row, idle: u64) -> Value {
    let programs = Mount::new(PROGRAMS, "/clients");
    let mounts: Vec<&Mount> = std::iter::once(&programs).chain(&row.mounts).collect();
    let volume =
        |(n, mount): (usize, &&Mount)| json!({"name": format!("host-{n}"), "hostPath": {"path": mount.from}});
    let place = |(n, mount): (usize, &&Mount)| json!({"name": format!("host-{n}"), "mountPath": mount.to, "readOnly": true});
    let mut volumes: Vec<Value> = mounts.iter().enumerate().map(volume).collect();
    let mut places: Vec<Value> = mounts.iter().enumerate().map(place).collect();
    let attributes =
        json!({"connector.name": "k8s-connector", "configuration.names": "kubeconfig,kubeconfig-reverse"});
    volumes.push(json!({"name": "kube", "csi": {"readOnly": true, "driver": "connectors-csi", "volumeAttributes": attributes}}));
    places.push(json!({"name": "kube", "mountPath": "/opt/kube"}));
    let env = |name: &str, value: &str| json!({"name": name, "value": value});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": row.name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "containers": [{
                "name": "client", "image": IMAGE, "command": ["sleep", "7200"], "volumeMounts": places,
                "env": [
                    env("HOME", "/tmp"), env("PATH", "/bin:/usr/bin"), env("IDLE", &(idle + BEHIND).to_string()),
                    // client-go asks an idle HTTP/2 connection whether it is alive: after 5 s instead of 30.
                    env("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "5"), env("HTTP2_PING_TIMEOUT_SECONDS", "5"),
                ],
            }],
            "volumes": volumes,
        },
    })
}
