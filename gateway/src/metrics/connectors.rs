//! Requests by connector. A setting bounds how many connectors have series of their own; all others are counted as one.
//! Which they are is decided with each new table, beside the requests: a request finds its counters in its passage and
//! adds one.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use connectors_api::proxy_auth::ConnectorRef;
use prometheus::{IntCounterVec, Opts, Registry};

use super::codes::{ByCode, CODES};

/// Not `namespace`: whoever scrapes gives each series the gateway's under that name.
const LABELS: [&str; 3] = ["connector_namespace", "connector", "code"];
/// No connector is without a namespace.
const OTHER: [&str; 2] = ["", "other"];

pub struct Connectors {
    family: IntCounterVec,
    own: ArcSwap<HashMap<ConnectorRef, Arc<ByCode>>>,
    other: Arc<ByCode>,
}

impl Connectors {
    pub(super) fn new(to: &Registry) -> Result<Connectors, prometheus::Error> {
        let help = "Requests answered, by connector and class of the status code; connectors beyond metrics.connectors are one, called other.";
        let opts = Opts::new("connectors_gateway_connector_requests_total", help);
        let family = super::register(to, IntCounterVec::new(opts, &LABELS)?)?;
        let other = Arc::new(series(&family, OTHER));
        Ok(Connectors { family, own: ArcSwap::default(), other })
    }

    /// Where requests of this connector count from now on: its own series or those of all others.
    pub fn of(&self, connector: &ConnectorRef) -> Arc<ByCode> {
        self.own.load().get(connector).unwrap_or(&self.other).clone()
    }

    /// These have series of their own. Those of others vanish, and what passages still count there with them.
    pub fn keep(&self, connectors: Vec<ConnectorRef>) {
        let before = self.own.load();
        let kept = |connector: &ConnectorRef| {
            let known = before.get(connector).cloned();
            known.unwrap_or_else(|| Arc::new(series(&self.family, labels(connector))))
        };
        let own: HashMap<_, _> = connectors.into_iter().map(|one| (one.clone(), kept(&one))).collect();
        for gone in before.keys().filter(|known| !own.contains_key(known)) {
            let [namespace, name] = labels(gone);
            for code in CODES {
                self.family.remove_label_values(&[namespace, name, code]).ok();
            }
        }
        self.own.store(Arc::new(own));
    }
}

fn labels(connector: &ConnectorRef) -> [&str; 2] {
    [&connector.namespace, &connector.name]
}

fn series(family: &IntCounterVec, [namespace, name]: [&str; 2]) -> ByCode {
    ByCode::new(|code| family.with_label_values(&[namespace, name, code]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn connector(name: &str) -> ConnectorRef {
        ConnectorRef { namespace: "demo".into(), name: name.into() }
    }

    /// What the exposition has of connectors and is not 0.
    fn counted(metrics: &Metrics) -> Vec<String> {
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        let lines =
            text.lines().filter_map(|line| line.strip_prefix("connectors_gateway_connector_requests_total"));
        lines.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
    }

    #[test]
    fn those_that_are_kept_count_for_themselves_and_all_others_together() {
        let metrics = Metrics::new().unwrap();
        metrics.connectors.keep(vec![connector("a")]);
        for (name, status) in [("a", 200), ("a", 204), ("a", 503), ("b", 200), ("c", 201), ("c", 0)] {
            metrics.connectors.of(&connector(name)).count(status);
        }
        assert_eq!(
            counted(&metrics),
            [
                r#"{code="2xx",connector="a",connector_namespace="demo"} 2"#,
                r#"{code="2xx",connector="other",connector_namespace=""} 2"#,
                r#"{code="5xx",connector="a",connector_namespace="demo"} 1"#,
            ]
        );
    }

    #[test]
    fn a_count_goes_on_while_its_connector_stays_and_vanishes_with_it() {
        let metrics = Metrics::new().unwrap();
        let shown = |name: &str| {
            let text = String::from_utf8(metrics.render().unwrap()).unwrap();
            text.contains(&format!("connector=\"{name}\""))
        };
        metrics.connectors.keep(vec![connector("a"), connector("b")]);
        metrics.connectors.of(&connector("a")).count(200);
        metrics.connectors.keep(vec![connector("a")]);
        metrics.connectors.of(&connector("a")).count(200);
        assert_eq!(counted(&metrics), [r#"{code="2xx",connector="a",connector_namespace="demo"} 2"#]);
        assert!(shown("a") && !shown("b"));
        metrics.connectors.keep(Vec::new());
        assert!(!shown("a") && shown("other"));
    }
}
