//! Values that the chart refuses, by its schema or by `templates/refused.yaml`, each with a sentence.

use super::{helm, said};
use crate::folder;

#[tokio::test]
async fn wrong_values_are_refused_with_a_sentence() {
    let cases = [
        ("gateway.replicas=two", "/gateway/replicas"),
        ("gateway.replicas=0", "/gateway/replicas"),
        ("gatway.replicas=2", "gatway"),
        ("gateway.settings.limits.head_bytes=100", "/gateway/settings/limits/head_bytes"),
        ("gateway.settings.target.in_cluster=deny", "target"),
        ("gateway.settings.limits.conections=5", "conections"),
        ("gateway.settings.timeouts.hed=5s", "hed"),
        ("gateway.settings.targets.in_cluster=allow", "/gateway/settings/targets/in_cluster"),
        ("gateway.settings.targets.allow[0].host=x", "host"),
        ("gateway.settings.timeouts.connect=soon", "/gateway/settings/timeouts/connect"),
        ("gateway.settings.timeouts.connect=0s", "/gateway/settings/timeouts/connect"),
        ("gateway.settings.limits.connectors_per_login=17", "/gateway/settings/limits/connectors_per_login"),
        ("gateway.settings.upstream.unverified=maybe", "'pin', 'deny', 'skip'"),
        ("gateway.settings.tokens.audience=", "/gateway/settings/tokens/audience"),
        ("gateway.settings.tokens.audience=other", "tokens for connectors.alauda.io"),
        ("gateway.settings.listeners.http=0.0.0.0:8081", "need 0.0.0.0:8080 or [::]:8080"),
        ("gateway.settings.listeners.admin=127.0.0.1:9090", "need 0.0.0.0:9090"),
        ("gateway.settings.targets.cluster[0]=10.0.0.0/33", "/gateway/settings/targets/cluster/0"),
        ("gateway.settings.targets.cluster[0]=10.0.0.1", "/gateway/settings/targets/cluster/0"),
        ("gateway.settings.targets.deny[0].cidrs[0]=fd00::/129", "/gateway/settings/targets/deny/0/cidrs/0"),
        ("gateway.settings.timeouts.connect=8761h", "timeouts.connect is 8761h: 8760h"),
        ("gateway.settings.upstream.idle=99999999999999999999ms", "8760h, a year, is the most"),
        ("gateway.settings.authorization.outage=5s", "not be shorter than authorization.fresh, 10s"),
        ("gateway.settings.authorization.fresh=1h", "outage is 15m"),
        (
            "gateway.autoscaling.enabled=true,gateway.autoscaling.minReplicas=11",
            "minReplicas is 11, more than maxReplicas, 10",
        ),
        (
            "gateway.autoscaling.enabled=true,gateway.resources.limits.memory=1Gi",
            "needs gateway.resources.requests.cpu",
        ),
        ("gateway.autoscaling.cpu=null", "missing property 'cpu'"),
        ("gateway.autoscaling=null", "missing property 'autoscaling'"),
        ("gateway=null", "missing property 'gateway'"),
        ("clusterDomain=null", "missing property 'clusterDomain'"),
        ("image=null", "missing property 'image'"),
        ("test=null", "missing property 'test'"),
        ("driver.namespace=null", "missing property 'namespace'"),
        ("driver.namespace=default", "driver.namespace is default, that of the release"),
        ("image.registry=https://registry.example", "/image/registry"),
        ("image.tag=connectors:v1", "/image/tag"),
        ("rootCA.certificate=x,rootCA.key=y", "rootCA.certificate holds no certificate"),
        ("rootCA.certificate=-----BEGIN CERTIFICATE-----,rootCA.key=y", "rootCA.key holds no private key"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("driver.kubelet=var/lib/kubelet", "/driver/kubelet"),
        ("driver.namespace=Connectors", "/driver/namespace"),
        (
            "rootCA.certificate=-----BEGIN CERTIFICATE-----,rootCA.key=-----BEGIN ENCRYPTED PRIVATE KEY-----",
            "rootCA.key has a password: remove it",
        ),
        ("driver.resources.limits.memory=268M", "memory is 268M: what it lets"),
        ("driver.resources.limits.memory=262143Ki", "memory is 262143Ki: what it lets"),
        ("driver.resources.limits.memory=268435455", "memory is 268435455: what it lets"),
        ("driver.resources.limits.memory=0Gi", "memory is 0Gi: what it lets"),
        ("monitoring.runbooks=git.example", "/monitoring/runbooks"),
        ("monitoring.runbooks=https://git.example/a b", "/monitoring/runbooks"),
        ("monitoring.runbooks=https://git.example/\"", "/monitoring/runbooks"),
        ("monitoring.runbooks=https://git.example\n", "/monitoring/runbooks"),
        ("driver.resources.limits.memory=64Mi", "memory is 64Mi: what it lets volumes take goes by 256Mi"),
        ("rootCA.certificate=x", "rootCA.certificate and rootCA.key go together"),
        ("networkPolicies=yes", "/networkPolicies"),
        ("controller.fluxConfigMaps=yes", "/controller/fluxConfigMaps"),
    ];
    let chart = folder("charts/connectors");
    for (value, words) in cases {
        let output = helm(&["template", "connectors", &chart, "--set", value], None).await;
        assert!(!output.status.success(), "{value} is accepted");
        assert!(said(&output).contains(words), "{value}: {}", said(&output));
    }
}

#[tokio::test]
async fn a_memory_limit_of_the_driver_that_suffices_may_be_written_in_any_unit() {
    let chart = folder("charts/connectors");
    for memory in ["256Mi", "268435456", "269M", "262144Ki", "1Gi", "1G", "99999999999"] {
        let value = format!("driver.resources.limits.memory={memory}");
        let output = helm(&["template", "connectors", &chart, "--set", &value], None).await;
        assert!(output.status.success(), "{value}: {}", said(&output));
    }
}

#[tokio::test]
async fn a_cluster_without_tokens_in_secrets_is_told_so_and_installs_without_them() {
    let chart = folder("charts/connectors");
    let older = ["template", "connectors", &chart, "--kube-version", "1.34.9"];
    let refused = helm(&older, None).await;
    assert!(!refused.status.success());
    assert!(said(&refused).contains("set driver.tokenInSecrets=false"), "{}", said(&refused));
    let without = helm(&[&older[..], &["--set", "driver.tokenInSecrets=false"]].concat(), None).await;
    assert!(without.status.success(), "{}", said(&without));
}
