//! What the Pod of the quick start lists, and what it finds in the volume. Its steps as written are in `pages`.

use anyhow::{Context, Result, bail, ensure};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};

use connectors_acceptance::cluster::{Cluster, JOB, SOON};
use connectors_acceptance::pages::{block, shell};

const NAMESPACE: &str = "quick-start";
/// The documented kubeconfig, with the one line that is ours (tokenFile).
const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
clusters:
- name: k8s
  cluster:
    server: ADDRESS
    proxy-url: http://NAMESPACE%2Fk8s-connector:TOKEN@c-k8s-connector.NAMESPACE.svc.cluster.local
    certificate-authority-data: AUTHORITY
contexts:
- name: k8s
  context:
    cluster: k8s
    user: k8s
users:
- name: k8s
  user:
    token: fake-token
    tokenFile: context.token
current-context: k8s";

pub async fn lists_the_targets_pods(cluster: &Cluster) -> Result<()> {
    cluster.ready_connector(NAMESPACE, |yaml| yaml).await?;

    let listed = cluster.kubectl(&format!("get connector k8s-connector -n {NAMESPACE}")).await?;
    let mut lines = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    ensure!(
        lines.next() == Some(vec!["NAME", "CLASS", "ADDRESS", "READY", "AGE"]),
        "printer columns: {listed}"
    );
    let row = lines.next().context("a row")?;
    ensure!(row[..4] == ["k8s-connector", "k8s", cluster.address.as_str(), "True"], "{listed}");
    let url = cluster
        .kubectl(&format!(
            "get connector k8s-connector -n {NAMESPACE} -o jsonpath={{.status.proxy.httpAddress.url}}"
        ))
        .await?;
    ensure!(url == format!("http://c-k8s-connector.{NAMESPACE}.svc.cluster.local"), "{url}");
    cluster.kubectl(&format!("get service c-k8s-connector -n {NAMESPACE}")).await?;

    cluster.apply(NAMESPACE, JOB).await?;
    let wait =
        format!("wait --for condition=Complete -n {NAMESPACE} job/k8s-access --timeout {}s", SOON.as_secs());
    if let Err(error) = cluster.kubectl(&wait).await {
        let logs = cluster
            .kubectl(&format!("logs job/k8s-access -n {NAMESPACE}"))
            .await
            .unwrap_or_else(|error| format!("{error:#}"));
        anyhow::bail!("{error:#}\n{logs}\n{}", cluster.events(NAMESPACE).await?);
    }
    let logs = cluster.kubectl(&format!("logs job/k8s-access -n {NAMESPACE}")).await?;
    ensure!(
        logs.contains("only-at-the-target") && !logs.contains("connectors-gateway"),
        "not the target's Pods: {logs}"
    );
    Ok(())
}

pub async fn documented_kubeconfig(cluster: &Cluster) -> Result<()> {
    let namespace = "inspected";
    cluster.ready_connector(namespace, |yaml| yaml).await?;
    cluster.running_pod(namespace, |yaml| yaml).await?;
    let file = async |name: &str| {
        cluster.exec(namespace, "inspect-k8s-access", &format!("cat /opt/kube/{name}")).await
    };
    let token = file("context.token").await?;
    let expected = KUBECONFIG
        .replace("ADDRESS", &cluster.address)
        .replace("NAMESPACE", namespace)
        .replace("TOKEN", &token)
        .replace("AUTHORITY", &BASE64_STANDARD.encode(cluster.bundle().await?));
    let found = file("kubeconfig").await?;
    ensure!(found == expected, "expected:\n{expected}\nfound:\n{found}");

    let claims = claims(&token)?;
    let lifetime = claims["exp"].as_i64().unwrap_or_default() - claims["iat"].as_i64().unwrap_or_default();
    ensure!(lifetime <= 1800, "ends after {lifetime} s");
    ensure!(claims["aud"] == serde_json::json!(["connectors.alauda.io"]), "{claims}");
    let direct = format!(
        "KUBECONFIG= kubectl --server {} --insecure-skip-tls-verify --token {token} get namespaces",
        cluster.address
    );
    ensure!(
        cluster.exec(namespace, "inspect-k8s-access", &direct).await.is_err(),
        "the target accepts the Pod's token"
    );

    let readable = "env; cat /proc/1/environ; find /opt /var/run /tmp -type f -exec cat {} + 2>/dev/null";
    let everything = cluster.exec(namespace, "inspect-k8s-access", readable).await?;
    ensure!(everything.contains(&token), "the search does not even find the Pod's own token");
    ensure!(!everything.contains(&cluster.token), "the target's token is in the Pod");
    Ok(())
}

/// The claims of a token, unverified.
pub fn claims(token: &str) -> Result<serde_json::Value> {
    let body = token.split('.').nth(1).context("a JSON web token has three parts")?;
    Ok(serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(body)?)?)
}

/// What an operator runs after the installation: the quick start against the cluster's own API server.
pub async fn helm_test(cluster: &Cluster) -> Result<()> {
    let check = block("docs/installation.md", "kubectl get connectorclass k8s")?;
    if let Err(error) = shell(&check.text, &[]).await {
        let log = cluster.kubectl("logs -n connectors-system connectors-test").await.unwrap_or_default();
        bail!("{error:#}\n{log}\n{}", cluster.events("connectors-system").await?);
    }
    let kinds = "pods,secrets,connectors,serviceaccounts,roles,rolebindings";
    let left = cluster.kubectl(&format!("get {kinds} -n connectors-system -o name")).await?;
    let left: Vec<&str> = left.lines().filter(|name| name.contains("connectors-test")).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
