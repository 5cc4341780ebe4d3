//! What dashboards and alerts ask, asked of a real Prometheus that has looked at a gateway and a controller under load and
//! in trouble: each finds something. So no query names a metric or a label that does not exist.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use connectors_acceptance::monitored::queries::{DASHBOARDS, alerts, dashboard};
use connectors_acceptance::monitored::{Course, Past};

/// Alerts whose cause cannot be made here: what their threshold is compared with is asked instead.
const CALM: [(&str, &str, &str); 3] = [
    (
        "ConnectorsGatewayStreamBytesHeld",
        "connectors_gateway_stream_bytes_held",
        "120 MiB would have to wait in the gateway; `make bench` has a measurement in which they do",
    ),
    (
        "connectors_gateway_connections_open > 8000",
        "connectors_gateway_connections_open",
        "of the 10,000 connections that are shipped; the run has a limit of 300, of which the other alert tells",
    ),
    (
        "ConnectorsGatewayWorkerStuck",
        "timestamp(connectors_gateway_worker_last_turn_seconds) - connectors_gateway_worker_last_turn_seconds",
        "nothing from outside stops one worker and leaves the metrics port alive",
    ),
];

/// What fills a gap would hide it. A second is the step of the scrapes.
async fn is_empty(past: &Past, expression: &str) -> bool {
    let asked = [" or vector(0)", " or vector(-1)"]
        .iter()
        .fold(expression.to_owned(), |text, filler| text.replace(filler, ""));
    !past.range(&asked, 1.0).await.unwrap().iter().any(|series| series.is_visible())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_dashboards_and_alerts_finds_something_under_load_and_in_trouble() {
    let course = Course { quiet: Duration::from_secs(10), scrape: Duration::from_secs(1) };
    let past = course.run().await.unwrap();
    let mut empty = Vec::new();
    for name in DASHBOARDS {
        for panel in dashboard(name, "10s").unwrap().panels {
            for query in panel.queries {
                if is_empty(&past, &query.expression).await {
                    empty.push(format!("{name}: {}: {}", panel.title, query.expression));
                }
            }
        }
    }
    for alert in alerts().unwrap() {
        let calm = CALM.iter().find(|(of, ..)| *of == alert.name || *of == alert.expression);
        let expression = calm.map_or(alert.expression.as_str(), |(_, instead, _)| instead);
        assert!(alert.expression.contains(expression), "{}: {expression} is no part of it", alert.name);
        if is_empty(&past, expression).await {
            empty.push(format!("{} ({}): {expression}", alert.name, alert.severity));
        }
    }
    assert!(empty.is_empty(), "nothing was found by\n{}", empty.join("\n"));
    past.exposed.iter().for_each(|text| follows_the_rules(text));
}

/// Of naming, help and types, as Prometheus' own tool has them.
fn follows_the_rules(exposed: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("promtool: {error}: apt-get install prometheus"));
    child.stdin.take().unwrap().write_all(exposed.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
