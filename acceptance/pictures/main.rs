//! Draws `docs/pictures/dashboard-*.svg`: the dashboards of `config/monitoring` over a run with load and trouble. `make
//! pictures` builds what it starts.

use std::time::Duration;

use anyhow::Result;
use connectors_acceptance::monitored::plot::{Span, name, svg};
use connectors_acceptance::monitored::queries::{DASHBOARDS, Panel, dashboard};
use connectors_acceptance::monitored::{Course, Past, Series};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pictures");
/// Over which rates are taken: of Grafana, four scrapes and more.
const INTERVAL: &str = "15s";
/// Seconds between two points.
const STEP: f64 = 2.0;

#[tokio::main]
async fn main() -> Result<()> {
    let course = Course { quiet: Duration::from_secs(75), scrape: Duration::from_secs(2) };
    let past = course.run().await?;
    let span = Span { from: past.traffic, to: past.ended, step: STEP };
    for which in DASHBOARDS {
        let dashboard = dashboard(which, INTERVAL)?;
        let mut found = Vec::new();
        for panel in &dashboard.panels {
            found.push(lines(&past, panel).await?);
        }
        std::fs::write(format!("{FOLDER}/dashboard-{which}.svg"), svg(&dashboard, &found, span))?;
    }
    Ok(())
}

async fn lines(past: &Past, panel: &Panel) -> Result<Vec<(String, Series)>> {
    let mut lines = Vec::new();
    for query in &panel.queries {
        let found = past.in_traffic(&query.expression, STEP).await?;
        lines.extend(found.into_iter().map(|series| (name(&query.legend, &series), series)));
    }
    Ok(lines)
}
