//! Exec, cp and port-forward through the gateway, by kubectl in a Pod, over WebSocket and SPDY. The target is
//! the cluster itself.

use anyhow::{Result, ensure};

use connectors_acceptance::cluster::Cluster;

const NAMESPACE: &str = "streams";
const POD: &str = "inspect-k8s-access";
/// More than any window or buffer on the way.
const SIZE: &str = "16777216";

pub async fn upgrades(cluster: &Cluster) -> Result<()> {
    cluster.own_connector(NAMESPACE).await?;
    cluster.running_pod(NAMESPACE, |yaml| yaml).await?;

    let file = format!("head -c {SIZE} /dev/urandom >/tmp/file && sha256sum </tmp/file");
    let sum = cluster.exec(NAMESPACE, POD, &file).await?;
    cluster.exec(NAMESPACE, POD, "busybox httpd -p 127.0.0.1:8000 -h /tmp").await?;
    for websockets in ["true", "false"] {
        let inside = async |line: &str| {
            let switch = format!(
                "export KUBECTL_REMOTE_COMMAND_WEBSOCKETS={websockets} KUBECTL_PORT_FORWARD_WEBSOCKETS={websockets}"
            );
            let there = format!("{switch}; there=\"-n {NAMESPACE} {POD}\"; {line}");
            cluster.exec(NAMESPACE, POD, &there).await
        };
        let cases = [
            ("what goes in comes back", "echo hi | kubectl exec -i $there -- cat", "hi"),
            ("the exit status arrives", "kubectl exec $there -- sh -c 'exit 7' 2>/dev/null; echo $?", "7"),
            ("a file goes in whole", "kubectl exec -i $there -- sha256sum </tmp/file", sum.as_str()),
            ("a file comes out whole", "kubectl exec $there -- cat /tmp/file | sha256sum", sum.as_str()),
            (
                "cp works both ways",
                "kubectl cp /tmp/file streams/inspect-k8s-access:/tmp/copy && kubectl cp streams/inspect-k8s-access:/tmp/copy /tmp/back \
                 >/dev/null && cmp /tmp/file /tmp/back && echo same",
                "same",
            ),
            ("eight connections are forwarded at once", FORWARD, "8"),
        ];
        for (what, line, expected) in cases {
            let found = inside(line).await?;
            ensure!(
                found == expected,
                "{what} (WebSocket: {websockets}): expected {expected:?}, found {found:?}"
            );
        }
    }
    over_tls(cluster).await
}

/// A volume may ask for a proxy that speaks TLS: then the token of the login is nowhere in the clear.
async fn over_tls(cluster: &Cluster) -> Result<()> {
    let names = "configuration.names: \"kubeconfig\"";
    let params = "configuration.params: '{\"kubeconfig\": {\"proxyScheme\": \"https\"}}'";
    let secure =
        |yaml: String| yaml.replace(POD, "secure").replace(names, &format!("{names}\n        {params}"));
    cluster.started_pod(NAMESPACE, secure).await?;
    cluster.kubectl(&format!("wait --for condition=Ready -n {NAMESPACE} pod/secure --timeout 90s")).await?;
    let proxy =
        cluster.exec(NAMESPACE, "secure", "grep -c 'proxy-url: https://' /opt/kube/kubeconfig").await?;
    ensure!(proxy == "1", "the kubeconfig has another proxy-url");
    for websockets in ["true", "false"] {
        let line = format!(
            "echo hi | KUBECTL_REMOTE_COMMAND_WEBSOCKETS={websockets} kubectl exec -i -n {NAMESPACE} {POD} -- cat"
        );
        let found = cluster.exec(NAMESPACE, "secure", &line).await?;
        ensure!(found == "hi", "exec by a proxy over TLS (WebSocket: {websockets}): {found:?}");
    }
    Ok(())
}

/// Counts how many of eight parallel downloads are the file.
const FORWARD: &str = "kubectl port-forward $there 18080:8000 >/dev/null & forward=$!
until wget -qO /dev/null http://127.0.0.1:18080/file; do sleep 0.2; done
for n in 1 2 3 4 5 6 7 8; do wget -qO /tmp/got$n http://127.0.0.1:18080/file & got=\"$got $!\"; done
wait $got; count=0
for n in 1 2 3 4 5 6 7 8; do cmp -s /tmp/file /tmp/got$n && count=$((count+1)); done
kill $forward; wait $forward 2>/dev/null; echo $count";
