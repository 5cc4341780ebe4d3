//! The running cluster as the checks see it: kubectl, manifests, and waiting with a deadline.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use connectors_testenv::within;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::pages::{block, shell};

/// Manifests of the quick start, as its user applies them.
pub const CONNECTOR: &str = include_str!("../../config/samples/connector.yaml");
pub const JOB: &str = include_str!("../../config/samples/job.yaml");
pub const INSPECT: &str = include_str!("../../config/samples/inspect.yaml");

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Whose connectors may have a target on the node.
pub const ON_THE_NODE: &str = "path-address";

/// Enough for a Pod to start and for a first probe on a busy machine.
pub const SOON: Duration = Duration::from_secs(90);

pub struct Cluster {
    /// The target's API server and a token of it that may list Pods.
    pub address: String,
    pub token: String,
    target: PathBuf,
}

impl Cluster {
    /// Installs Connectors by Helm, as docs/installation.md says, and makes an account at the target.
    pub async fn install() -> Result<Cluster> {
        let target = std::env::var_os("TARGET_KUBECONFIG")
            .context("testenv sets TARGET_KUBECONFIG with --target")?
            .into();
        let mut cluster = Cluster { address: String::new(), token: String::new(), target };
        for words in [
            "create serviceaccount caller -n default",
            "create clusterrole caller --verb get,list,watch --resource pods,namespaces",
            "create clusterrolebinding caller --clusterrole caller --serviceaccount default:caller",
            "run only-at-the-target --image any",
        ] {
            cluster.at_target(words).await?;
        }
        cluster.token = cluster.new_token().await?;
        cluster.address = std::env::var("TARGET_URL").context("testenv sets TARGET_URL with --target")?;
        shell(&block("docs/installation.md", "helm install connectors")?.text, &[]).await?;
        cluster.set_targets(Value::Null).await?;
        cluster.rolled_out().await?;
        Ok(cluster)
    }

    pub async fn rolled_out(&self) -> Result<()> {
        for workload in [
            "-n connectors-system deployment/connectors-gateway",
            "-n connectors-system deployment/connectors-controller",
            "-n connectors-csi daemonset/connectors-csi",
        ] {
            if let Err(error) = self.kubectl(&format!("rollout status {workload} --timeout 120s")).await {
                bail!("{error:#}\n{}", self.explain().await);
            }
        }
        Ok(())
    }

    /// The gateway's `targets`: a target on the node is allowed in one namespace. kubelet delivers it after a while to
    /// Pods that run already.
    pub async fn set_targets(&self, deny: Value) -> Result<()> {
        let edit = json!({"data": {"gateway.yaml": Cluster::settings(&deny).to_string()}});
        self.kubectl(&format!(
            "patch configmap connectors-gateway -n connectors-system --type merge -p {edit}"
        ))
        .await
        .map(drop)
    }

    /// Streams may go on for as long as with the shipped settings.
    pub fn settings(deny: &Value) -> Value {
        let targets = json!({"allow": [{"namespaces": [ON_THE_NODE], "cidrs": ["0.0.0.0/0"]}], "deny": deny});
        let targets = if deny.is_null() { json!({"allow": targets["allow"]}) } else { targets };
        json!({"targets": targets, "timeouts": {"drain": "4m"}})
    }

    /// A further token of the same account.
    pub async fn new_token(&self) -> Result<String> {
        self.at_target("create token caller -n default --duration 1h").await
    }

    /// kubectl with these words, on the cluster that has Connectors. Its output without the last line end.
    pub async fn kubectl(&self, words: &str) -> Result<String> {
        run(kubectl(words), None).await
    }

    pub async fn at_target(&self, words: &str) -> Result<String> {
        let mut command = kubectl(words);
        command.env("KUBECONFIG", &self.target);
        run(command, None).await
    }

    pub async fn apply(&self, namespace: &str, yaml: &str) -> Result<()> {
        run(kubectl(&format!("apply -n {namespace} -f -")), Some(yaml)).await.map(drop)
    }

    /// A shell line inside of a Pod.
    pub async fn exec(&self, namespace: &str, pod: &str, line: &str) -> Result<String> {
        run(self.exec_command(namespace, pod, line), None).await
    }

    /// The same, to be started and listened to.
    pub fn exec_command(&self, namespace: &str, pod: &str, line: &str) -> Command {
        let mut command = kubectl(&format!("exec -n {namespace} {pod} -- sh -c"));
        command
            .arg(line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub async fn json(&self, words: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&format!("{words} -o json")).await?)?)
    }

    /// What clients trust, as published by the controller.
    pub async fn bundle(&self) -> Result<String> {
        let map = self.json("get configmap connectors-ca-bundle -n connectors-system").await?;
        Ok(map["data"]["ca.crt"].as_str().context("connectors-ca-bundle has ca.crt")?.to_owned())
    }

    /// The namespace with the quick start's Secret and Connector, changed by `edit`.
    pub async fn with_connector(&self, namespace: &str, edit: impl Fn(String) -> String) -> Result<()> {
        self.kubectl(&format!("create namespace {namespace}")).await?;
        let yaml = edit(CONNECTOR.to_owned())
            .replace("$TARGET_TOKEN", &self.token)
            .replace("$TARGET_ADDRESS", &self.address);
        self.apply(namespace, &yaml).await
    }

    /// The same, and waits until it is Ready.
    pub async fn ready_connector(&self, namespace: &str, edit: impl Fn(String) -> String) -> Result<()> {
        self.with_connector(namespace, edit).await?;
        self.until_ready(namespace).await
    }

    pub async fn until_ready(&self, namespace: &str) -> Result<()> {
        let wait = format!(
            "wait --for condition=Ready -n {namespace} connector/k8s-connector --timeout {}s",
            SOON.as_secs()
        );
        if let Err(error) = self.kubectl(&wait).await {
            bail!("{error:#}\n{}", self.kubectl(&format!("get connector -n {namespace} -o yaml")).await?);
        }
        Ok(())
    }

    /// The same with this cluster as the target, for only a target with a kubelet has streams, and an account
    /// that may do everything with what clients use.
    pub async fn own_connector(&self, namespace: &str) -> Result<()> {
        self.with_connector(namespace, |yaml| {
            yaml.replace("$TARGET_ADDRESS", "https://kubernetes.default.svc:443")
        })
        .await?;
        for words in [
            "create serviceaccount operator".to_owned(),
            "create role operator --verb * --resource pods,pods/exec,pods/log,pods/portforward,configmaps,secrets".to_owned(),
            format!("create rolebinding operator --role operator --serviceaccount {namespace}:operator"),
        ] {
            self.kubectl(&format!("{words} -n {namespace}")).await?;
        }
        let token = self.kubectl(&format!("create token operator -n {namespace} --duration 2h")).await?;
        let secret = format!("{{\"stringData\":{{\"token\":\"{token}\"}}}}");
        self.kubectl(&format!("patch secret k8s-secret -n {namespace} -p {secret}")).await?;
        self.until_ready(namespace).await
    }

    /// Starts the quick start's second Pod, with its volume changed by `edit`, and waits until it runs.
    pub async fn running_pod(&self, namespace: &str, edit: impl Fn(String) -> String) -> Result<()> {
        self.started_pod(namespace, edit).await?;
        self.until_running(namespace).await
    }

    pub async fn started_pod(&self, namespace: &str, edit: impl Fn(String) -> String) -> Result<()> {
        let account = format!("get serviceaccount default -n {namespace}");
        within(SOON, "the namespace has its default ServiceAccount", || async {
            Ok(self.kubectl(&account).await.ok())
        })
        .await?;
        self.apply(namespace, &edit(INSPECT.to_owned())).await
    }

    pub async fn until_running(&self, namespace: &str) -> Result<()> {
        let wait = format!(
            "wait --for condition=Ready -n {namespace} pod/inspect-k8s-access --timeout {}s",
            SOON.as_secs()
        );
        if let Err(error) = self.kubectl(&wait).await {
            bail!("{error:#}\n{}", self.events(namespace).await?);
        }
        Ok(())
    }

    /// The messages of a namespace's events, oldest first.
    pub async fn events(&self, namespace: &str) -> Result<String> {
        let mut command = kubectl(&format!("get events -n {namespace} --sort-by .lastTimestamp -o"));
        command.arg(r#"jsonpath={range .items[*]}{.reason}{"\t"}{.message}{"\n"}{end}"#);
        run(command, None).await
    }

    /// Waits for an event that says this.
    pub async fn event(&self, namespace: &str, words: &str) -> Result<()> {
        let wanted = format!("an event in {namespace} says {words:?}");
        let seen = within(SOON, &wanted, || async {
            Ok(self.events(namespace).await?.contains(words).then_some(()))
        });
        match seen.await {
            Err(error) => bail!("{error:#}; events:\n{}", self.events(namespace).await?),
            Ok(()) => Ok(()),
        }
    }

    /// Has kubelet get a new token of this lifetime for each volume, when it next publishes it; otherwise it keeps one
    /// for 24 minutes.
    pub async fn new_tokens(&self, seconds: u32) -> Result<()> {
        let path = "/spec/tokenRequests/0/expirationSeconds";
        let edit = json!([{"op": "replace", "path": path, "value": seconds}]);
        self.kubectl(&format!("patch csidriver connectors-csi --type json -p {edit}")).await.map(drop)
    }

    /// Waits until a condition is False; its reason and message.
    pub async fn until_false(&self, namespace: &str, kind: &str) -> Result<(String, String)> {
        let wanted = format!("condition {kind} in {namespace} is False");
        let condition = within(SOON, &wanted, || async {
            let connector = self.json(&format!("get connector k8s-connector -n {namespace}")).await?;
            let conditions = connector["status"]["conditions"].as_array().cloned().unwrap_or_default();
            Ok(conditions
                .into_iter()
                .find(|condition| condition["type"] == kind && condition["status"] == "False"))
        });
        let condition = condition.await?;
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        Ok((text("reason"), text("message")))
    }

    /// What an operator would look at first.
    pub async fn explain(&self) -> String {
        let mut text = String::new();
        for words in [
            "get pods --all-namespaces -o wide",
            "get connectors --all-namespaces",
            "get events --all-namespaces --sort-by .lastTimestamp",
            "logs -n connectors-system -l app.kubernetes.io/name=connectors-gateway --tail 40 --prefix",
            "logs -n connectors-system -l app.kubernetes.io/name=connectors-controller --tail 40 --prefix",
            "logs -n connectors-csi daemonset/connectors-csi --tail 40",
        ] {
            let said = self.kubectl(words).await.unwrap_or_else(|error| format!("{error:#}"));
            text.push_str(&format!("\n--- kubectl {words}\n{said}\n"));
        }
        text
    }
}

fn kubectl(words: &str) -> Command {
    let mut command = Command::new("kubectl");
    command.args(words.split_whitespace()).current_dir(FOLDER);
    command
}

async fn run(mut command: Command, input: Option<&str>) -> Result<String> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {:?}", command.as_std()))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    ensure!(
        output.status.success(),
        "{:?}: {said}{}",
        command.as_std(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(said)
}
