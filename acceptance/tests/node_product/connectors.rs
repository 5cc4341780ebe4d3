//! Connectors in other circumstances than the quick start's: shared, wrong, rotated, deleted, looked at.

use anyhow::{Result, ensure};

use connectors_acceptance::cluster::{CONNECTOR, Cluster, SOON};
use connectors_testenv::within;

pub async fn of_another_namespace(cluster: &Cluster) -> Result<()> {
    cluster.ready_connector("shared", |yaml| yaml).await?;
    cluster.kubectl("create namespace guest").await?;
    let attribute = "connector.name: \"k8s-connector\"\n        connector.namespace: shared";
    cluster.started_pod("guest", |yaml| yaml.replace("connector.name: \"k8s-connector\"", attribute)).await?;
    cluster
        .event(
            "guest",
            "serviceaccount guest/default may not use connector \"k8s-connector\" in namespace \"shared\"",
        )
        .await?;
    cluster.event("guest", "connectors-user").await?;

    cluster
        .kubectl(
            "create rolebinding guest -n shared --clusterrole connectors-user --serviceaccount guest:default",
        )
        .await?;
    cluster.until_running("guest").await?;
    let who = cluster.exec("guest", "inspect-k8s-access", WHO).await?;
    ensure!(who == CALLER, "the target saw {who:?}");
    let proxy = cluster.exec("guest", "inspect-k8s-access", "grep proxy-url /opt/kube/kubeconfig").await?;
    ensure!(
        proxy.contains("//shared%2Fk8s-connector:")
            && proxy.ends_with("@connectors-gateway.connectors-system.svc.cluster.local"),
        "{proxy}"
    );
    Ok(())
}

/// Asks the target who it is that calls, and its answer.
pub const WHO: &str = "kubectl auth whoami -o jsonpath={.status.userInfo.username}";
pub const CALLER: &str = "system:serviceaccount:default:caller";

pub async fn with_a_wrong_secret(cluster: &Cluster) -> Result<()> {
    let right_type = "type: connectors.cpaas.io/bearer-token";
    let cases = [
        (
            "wrong-type",
            right_type,
            "type: Opaque",
            "SecretReady",
            "SecretTypeMismatch",
            "connectors.cpaas.io/bearer-token",
        ),
        ("wrong-key", "  token: ", "  password: ", "SecretReady", "SecretKeyMissing", "token"),
        (
            "no-secret",
            "      name: k8s-secret",
            "      name: absent",
            "SecretReady",
            "SecretNotFound",
            "absent",
        ),
        (
            "wrong-token",
            "$TARGET_TOKEN",
            "not-a-token-of-the-target",
            "AuthReady",
            "AuthenticationFailed",
            "401",
        ),
    ];
    for (namespace, right, wrong, kind, reason, words) in cases {
        cluster.with_connector(namespace, |yaml| yaml.replace(right, wrong)).await?;
        let (found, message) = cluster.until_false(namespace, kind).await?;
        ensure!(found == reason && message.contains(words), "{namespace}: {found}: {message}");
        let (found, message) = cluster.until_false(namespace, "Ready").await?;
        ensure!(!found.is_empty() && message.contains(words), "{namespace}: Ready=False, {found}: {message}");
    }
    Ok(())
}

pub async fn that_leads_back(cluster: &Cluster) -> Result<()> {
    let service = "get service connectors-gateway -n connectors-system -o jsonpath={.spec.clusterIP}";
    let address = cluster.kubectl(service).await?;
    for (namespace, host) in [
        ("loop-by-name", "connectors-gateway.connectors-system.svc.cluster.local"),
        ("loop-by-address", &address),
    ] {
        let path = format!("http://{host}/namespaces/{namespace}/connectors/k8s-connector");
        cluster.with_connector(namespace, |yaml| yaml.replace("$TARGET_ADDRESS", &path)).await?;
        let (reason, message) = cluster.until_false(namespace, "Ready").await?;
        ensure!(
            reason == "TargetDenied" && message.contains("is this gateway itself"),
            "{namespace}: {reason}: {message}"
        );
    }
    Ok(())
}

pub async fn with_a_rotated_secret(cluster: &Cluster) -> Result<()> {
    let namespace = "rotated";
    cluster
        .with_connector(namespace, |yaml| yaml.replace("$TARGET_TOKEN", "not-a-token-of-the-target"))
        .await?;
    cluster.until_false(namespace, "AuthReady").await?;
    let secret = CONNECTOR
        .split("---")
        .next()
        .unwrap_or_default()
        .replace("$TARGET_TOKEN", &cluster.new_token().await?);
    cluster.apply(namespace, &secret).await?;
    cluster.until_ready(namespace).await?;
    cluster.running_pod(namespace, |yaml| yaml).await?;
    let who = cluster.exec(namespace, "inspect-k8s-access", WHO).await?;
    ensure!(who == CALLER, "the target saw {who:?}");
    Ok(())
}

pub async fn deleted(cluster: &Cluster) -> Result<()> {
    let namespace = "deleted";
    cluster.ready_connector(namespace, |yaml| yaml).await?;
    let made = [
        "service/c-k8s-connector",
        "role/connectors-gateway-secrets",
        "rolebinding/connectors-gateway-secrets",
        "rolebinding/connectors-user",
    ];
    for object in made {
        cluster.kubectl(&format!("get {object} -n {namespace}")).await?;
    }
    cluster.kubectl(&format!("delete connector k8s-connector -n {namespace} --timeout 30s")).await?;
    for object in made {
        let get = format!("get {object} -n {namespace} --ignore-not-found -o name");
        within(SOON, &format!("{object} is gone"), || async {
            Ok(cluster.kubectl(&get).await?.is_empty().then_some(()))
        })
        .await?;
    }
    // The Secret is the user's.
    cluster.kubectl(&format!("get secret k8s-secret -n {namespace}")).await.map(drop)
}

pub async fn with_a_description(cluster: &Cluster) -> Result<()> {
    let namespace = "described";
    let described = "name: k8s-connector\n  annotations:\n    cpaas.io/description: the other cluster";
    cluster.ready_connector(namespace, |yaml| yaml.replace("name: k8s-connector", described)).await?;
    let connector = cluster.json(&format!("get connector k8s-connector -n {namespace}")).await?;
    ensure!(
        connector["metadata"]["annotations"]["cpaas.io/description"] == "the other cluster",
        "{connector:#}"
    );
    Ok(())
}

pub async fn seen_by_viewers(cluster: &Cluster) -> Result<()> {
    cluster.kubectl("create namespace viewed").await?;
    for role in ["view", "edit"] {
        cluster
            .kubectl(&format!("create rolebinding {role} -n viewed --clusterrole {role} --user {role}er"))
            .await?;
    }
    let cases = [
        ("viewer", "list connectors.connectors.alauda.io", true),
        ("viewer", "create connectors.connectors.alauda.io", false),
        ("viewer", "* connectors.connectors.alauda.io --subresource proxy", false),
        ("editer", "create connectors.connectors.alauda.io", true),
        ("editer", "* connectors.connectors.alauda.io --subresource proxy", false),
    ];
    for (user, what, expected) in cases {
        // Aggregation into `view` and `edit` takes the controller-manager a moment after the installation.
        let question = format!("auth can-i {what} -n viewed --as {user}");
        within(SOON, &question, || async {
            Ok((cluster.kubectl(&question).await.is_ok() == expected).then_some(()))
        })
        .await?;
    }
    Ok(())
}
