//! The full cluster: controllers, scheduler, proxy and kubelet around the API server, then DNS.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::Client;
use kube::api::Api;
use serde_json::json;

use super::{Cluster, Site, addons, client, component, runtime, serve};
use crate::control_plane::{Server, write};
use crate::prerequisites::BUSYBOX;
use crate::process::{Process, bound};
use crate::tools::tool;

/// Starts everything; what does not depend on each other starts side by side.
pub(super) async fn start(site: &Site) -> Result<Cluster> {
    let containerd = runtime::start(site)?;
    let (images, dir, logs) = (site.images.clone(), site.dir.clone(), site.logs.clone());
    let import = tokio::task::spawn_blocking(move || runtime::import(&images, &dir, &logs));
    let server = serve(site).await?;
    let client = client(&server).await?;
    let mut cluster = Cluster { server, processes: vec![containerd] };
    for start in [controllers, scheduler, kubelet] {
        cluster.processes.push(start(site, &cluster.server)?);
    }
    cluster.until("the node registers", async || node(&client, site).await.is_some()).await?;
    // It asks for its node once and then waits ever longer.
    cluster.processes.push(proxy(site, &cluster.server)?);
    import.await??;
    site.say("images imported");
    addons::install_dns(&cluster.server, &site.layout).await?;
    cluster
        .until("the node becomes Ready", async || {
            node(&client, site).await.is_some_and(|node| is_ready(&node))
        })
        .await?;
    site.say("node Ready");
    cluster.until("Pods can be made", async || has_default_service_account(&client).await).await?;
    cluster.until("CoreDNS becomes available", async || dns_is_available(&client).await).await?;
    let server = site.layout.dns().to_string();
    cluster.until("DNS answers", async || resolves(&server).await).await?;
    site.say("DNS answers");
    Ok(cluster)
}

fn controllers(site: &Site, server: &Server) -> Result<Process> {
    let mut command = bound(tool("kube-controller-manager")?);
    command.current_dir(&site.dir).arg("--kubeconfig").arg(component(
        server,
        &site.dir,
        "system:kube-controller-manager",
    )?);
    command.args(["--service-account-private-key-file", "service-accounts.key", "--root-ca-file", "ca.crt"]);
    command.args([
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--cluster-cidr",
        &site.layout.pods(),
        "--allocate-node-cidrs=true",
        "--node-cidr-mask-size=24",
    ]);
    // It makes an account and a token for each of fifty controllers: at the default rate that alone takes 4
    // s.
    command.args(["--kube-api-qps", "500", "--kube-api-burst", "1000"]);
    Process::start("kube-controller-manager", command, &site.logs)
}

fn scheduler(site: &Site, server: &Server) -> Result<Process> {
    let mut command = bound(tool("kube-scheduler")?);
    command.current_dir(&site.dir).arg("--leader-elect=false");
    command.arg("--kubeconfig").arg(component(server, &site.dir, "system:kube-scheduler")?);
    Process::start("kube-scheduler", command, &site.logs)
}

fn proxy(site: &Site, server: &Server) -> Result<Process> {
    let mut command = bound(tool("kube-proxy")?);
    command.current_dir(&site.dir).arg("--kubeconfig").arg(component(
        server,
        &site.dir,
        "system:kube-proxy",
    )?);
    command.args([
        "--proxy-mode",
        "nftables",
        "--cluster-cidr",
        &site.layout.pods(),
        "--hostname-override",
        site.layout.name,
    ]);
    // The connection table is the machine's; its size is not ours to set.
    command.args(["--conntrack-max-per-core", "0"]);
    Process::start("kube-proxy", command, &site.logs)
}

fn kubelet(site: &Site, server: &Server) -> Result<Process> {
    let (name, address) = (site.layout.name, site.layout.node().to_string());
    let identity =
        server.authority().member(&format!("system:node:{name}"), &["system:nodes"], &[name, &address]);
    write(&site.dir.join("kubelet.crt"), &identity.pem())?;
    write(&site.dir.join("kubelet.key"), &identity.key_pem())?;
    write(&site.dir.join("kubelet.yaml"), &kubelet_config(site))?;
    write(&site.dir.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
    let user = crate::kubeconfig::kubeconfig(server.url(), server.ca_pem(), Some(&identity));
    write(&site.dir.join("kubelet.kubeconfig"), &user)?;
    let mut command: Command = bound(tool("kubelet")?);
    command.current_dir(&site.dir).args(["--config", "kubelet.yaml", "--kubeconfig", "kubelet.kubeconfig"]);
    command.args(["--hostname-override", name, "--node-ip", &address]);
    Process::start("kubelet", command, &site.logs)
}

/// A guest on this machine: it evicts nothing for want of disk, frees no images, asks for no cgroup version,
/// and keeps to its own control group. Volumes are looked at every 10 s, so that a republish is not a matter
/// of minutes.
fn kubelet_config(site: &Site) -> String {
    let path = |name: &str| site.dir.join(name);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": path("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": path("kubelet.crt"),
        "tlsPrivateKeyFile": path("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{}", runtime::SOCKET),
        "clusterDNS": [site.layout.dns()],
        "clusterDomain": "cluster.local",
        "resolvConf": path("resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": site.cgroup,
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "evictionHard": {
            "memory.available": "50Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.available": "0%", "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": false,
        "volumePluginDir": path("volume-plugins"),
        "podLogsDir": path("pods"),
        "syncFrequency": "10s",
    })
    .to_string()
}

async fn node(client: &Client, site: &Site) -> Option<Node> {
    Api::<Node>::all(client.clone()).get_opt(site.layout.name).await.ok().flatten()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// The controller manager makes it a moment after the start; no Pod is accepted before.
async fn has_default_service_account(client: &Client) -> bool {
    Api::<ServiceAccount>::namespaced(client.clone(), "default")
        .get_opt("default")
        .await
        .is_ok_and(|found| found.is_some())
}

async fn dns_is_available(client: &Client) -> bool {
    let deployment =
        Api::<Deployment>::namespaced(client.clone(), "kube-system").get_opt("coredns").await.ok().flatten();
    deployment.and_then(|found| found.status?.available_replicas).is_some_and(|count| count > 0)
}

/// Through the Service: available Pods are of no use before kube-proxy knows them.
async fn resolves(server: &str) -> bool {
    let mut command = tokio::process::Command::new(Path::new(BUSYBOX));
    command.args(["timeout", "1", BUSYBOX, "nslookup", "kubernetes.default.svc.cluster.local", server]);
    command.output().await.is_ok_and(|output| output.status.success())
}
