//! Debian's Prometheus: it scrapes both parts as the ServiceMonitors would have it, and answers queries.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use connectors_testenv::process::{bound, spawn};
use connectors_testenv::within;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client;

pub struct Prometheus {
    child: Child,
    address: String,
    folder: TempDir,
}

/// One line of an answer: what it is of, and its values by time.
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub points: Vec<(f64, f64)>,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Prometheus {
    /// `scraped`: job, Pod and address of each part.
    pub async fn start(scraped: &[(&str, &str, &str)], every: Duration) -> Result<Prometheus> {
        let folder = tempfile::tempdir()?;
        let jobs: Vec<Value> = scraped
            .iter()
            .map(|(job, pod, address)| {
                let labels = json!({"namespace": "connectors-system", "pod": pod});
                json!({"job_name": job, "static_configs": [{"targets": [address], "labels": labels}]})
            })
            .collect();
        let pause = format!("{}ms", every.as_millis());
        let global = json!({"scrape_interval": pause, "scrape_timeout": pause});
        let settings = json!({"global": global, "scrape_configs": jobs});
        // JSON is YAML.
        std::fs::write(folder.path().join("prometheus.yaml"), settings.to_string())?;
        let address = client::free_address().await?;
        let mut command = bound("prometheus");
        command
            .arg("--config.file=prometheus.yaml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log"))?);
        let prometheus = Prometheus { child: spawn(command)?, address, folder };
        prometheus.until_ready().await?;
        Ok(prometheus)
    }

    async fn until_ready(&self) -> Result<()> {
        let ready = within(Duration::from_secs(30), "Prometheus is ready", || async {
            Ok(client::get(&self.address, "/-/ready").await.ok().filter(|answer| answer.code == 200))
        });
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        ready.await.map(drop).with_context(|| format!("install prometheus (Debian); it said: {}", log()))
    }

    /// Waits until an expression finds something.
    pub async fn until(&self, expression: &str) -> Result<()> {
        within(Duration::from_secs(60), expression, || async {
            let now = now();
            let found = self.range(expression, now - 1.0, now, 1.0).await?;
            Ok(found.iter().any(Series::is_visible).then_some(()))
        })
        .await
    }

    /// All values of an expression between two times, in seconds since 1970.
    pub async fn range(&self, expression: &str, from: f64, to: f64, step: f64) -> Result<Vec<Series>> {
        let query = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let path = format!("/api/v1/query_range?query={query}&start={from:.3}&end={to:.3}&step={step:.3}");
        let answer = client::get(&self.address, &path).await?;
        ensure!(answer.code == 200, "{expression}: {}", answer.body);
        let answer: Value = serde_json::from_str(&answer.body)?;
        let found = answer["data"]["result"].as_array().context("an answer without result")?;
        Ok(found.iter().map(series).collect())
    }
}

fn series(found: &Value) -> Series {
    let labels = found["metric"].as_object().into_iter().flatten();
    let points = found["values"].as_array().into_iter().flatten();
    let point = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?));
    Series {
        labels: labels
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        points: points.filter_map(point).collect(),
    }
}

impl Series {
    /// Whether there is anything to be seen of it.
    pub fn is_visible(&self) -> bool {
        self.points.iter().any(|(_, value)| value.is_finite())
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
