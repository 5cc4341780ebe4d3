//! What `config/monitoring` asks Prometheus: the queries of the dashboards' panels and the expressions of the alerts.

use anyhow::{Context, Result};
use serde_json::Value;

pub const DASHBOARDS: [&str; 3] = ["gateway", "tenants", "controller"];
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/monitoring");

pub struct Dashboard {
    pub title: String,
    pub panels: Vec<Panel>,
}

pub struct Panel {
    pub title: String,
    pub unit: String,
    /// One number in place of lines.
    pub single: bool,
    pub queries: Vec<Query>,
    /// Column, row, width and height in Grafana's grid of 24 columns.
    pub place: [f64; 4],
}

pub struct Query {
    pub expression: String,
    /// With `{{label}}` for a series' own.
    pub legend: String,
}

pub struct Alert {
    pub name: String,
    pub severity: String,
    pub expression: String,
}

/// As Grafana shows it of all installations, with rates over `interval`.
pub fn dashboard(name: &str, interval: &str) -> Result<Dashboard> {
    let text = std::fs::read_to_string(format!("{FOLDER}/dashboards/{name}.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = list(&dashboard["panels"]).iter().map(|panel| self::panel(panel, interval));
    Ok(Dashboard { title: word(&dashboard["title"]), panels: panels.collect() })
}

fn panel(panel: &Value, interval: &str) -> Panel {
    let query = |target: &Value| Query {
        expression: word(&target["expr"]).replace("$__rate_interval", interval).replace("$namespace", ".*"),
        legend: word(&target["legendFormat"]),
    };
    Panel {
        title: word(&panel["title"]),
        unit: word(&panel["fieldConfig"]["defaults"]["unit"]),
        single: panel["type"] == "stat",
        queries: list(&panel["targets"]).iter().map(query).collect(),
        place: ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_f64().unwrap_or_default()),
    }
}

pub fn alerts() -> Result<Vec<Alert>> {
    let rules: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(format!("{FOLDER}/rules.yaml"))?)?;
    let groups = rules["spec"]["groups"].as_array().context("rules.yaml has groups")?;
    let rules = groups.iter().flat_map(|group| list(&group["rules"]));
    let alert = |rule: &Value| Alert {
        name: word(&rule["alert"]),
        severity: word(&rule["labels"]["severity"]),
        expression: word(&rule["expr"]),
    };
    Ok(rules.map(alert).collect())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
