//! `config/monitoring`: what Prometheus and Grafana are given can be read by them, fires and stays silent in the cases of
//! `rules-test.yaml`, and tells an operator where to read on. That its queries find something: `queries`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use connectors_acceptance::monitored::queries::DASHBOARDS;
use connectors_testenv::ControlPlane;
use serde_json::{Value, json};

use crate::{folder, printed};

fn text(path: &str) -> String {
    std::fs::read_to_string(folder(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The objects of a file.
fn objects(path: &str) -> Vec<Value> {
    text(path).split("\n---\n").map(|object| serde_yaml_ng::from_str(object).unwrap()).collect()
}

fn only(path: &str) -> Value {
    objects(path).pop().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn alerts() -> Vec<Value> {
    let spec = &only("config/monitoring/rules.yaml")["spec"];
    list(&spec["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect()
}

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&text(&format!("config/monitoring/dashboards/{name}.json"))).unwrap()
}

/// The queries of a dashboard's panels.
fn queries(dashboard: &Value) -> Vec<String> {
    let targets = list(&dashboard["panels"]).iter().flat_map(|panel| list(&panel["targets"]));
    targets.map(|target| word(&target["expr"]).to_owned()).collect()
}

fn promtool(folder: &Path, arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{error}: install prometheus (Debian) for promtool"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn prometheus_reads_the_rules_and_they_fire_where_they_should() {
    let place = tempfile::tempdir().unwrap();
    let spec = &only("config/monitoring/rules.yaml")["spec"];
    // JSON is YAML.
    std::fs::write(place.path().join("spec.yaml"), spec.to_string()).unwrap();
    std::fs::write(place.path().join("cases.yaml"), text("config/monitoring/rules-test.yaml")).unwrap();
    promtool(place.path(), &["check", "rules", "--lint=all", "--lint-fatal", "spec.yaml"]);
    promtool(place.path(), &["test", "rules", "cases.yaml"]);
}

#[test]
fn each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    let cases = only("config/monitoring/rules-test.yaml");
    let asked: Vec<&Value> =
        list(&cases["tests"]).iter().flat_map(|case| list(&case["promql_expr_test"])).collect();
    for alert in alerts() {
        let name = format!("alertname=\"{}\"", word(&alert["alert"]));
        let labels = alert["labels"].as_object().unwrap();
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", word(value))).collect();
        let fires = asked.iter().flat_map(|one| list(&one["exp_samples"])).any(|sample| {
            let sample = word(&sample["labels"]);
            sample.contains(&name)
                && sample.contains("alertstate=\"firing\"")
                && labels.iter().all(|label| sample.contains(label))
        });
        let silent = asked
            .iter()
            .any(|one| word(&one["expr"]).contains(&name) && list(&one["exp_samples"]).is_empty());
        assert!(fires && silent, "{name} {labels:?}: fires {fires}, silent {silent}");
    }
}

#[test]
fn each_alert_says_how_bad_it_is_and_has_its_section_in_the_operations_page() {
    let page = text("docs/operations.md");
    let section = page.split("\n## Alerts\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let headings: BTreeSet<&str> = section.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts = alerts();
    for alert in &alerts {
        let name = word(&alert["alert"]);
        let annotations = &alert["annotations"];
        assert!(["critical", "warning", "info"].contains(&word(&alert["labels"]["severity"])), "{name}");
        assert!(!word(&annotations["summary"]).is_empty(), "{name} has no summary");
        assert!(!word(&annotations["description"]).is_empty(), "{name} has no description");
        // As GitHub makes anchors of headings.
        let anchor = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(word(&annotations["runbook_url"]), anchor, "{name}");
        assert!(headings.contains(name), "docs/operations.md has no heading {name}");
    }
    let named: BTreeSet<&str> = alerts.iter().map(|alert| word(&alert["alert"])).collect();
    assert_eq!(headings, named, "a section without an alert");
}

#[test]
fn each_dashboard_is_drawn_in_the_docs_with_all_its_panels() {
    let page = text("docs/operations.md");
    for name in DASHBOARDS {
        let picture = format!("pictures/dashboard-{name}.svg");
        assert!(page.contains(&format!("]({picture})")), "docs/operations.md does not show {picture}");
        let drawn = text(&format!("docs/{picture}"));
        for panel in list(&dashboard(name)["panels"]) {
            let title = word(&panel["title"]).replace('&', "&amp;").replace('<', "&lt;");
            assert!(drawn.contains(&format!(">{title}</text>")), "{picture} has no {title}: make pictures");
        }
        assert!(drawn.matches("class=\"l\"").count() > 10, "{picture} has hardly a line: make pictures");
    }
}

#[test]
fn dashboards_can_be_read_by_people_and_prometheus() {
    let place = tempfile::tempdir().unwrap();
    let mut rules = Vec::new();
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        assert_eq!(dashboard["schemaVersion"], 39, "{name}");
        let panels = list(&dashboard["panels"]);
        assert!((8..=20).contains(&panels.len()), "{name} has {} panels", panels.len());
        let numbers: BTreeSet<String> = panels.iter().map(|panel| panel["id"].to_string()).collect();
        assert_eq!(numbers.len(), panels.len(), "{name} numbers two panels alike");
        for panel in panels {
            let of = format!("{name}: {}", panel["title"]);
            assert!(!word(&panel["description"]).is_empty(), "{of} has no description");
            assert!(!word(&panel["fieldConfig"]["defaults"]["unit"]).is_empty(), "{of} has no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{of}");
        }
        for (number, query) in queries(&dashboard).iter().enumerate() {
            let query = query.replace("$__rate_interval", "5m").replace("$namespace", ".*");
            rules.push(json!({"record": format!("{name}:query:{number}"), "expr": query}));
        }
    }
    let rules = json!({"groups": [{"name": "dashboards", "rules": rules}]});
    std::fs::write(place.path().join("queries.yaml"), rules.to_string()).unwrap();
    promtool(place.path(), &["check", "rules", "queries.yaml"]);
}

#[test]
fn each_port_that_is_scraped_exists_and_is_open_to_whoever_collects_metrics() {
    let monitors = objects("config/monitoring/servicemonitors.yaml");
    assert_eq!(monitors.len(), 2);
    for monitor in &monitors {
        let selected = &monitor["spec"]["selector"]["matchLabels"];
        let part = word(&selected["app.kubernetes.io/name"]).strip_prefix("connectors-").unwrap();
        let deployment = only(&format!("config/{part}/deployment.yaml"));
        let pod = &deployment["spec"]["template"];
        assert_eq!(&pod["metadata"]["labels"]["app.kubernetes.io/name"], &selected["app.kubernetes.io/name"]);
        let has = |ports: &Value, key: &str| list(ports).iter().any(|port| port[key] == "admin");
        assert!(has(&pod["spec"]["containers"][0]["ports"], "name"), "{part} has no port admin");
        let policy = only(&format!("config/{part}/network.yaml"));
        let collectors = json!([{"namespaceSelector": {"matchLabels": {"metrics": "enabled"}}}]);
        let opened = list(&policy["spec"]["ingress"])
            .iter()
            .any(|rule| rule["from"] == collectors && has(&rule["ports"], "port"));
        assert!(opened, "{part} lets nobody in who collects metrics");
        match word(&monitor["kind"]) {
            "PodMonitor" => assert!(has(&monitor["spec"]["podMetricsEndpoints"], "port"), "{part}"),
            _ => {
                assert!(has(&monitor["spec"]["endpoints"], "port"), "{part}");
                let services = objects(&format!("config/{part}/services.yaml"));
                let served = services.iter().any(|service| {
                    service["metadata"]["labels"]["app.kubernetes.io/name"]
                        == selected["app.kubernetes.io/name"]
                        && has(&service["spec"]["ports"], "name")
                });
                assert!(served, "no Service of {part} has the port");
            }
        }
    }
}

#[test]
fn connections_are_near_their_limit_at_eight_tenths_of_what_is_shipped() {
    let settings = only("config/gateway/settings.yaml");
    let settings: Value = serde_yaml_ng::from_str(word(&settings["data"]["gateway.yaml"])).unwrap();
    let limit = settings["limits"]["connections"].as_u64().unwrap();
    let wanted = format!("connectors_gateway_connections_open > {}", limit / 10 * 8);
    assert!(alerts().iter().any(|alert| alert["expr"] == wanted.as_str()), "{wanted}");
}

#[tokio::test]
async fn the_folder_renders_with_dashboards_where_grafana_looks_for_them() {
    let cluster = ControlPlane::start().await.unwrap();
    let rendered = printed(&cluster, &["kustomize", &folder("config/monitoring")]).await;
    let objects: Vec<Value> =
        rendered.split("\n---\n").map(|object| serde_yaml_ng::from_str(object).unwrap()).collect();
    let kinds: BTreeSet<&str> = objects.iter().map(|object| word(&object["kind"])).collect();
    assert_eq!(kinds, BTreeSet::from(["ConfigMap", "PodMonitor", "PrometheusRule", "ServiceMonitor"]));
    let dashboards = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
    assert_eq!(dashboards["metadata"]["labels"]["grafana_dashboard"], "1");
    for name in DASHBOARDS {
        let given: Value = serde_json::from_str(word(&dashboards["data"][format!("{name}.json")])).unwrap();
        assert_eq!(given, dashboard(name), "{name}");
    }
}
