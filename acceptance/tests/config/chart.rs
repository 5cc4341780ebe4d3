//! The chart installs what `config/default` does, and what values ask for; `refused` has those that make no sense,
//! `releases` what Helm makes of it in a cluster.

mod refused;
mod releases;

use std::collections::BTreeMap;
use std::process::Output;

use base64::prelude::{BASE64_STANDARD, Engine};
use connectors_testenv::{ControlPlane, tool};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::settings_page::settings;
use crate::{folder, printed};

const NAMESPACE: &str = "connectors-system";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n…";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n…";

async fn helm(arguments: &[&str], kubeconfig: Option<&str>) -> Output {
    let helm = tokio::task::spawn_blocking(|| tool("helm")).await.unwrap().unwrap();
    let mut command = Command::new(helm);
    command.args(arguments).env("KUBECONFIG", kubeconfig.unwrap_or("/dev/null"));
    command.output().await.unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What the chart would install in this namespace.
async fn rendered(namespace: &str, more: &[&str]) -> String {
    let chart = folder("charts/connectors");
    let arguments = ["template", "connectors", &chart, "-n", namespace, "--include-crds", "--skip-tests"];
    let output = helm(&[&arguments[..], more].concat(), None).await;
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// By kind, namespace and name.
pub fn objects(yaml: &str) -> BTreeMap<[String; 3], Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(yaml);
    let objects = documents.map(|one| Value::deserialize(one).unwrap()).filter(|object| !object.is_null());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let key = |object: &Value| {
        [&object["kind"], &object["metadata"]["namespace"], &object["metadata"]["name"]].map(text)
    };
    let mut found = BTreeMap::new();
    for object in objects {
        let key = key(&object);
        assert!(found.insert(key.clone(), object).is_none(), "{key:?} is there twice: one would win");
    }
    found
}

/// kubectl brings classes as texts and lets the controller apply them, which Helm need not.
fn with_classes_themselves(kustomized: &mut BTreeMap<[String; 3], Value>) {
    let name = "connectors-classes";
    let texts = kustomized.remove(&["ConfigMap".into(), NAMESPACE.into(), name.into()]).unwrap();
    for text in texts["data"].as_object().unwrap().values() {
        kustomized.extend(objects(text.as_str().unwrap()));
    }
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        let right = [kind.to_owned(), String::new(), "connectors-controller-classes".to_owned()];
        assert!(kustomized.remove(&right).is_some(), "{right:?}");
    }
}

fn find<'a>(objects: &'a BTreeMap<[String; 3], Value>, kind: &str, name: &str) -> &'a Value {
    let mut found = objects.iter().filter(|([kinds, _, names], _)| kinds == kind && names == name);
    found.next().unwrap_or_else(|| panic!("no {kind} {name}")).1
}

#[tokio::test]
async fn the_chart_is_config_default_and_config_monitoring_object_by_object() {
    let cluster = ControlPlane::start().await.unwrap();
    let mut kustomized = objects(&printed(&cluster, &["kustomize", &folder("config/default")]).await);
    // Helm makes the namespace of a release itself.
    let own = ["Namespace".to_owned(), String::new(), NAMESPACE.to_owned()];
    assert!(kustomized.remove(&own).is_some());
    with_classes_themselves(&mut kustomized);
    // What needs kinds that not every cluster has is apart in both.
    kustomized.extend(objects(&printed(&cluster, &["kustomize", &folder("config/monitoring")]).await));
    let mut chart = objects(&rendered(NAMESPACE, &["--set", "monitoring.enabled=true"]).await);
    // Only Helm would delete it.
    let drivers = chart.get_mut(&["Namespace", "", "connectors-csi"].map(str::to_owned)).unwrap();
    let kept = drivers["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(kept, Some(json!({"helm.sh/resource-policy": "keep"})));
    assert_eq!(chart.keys().collect::<Vec<_>>(), kustomized.keys().collect::<Vec<_>>());
    for (key, object) in &kustomized {
        assert_eq!(&chart[key], object, "left: the chart, right: config/default, of {key:?}");
    }
}

#[tokio::test]
async fn in_another_namespace_nothing_points_to_the_usual_one() {
    let text = rendered("tools", &["--set", "driver.namespace=tools-csi"]).await;
    let objects = objects(&text);
    let elsewhere = |([kind, namespace, name], _): &(&[String; 3], &Value)| {
        !["", "tools", "tools-csi", "default"].contains(&namespace.as_str())
            || (kind == "Namespace" && name != "tools-csi")
    };
    let stray: Vec<_> = objects.iter().filter(elsewhere).map(|(key, _)| key).collect();
    assert!(stray.is_empty(), "{stray:?}");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("connectors-system") && !line.trim_start().starts_with("description:"))
        .collect();
    assert!(lines.is_empty(), "{lines:?}");
    let container = |kind, name| &find(&objects, kind, name)["spec"]["template"]["spec"]["containers"][0];
    let has = |container: &Value, name: &str, value: &str| {
        container["env"].as_array().unwrap().contains(&json!({"name": name, "value": value}))
    };
    assert!(has(container("DaemonSet", "connectors-csi"), "CONNECTORS_NAMESPACE", "tools"));
    let url = "https://connectors-gateway-admin.tools.svc:9443";
    assert!(has(container("Deployment", "connectors-controller"), "GATEWAY_URL", url));
}

/// Where some of the controller's rights lie in any case.
#[tokio::test]
async fn into_the_namespace_default_all_of_it_is_installed() {
    let names = |text: &str| {
        let mut names: Vec<_> = objects(text).into_keys().map(|[kind, _, name]| (kind, name)).collect();
        names.sort();
        names
    };
    assert_eq!(names(&rendered("default", &[]).await), names(&rendered(NAMESPACE, &[]).await));
}

#[tokio::test]
async fn values_change_what_they_say() {
    let values = json!({
        "image": {"registry": "registry.example/mirror/", "tag": "v9", "pullSecrets": ["pull"]},
        "clusterDomain": "corp.example",
        "gateway": {
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}},
            "settings": {
                "limits": {"connections": 500}, "targets": {"cluster": ["10.244.0.0/16"]}, "timeouts": {"drain": "10m"},
            },
            "autoscaling": {"enabled": true, "connections": 4000, "streams": 900},
            "env": [{"name": "RUST_LOG", "value": "debug"}],
            "podLabels": {"team": "platform"},
        },
        "controller": {"replicas": 1, "disruptionBudget": false, "priorityClassName": "system-cluster-critical"},
        "driver": {
            "kubelet": "/var/lib/k0s/kubelet", "tokenInSecrets": false, "nodeSelector": {"pool": "ci"},
            "tolerations": [{"key": "ci", "operator": "Exists"}],
        },
        "rootCA": {"certificate": CERTIFICATE, "key": KEY},
        "monitoring": {
            "enabled": true, "labels": {"release": "prometheus"}, "runbooks": "https://git.example/connectors/",
        },
        "classes": {"k8s": false},
        "admissionPolicies": false,
        "networkPolicies": false,
        "flowSchemas": false,
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values.to_string()).unwrap();
    let objects = objects(&rendered(NAMESPACE, &["-f", file.path().to_str().unwrap()]).await);
    let pod = |kind, name| &find(&objects, kind, name)["spec"]["template"]["spec"];
    let gateway = pod("Deployment", "connectors-gateway");
    let container = &gateway["containers"][0];
    assert_eq!(container["image"], "registry.example/mirror/connectors-gateway:v9");
    assert_eq!(container["resources"], json!({"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}));
    let env = container["env"].as_array().unwrap();
    assert!(env.contains(&json!({"name": "CLUSTER_DOMAIN", "value": "corp.example"})));
    assert!(env.contains(&json!({"name": "RUST_LOG", "value": "debug"})));
    assert_eq!(gateway["imagePullSecrets"], json!([{"name": "pull"}]));
    let deployment = find(&objects, "Deployment", "connectors-gateway");
    assert_eq!(deployment["spec"]["replicas"], Value::Null, "the autoscaler's to say: no cluster to ask");
    assert_eq!(deployment["spec"]["template"]["metadata"]["labels"]["team"], "platform");
    let selector = &deployment["spec"]["selector"]["matchLabels"];
    assert_eq!(selector, &json!({"app.kubernetes.io/name": "connectors-gateway"}));

    let text = &find(&objects, "ConfigMap", "connectors-gateway")["data"]["gateway.yaml"];
    let settings: Value = serde_yaml_ng::from_str(text.as_str().unwrap()).unwrap();
    assert_eq!(settings["limits"], json!({"connections": 500, "head_bytes": 32768}), "the others stay");
    assert_eq!(settings["targets"]["cluster"], json!(["10.244.0.0/16"]));
    let scaler = find(&objects, "HorizontalPodAutoscaler", "connectors-gateway");
    let metrics = scaler["spec"]["metrics"].as_array().unwrap();
    assert_eq!(metrics.len(), 3);
    let streams = json!({"metric": {"name": "connectors_gateway_streams_open"},
                         "target": {"type": "AverageValue", "averageValue": "900"}});
    assert_eq!(metrics[2]["pods"], streams);

    assert_eq!(find(&objects, "Deployment", "connectors-controller")["spec"]["replicas"], 1);
    let controller = pod("Deployment", "connectors-controller");
    assert_eq!(controller["priorityClassName"], "system-cluster-critical");
    assert_eq!(gateway["priorityClassName"], "connectors");
    let driver = pod("DaemonSet", "connectors-csi");
    assert_eq!(driver["volumes"][0]["hostPath"]["path"], "/var/lib/k0s/kubelet/plugins/connectors-csi");
    let asks = |probe: &str| driver["containers"][0][probe]["exec"]["command"].clone();
    let program = "/usr/local/bin/connectors-csi";
    assert_eq!(asks("livenessProbe"), json!([program, "healthcheck"]), "no kubelet is needed to live");
    assert_eq!(asks("readinessProbe"), json!([program, "healthcheck", "--registered"]));
    assert_eq!(driver["nodeSelector"], json!({"kubernetes.io/os": "linux", "pool": "ci"}));
    assert_eq!(driver["tolerations"], json!([{"key": "ci", "operator": "Exists"}]));
    let nodes = &driver["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let no_kubelet = json!({"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]});
    assert_eq!(nodes["nodeSelectorTerms"], json!([{"matchExpressions": [no_kubelet]}]));
    let csidriver = find(&objects, "CSIDriver", "connectors-csi");
    assert_eq!(csidriver["spec"]["serviceAccountTokenInSecrets"], Value::Null);
    let root = find(&objects, "Secret", "connectors-ca");
    let encoded = |text| BASE64_STANDARD.encode(text);
    assert_eq!(root["data"], json!({"tls.crt": encoded(CERTIFICATE), "tls.key": encoded(KEY)}));

    let rule = find(&objects, "PrometheusRule", "connectors");
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    let rule = rule["spec"].to_string();
    for (changed, times) in [
        ("\"connectors_gateway_connections_open > 400\"", 1),
        ("client connections of 500 (limits.connections)", 1),
        ("\"https://git.example/connectors/docs/operations.md#", rule.matches("runbook_url").count()),
    ] {
        assert_eq!(rule.matches(changed).count(), times, "{changed} in {rule}");
    }
    assert_eq!(gateway["terminationGracePeriodSeconds"], 660, "a minute more than the drain takes");
    let kinds: Vec<&str> = objects.keys().map(|[kind, ..]| kind.as_str()).collect();
    for gone in ["NetworkPolicy", "ValidatingAdmissionPolicy", "ConnectorClass", "FlowSchema"] {
        assert!(!kinds.contains(&gone), "{gone} is there");
    }
    let budgets: Vec<_> = objects.keys().filter(|[kind, ..]| kind == "PodDisruptionBudget").collect();
    assert_eq!(budgets.len(), 1, "{budgets:?}");
}

/// YAML takes them for numbers, where they are not quoted.
#[tokio::test]
async fn names_of_digits_stay_names() {
    let objects = objects(&rendered("123", &["--set-string", "driver.namespace=456"]).await);
    for (key, object) in &objects {
        let namespace = &object["metadata"]["namespace"];
        assert!(namespace.is_null() || namespace.is_string(), "{key:?}: {namespace}");
    }
    let subject = &find(&objects, "ClusterRoleBinding", "connectors-gateway")["subjects"][0]["namespace"];
    assert_eq!(subject, "123");
}

#[tokio::test]
async fn each_setting_of_the_reference_may_be_given_as_a_value() {
    let mut wanted = json!({});
    for (name, default) in settings() {
        let default = default.unwrap_or(json!(4));
        match name.split_once('.') {
            _ if name.contains("[]") => {}
            Some((group, key)) => wanted[group][key] = default,
            None => wanted[&name] = default,
        }
    }
    let rule = json!({"cidrs": ["10.0.0.0/8"], "hosts": ["a.example"], "ports": [443], "namespaces": ["a"]});
    wanted["targets"]["allow"] = json!([rule]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({"gateway": {"settings": wanted}}).to_string()).unwrap();
    let objects = objects(&rendered(NAMESPACE, &["-f", file.path().to_str().unwrap()]).await);
    let text = &find(&objects, "ConfigMap", "connectors-gateway")["data"]["gateway.yaml"];
    let installed: Value = serde_yaml_ng::from_str(text.as_str().unwrap()).unwrap();
    assert_eq!(installed, wanted);
}

#[tokio::test]
async fn nothing_as_a_value_means_the_usual() {
    let usual = objects(&rendered(NAMESPACE, &[]).await);
    let nothing = "gateway.env=null,gateway.resources=null,monitoring.labels=null,driver.kubelet=null,driver.tolerations=null,\
        gateway.settings=null,rootCA=null,monitoring=null,flowSchemas=null,image.tag=null,image.registry=null,image.pullSecrets=null,controller.fluxConfigMaps=null";
    assert_eq!(objects(&rendered(NAMESPACE, &["--set", nothing]).await), usual);
}

#[tokio::test]
async fn the_right_to_write_configmaps_comes_with_its_policy_and_only_when_wanted() {
    let ours = |key: &&[String; 3]| key[2] == "connectors-controller-flux";
    assert_eq!(objects(&rendered(NAMESPACE, &[]).await).keys().filter(ours).count(), 0);
    let wanted = ["--set", "controller.fluxConfigMaps=true,admissionPolicies=false"];
    let text = rendered("tools", &wanted).await;
    let objects = objects(&text);
    let kinds: Vec<&str> = objects.keys().filter(ours).map(|[kind, ..]| kind.as_str()).collect();
    let policy = "ValidatingAdmissionPolicy";
    assert_eq!(kinds, ["ClusterRole", "ClusterRoleBinding", policy, "ValidatingAdmissionPolicyBinding"]);
    let binding = find(&objects, "ClusterRoleBinding", "connectors-controller-flux");
    assert_eq!(binding["subjects"][0]["namespace"], "tools");
    let policy = find(&objects, policy, "connectors-controller-flux");
    let condition = policy["spec"]["matchConditions"][0]["expression"].as_str().unwrap();
    assert!(condition.contains("'system:serviceaccount:tools:connectors-controller'"), "{condition}");
    let deployment = find(&objects, "Deployment", "connectors-controller");
    let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    assert!(env.contains(&json!({"name": "FLUX_CONFIGMAPS", "value": "true"})), "{env:?}");
}
