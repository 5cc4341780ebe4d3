//! Objects that a cluster is expected to have and that nothing else makes: DNS, a first ServiceAccount, and
//! on request the public description of the cluster.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::Layout;
use crate::control_plane::Server;
use crate::images::COREDNS;
use crate::tools::tool;

/// CoreDNS behind the Service `kube-dns`, as clusters have it. Names outside of the cluster do not exist.
pub(super) async fn install_dns(server: &Server, layout: &Layout) -> Result<()> {
    let manifest = include_str!("../../manifests/coredns.yaml");
    apply(
        server,
        &manifest.replace("DNS_ADDRESS", &layout.dns().to_string()).replace("COREDNS_IMAGE", COREDNS),
    )
    .await
}

/// Without controllers nobody makes it, and no Pod is accepted without.
pub(super) async fn make_default_service_account(server: &Server) -> Result<()> {
    apply(server, "{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: default}}")
        .await
}

/// `kube-public/cluster-info`, readable by anybody: address and authority of this cluster, as kubeadm
/// publishes them.
pub(super) async fn publish_cluster_info(server: &Server) -> Result<()> {
    let config = crate::kubeconfig::kubeconfig(server.url(), server.ca_pem(), None);
    let info = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": config},
    });
    apply(server, &format!("{info}\n---\n{}", include_str!("../../manifests/cluster-info.yaml"))).await
}

async fn apply(server: &Server, yaml: &str) -> Result<()> {
    let mut command = tokio::process::Command::new(tool("kubectl")?);
    command.args(["apply", "--server-side", "-f", "-"]).env("KUBECONFIG", server.kubeconfig());
    command.env("KUBECACHEDIR", server.kubeconfig().with_file_name("kubectl")).kill_on_drop(true);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("run kubectl")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(yaml.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
