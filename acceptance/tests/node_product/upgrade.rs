//! `helm upgrade` replaces gateway, controller and driver at once, under open watches, running commands, a loop of
//! requests and a mounted volume: docs/installation.md says who may notice.

use std::io::Write;

use anyhow::{Context, Result, anyhow, bail, ensure};
use connectors_testenv::within;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use connectors_acceptance::cluster::{Cluster, SOON};
use connectors_acceptance::pages::shell;

const NAMESPACE: &str = "upgrade";
const POD: &str = "inspect-k8s-access";
const WATCHED: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: watched}, data: {value: before}}";

/// Each says `before` at once, and `after` when the ConfigMap is changed or the file is there. kubectl does not open a
/// watch again that was cut.
const WATCH: &str = r#"kubectl get configmap watched -n upgrade --watch -o 'jsonpath={.data.value}{"\n"}'"#;
const EXEC: &str = "kubectl exec -n upgrade inspect-k8s-access -- \
     sh -c 'echo before; until [ -e /tmp/end ]; do sleep 0.2; done; echo after'";
const OPEN: [(&str, &str, &str); 4] = [
    ("a watch", "", WATCH),
    ("a watch in reverse mode", "KUBECONFIG=/opt/kube/kubeconfig-reverse", WATCH),
    ("exec over WebSocket", "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true", EXEC),
    ("exec over SPDY", "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false", EXEC),
];

/// Each kubectl has connections of its own. Ends with the first that fails.
const REQUESTS: &str = "n=0; until [ -e /tmp/end ]; do for kind in kubeconfig kubeconfig-reverse; do \
     kubectl --kubeconfig /opt/kube/$kind get configmap watched -n upgrade -o name >/tmp/said 2>&1 || \
     { echo \"request $n by $kind: $(cat /tmp/said)\" | tee /tmp/failed; exit 1; }; \
     n=$((n+1)); echo $n >/tmp/next; mv /tmp/next /tmp/count; done; done";
/// So many with all old gateways on their way out.
const MORE: u64 = 20;

pub async fn of_everything(cluster: &Cluster) -> Result<()> {
    cluster.own_connector(NAMESPACE).await?;
    cluster.apply(NAMESPACE, WATCHED).await?;
    let names = "configuration.names: \"kubeconfig";
    cluster
        .running_pod(NAMESPACE, |yaml| yaml.replace(names, &format!("{names},kubeconfig-reverse")))
        .await?;
    let token = inside(cluster, "cat /opt/kube/context.token").await?;
    let mut open = Vec::new();
    for (what, environment, line) in OPEN {
        open.push(Open::start(cluster, what, &format!("{environment} {line}")).await?);
    }
    let requests = cluster.exec_command(NAMESPACE, POD, REQUESTS).spawn().context("start kubectl")?;
    within(SOON, "requests begin", || async { Ok(count(cluster).await.ok()) }).await?;

    let old = gateways(cluster).await?;
    upgrade(cluster).await?;
    within(SOON, "each old gateway drains", || draining(cluster, &old)).await?;
    let wanted = count(cluster).await? + MORE;
    within(SOON, "requests go on meanwhile", || async {
        Ok((count(cluster).await? >= wanted).then_some(()))
    })
    .await?;
    // What is new is checked and mounted by the new ones, and what is mounted is renewed.
    cluster.ready_connector("after-upgrade", |yaml| yaml).await?;
    cluster.running_pod("after-upgrade", |yaml| yaml).await?;
    renewed(cluster, &token).await?;

    cluster
        .kubectl(&format!("patch configmap watched -n {NAMESPACE} -p {{\"data\":{{\"value\":\"after\"}}}}"))
        .await?;
    inside(cluster, "touch /tmp/end").await?;
    for stream in &mut open {
        stream.says("after").await?;
    }
    let requests = requests.wait_with_output().await?;
    ensure!(requests.status.success(), "{}", String::from_utf8_lossy(&requests.stdout));
    // The Pod's watches end with it, and an old gateway with its last stream.
    cluster.kubectl(&format!("delete pod {POD} -n {NAMESPACE} --timeout 60s")).await?;
    within(SOON, "the old gateways are gone", || async {
        let now = gateways(cluster).await?;
        Ok(old.iter().all(|name| !now.contains(name)).then_some(()))
    })
    .await
}

async fn inside(cluster: &Cluster, line: &str) -> Result<String> {
    cluster.exec(NAMESPACE, POD, line).await
}

/// How many requests were answered; none any more once one was not.
async fn count(cluster: &Cluster) -> Result<u64> {
    let said = inside(cluster, "cat /tmp/failed 2>/dev/null || cat /tmp/count").await?;
    said.parse().map_err(|_| anyhow!("a request failed during the upgrade: {said}"))
}

/// As docs/installation.md says, with an annotation that makes other Pods of all parts.
async fn upgrade(cluster: &Cluster) -> Result<()> {
    let other = json!({"podAnnotations": {"version": "next"}});
    let gateway = json!({"podAnnotations": {"version": "next"}, "settings": Cluster::settings(&Value::Null)});
    let mut values = tempfile::NamedTempFile::new()?;
    write!(values, "{}", json!({"gateway": gateway, "controller": other, "driver": other}))?;
    cluster.kubectl("apply --server-side --force-conflicts -f charts/connectors/crds").await?;
    let values = values.path().display();
    // Other tests have edited by kubectl what is the chart's.
    let upgrade = "helm upgrade connectors charts/connectors -n connectors-system --force-conflicts";
    shell(&format!("{upgrade} -f {values}"), &[]).await?;
    cluster.rolled_out().await
}

async fn gateways(cluster: &Cluster) -> Result<Vec<String>> {
    let found = "get pods -n connectors-system -l app.kubernetes.io/name=connectors-gateway -o name";
    Ok(cluster.kubectl(found).await?.lines().map(str::to_owned).collect())
}

async fn draining(cluster: &Cluster, gateways: &[String]) -> Result<Option<()>> {
    for name in gateways {
        let log = cluster.kubectl(&format!("logs {name} -n connectors-system")).await;
        // One that had no stream may be gone already.
        if log.is_ok_and(|log| !log.contains("\"draining\"")) {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

/// kubelet asks for another token when the wanted lifetime is another, and publishes again when the Pod changes.
async fn renewed(cluster: &Cluster, first: &str) -> Result<()> {
    let lifetime = r#"[{"op":"replace","path":"/spec/tokenRequests/0/expirationSeconds","value":1700}]"#;
    cluster.kubectl(&format!("patch csidriver connectors-csi --type json -p {lifetime}")).await?;
    let mut round = 0;
    within(SOON, "the new driver renews the volume's files", || {
        round += 1;
        async move {
            cluster.kubectl(&format!("annotate pod {POD} -n {NAMESPACE} --overwrite round={round}")).await?;
            Ok((inside(cluster, "cat /opt/kube/context.token").await? != first).then_some(()))
        }
    })
    .await
}

/// A command in the Pod whose stream stays open.
struct Open {
    what: &'static str,
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
}

impl Open {
    async fn start(cluster: &Cluster, what: &'static str, line: &str) -> Result<Open> {
        let mut child = cluster.exec_command(NAMESPACE, POD, line).spawn().context("start kubectl")?;
        let out = BufReader::new(child.stdout.take().context("its output")?).lines();
        let mut open = Open { what, child, out };
        open.says("before").await?;
        Ok(open)
    }

    async fn says(&mut self, wanted: &str) -> Result<()> {
        let line = timeout(SOON, self.out.next_line()).await;
        let line = line.with_context(|| format!("{}: {wanted:?} does not come", self.what))??;
        if line.as_deref() == Some(wanted) {
            return Ok(());
        }
        let mut errors = String::new();
        if let (None, Some(stderr)) = (&line, &mut self.child.stderr) {
            stderr.read_to_string(&mut errors).await?;
        }
        bail!("{}: {line:?} in place of {wanted:?}: {}", self.what, errors.trim())
    }
}
