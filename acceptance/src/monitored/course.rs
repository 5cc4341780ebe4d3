//! The course of events, from a Prometheus that sees nothing to an installation that has been through each trouble that an
//! alert tells of and that can be made in a minute.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use connectors_testenv::{deep, within};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::client;
use super::installation::{CONNECTIONS, Installation};
use super::prometheus::{Prometheus, Series, now};
use super::queries::alerts;
use super::target;
use super::traffic::{self, Clients};

const AUDIENCE: &str = "connectors.alauda.io";
/// Of the API server as a target.
const TARGET_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";
/// More than the fifth of all that an alert tells of.
const MISSING: usize = 6;
/// Until connectors are checked, watches are back.
const SOON: Duration = Duration::from_secs(60);

/// How it is done: how long each quiet part takes, and how often Prometheus looks.
pub struct Course {
    pub quiet: Duration,
    pub scrape: Duration,
}

/// What is left of it.
pub struct Past {
    prometheus: Prometheus,
    /// Seconds since 1970: all of it, and where the traffic began.
    pub begun: f64,
    pub traffic: f64,
    pub ended: f64,
    /// What both parts exposed at the end.
    pub exposed: [String; 2],
}

impl Past {
    pub async fn range(&self, expression: &str, step: f64) -> Result<Vec<Series>> {
        self.prometheus.range(expression, self.begun, self.ended, step).await
    }

    /// From the beginning of the traffic.
    pub async fn in_traffic(&self, expression: &str, step: f64) -> Result<Vec<Series>> {
        self.prometheus.range(expression, self.traffic, self.ended, step).await
    }
}

impl Course {
    pub async fn run(&self) -> Result<Past> {
        let mut installation = Installation::prepare().await?;
        let scraped = [
            ("connectors-gateway", "connectors-gateway-0", installation.gateway_metrics.as_str()),
            ("connectors-controller", "connectors-controller-0", installation.controller_metrics.as_str()),
        ];
        let prometheus = Prometheus::start(&scraped, self.scrape).await?;
        let begun = now();
        alone(&prometheus, &mut installation).await?;
        let clients = furnish(&installation).await.with_context(|| installation.last_words())?;
        let stranger = installation.plane.service_account_token("team-a", "new", AUDIENCE, 7200).await?;
        let (http, long) = (installation.http.clone(), clients.long());
        let traffic = now();
        let running = traffic::start(clients);
        sleep(self.quiet).await;
        mistakes(&prometheus, &installation).await?;
        too_much(&prometheus, &installation, &long).await?;
        sleep(self.quiet / 2).await;
        outage(&prometheus, &mut installation, &http, &stranger).await?;
        sleep(self.quiet).await;
        let exposed = [&installation.gateway_metrics, &installation.controller_metrics];
        let exposed = [exposed_at(exposed[0]).await?, exposed_at(exposed[1]).await?];
        drop(running);
        Ok(Past { prometheus, begun, traffic, ended: now(), exposed })
    }
}

/// Nobody is there; then a gateway without ranges, under an issuing CA in its last day; then a controller.
async fn alone(prometheus: &Prometheus, installation: &mut Installation) -> Result<()> {
    told(prometheus, "ConnectorsGatewayAbsent", "critical").await?;
    told(prometheus, "ConnectorsControllerWithoutLeader", "critical").await?;
    installation.start_gateway().await?;
    told(prometheus, "ConnectorsGatewayNotReady", "critical").await?;
    // Of the issuing CA as the gateway sees it.
    prometheus.until("(connectors_gateway_issuer_not_after_seconds > 0) - time() < 86400").await?;
    installation.start_controller().await
}

/// Rights are gone while connectors are made, and settings are broken.
async fn mistakes(prometheus: &Prometheus, installation: &Installation) -> Result<()> {
    installation.kubectl("delete clusterrolebinding connectors-controller").await?;
    for number in 1..=MISSING {
        let missing = connector("team-c", &format!("missing-{number}"), "https://192.0.2.1", "missing");
        installation.plane.apply(&missing).await?;
    }
    told(prometheus, "ConnectorsReconcileErrors", "warning").await?;
    installation.kubectl("apply -k config/rbac").await?;
    deep::create(&installation.plane, "team-c", deep::READ, 200).await?;
    installation.write_settings("timeouts: {head: soon}")?;
    told(prometheus, "ConnectorsGatewaySettingsIgnored", "warning").await?;
    installation.write_settings(&installation.settings())
}

/// Nobody reads the log, and more connections come than there may be.
async fn too_much(prometheus: &Prometheus, installation: &Installation, long: &str) -> Result<()> {
    installation.read_logs(false);
    within(SOON, "lines of the log are lost", || async {
        // 1 MiB of lines waits.
        let mut stream = TcpStream::connect(&installation.http).await?;
        for _ in 0..200 {
            client::exchange(&mut stream, long).await?;
        }
        let metrics = exposed_at(&installation.gateway_metrics).await?;
        let lost =
            metrics.lines().find_map(|line| line.strip_prefix("connectors_gateway_log_lines_lost_total "));
        Ok(lost.filter(|lost| *lost != "0").map(drop))
    })
    .await?;
    told(prometheus, "ConnectorsGatewayLogLinesLost", "warning").await?;
    installation.read_logs(true);
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS + 20 {
        idle.push(TcpStream::connect(&installation.http).await?);
    }
    told(prometheus, "ConnectorsGatewayConnectionsNearLimit", "critical").await
}

/// Until watches of both parts have failed often enough.
async fn outage(
    prometheus: &Prometheus,
    installation: &mut Installation,
    http: &str,
    stranger: &str,
) -> Result<()> {
    installation.plane.stop_api_server().await;
    let refused = timeout(SOON, Clients::unknown(http, stranger, 60));
    refused.await.context("the gateway does not refuse at once")??;
    told(prometheus, "ConnectorsGatewayRefusesClients", "critical").await?;
    told(prometheus, "ConnectorsApiServerFailing", "warning").await?;
    told(prometheus, "ConnectorsWatchFailing", "warning").await?;
    installation.plane.start_api_server().await
}

/// Waits until Prometheus has seen what an alert tells of, of each part that has it.
async fn told(prometheus: &Prometheus, name: &str, severity: &str) -> Result<()> {
    let alerts = alerts()?;
    let meant: Vec<_> =
        alerts.iter().filter(|alert| alert.name == name && alert.severity == severity).collect();
    ensure!(!meant.is_empty(), "no alert {name} ({severity})");
    for alert in meant {
        prometheus.until(&alert.expression).await.context(alert.name.clone())?;
    }
    Ok(())
}

async fn exposed_at(address: &str) -> Result<String> {
    Ok(client::get(address, "/metrics").await?.body)
}

/// Nodes, connectors of two teams, and who uses them. Waits until those that can be ready are.
async fn furnish(installation: &Installation) -> Result<Clients> {
    let plane = &installation.plane;
    for (node, spec) in
        [("one", json!({"podCIDR": "10.244.0.0/16", "podCIDRs": ["10.244.0.0/16"]})), ("two", json!({}))]
    {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "spec": spec});
        plane.apply(&node.to_string()).await?;
    }
    let token = |namespace: &'static str, audience: &'static str| {
        plane.service_account_token(namespace, "default", audience, 7200)
    };
    let tokens = [
        ("team-a", token("team-a", AUDIENCE).await?),
        ("team-b", token("team-b", AUDIENCE).await?),
        ("team-c", token("team-c", AUDIENCE).await?),
    ];
    // It ends within a day, of which an alert tells.
    let of_target = plane.service_account_token("team-a", "robot", TARGET_AUDIENCE, 7200).await?;
    installation
        .kubectl("create clusterrolebinding robot --clusterrole view --serviceaccount team-a:robot")
        .await?;
    let tool = target::start().await?;
    for (namespace, name, address, credential) in [
        ("team-a", "api", plane.url(), of_target.as_str()),
        ("team-a", "tool", &tool, "t"),
        ("team-a", "second", &tool, "t"),
        ("team-b", "tool", &tool, "t"),
        ("team-b", "gone", "http://127.0.0.1:1", "t"),
        ("team-b", "inside", "https://10.244.3.4", "t"),
    ] {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "connectors.cpaas.io/bearer-token",
            "metadata": {"namespace": namespace, "name": name}, "stringData": {"token": credential}});
        plane.apply(&secret.to_string()).await?;
        plane.apply(&connector(namespace, name, address, name)).await?;
    }
    for namespace in ["team-a", "team-b"] {
        let wait = "wait --for condition=Ready connector";
        installation.kubectl(&format!("{wait}/tool -n {namespace} --timeout {}s", SOON.as_secs())).await?;
    }
    let api_server = plane.url().trim_start_matches("https://").to_owned();
    Ok(Clients { http: installation.http.clone(), api_server, tokens })
}

fn connector(namespace: &str, name: &str, address: &str, secret: &str) -> String {
    json!({
        "apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "connectorClassName": "k8s", "address": address,
            "auth": {"name": "bearerTokenAuth", "secretRef": {"name": secret}}}})
    .to_string()
}
