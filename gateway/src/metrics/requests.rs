//! What is counted of each request. Each thread adds to a part of its own: on many cores a counter that all add to costs
//! more than what it counts. A scrape adds the parts up.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::codes::CODES;

/// Threads that have a part; of more than these some share one.
const PARTS: usize = 16;
/// Of `request_seconds`.
const BOUNDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Name, help, type, label of the families, in the order in which they are collected.
const FAMILIES: [(&str, &str, MetricType, Option<&str>); 4] = [
    ("streams_open", "Requests in progress, watches included.", MetricType::GAUGE, None),
    ("requests_total", "Requests answered, by class of the status code.", MetricType::COUNTER, Some("code")),
    ("body_bytes_total", "Body bytes carried, by direction.", MetricType::COUNTER, Some("to")),
    (
        "request_seconds",
        "From a request's head to the end of its answer's head.",
        MetricType::HISTOGRAM,
        None,
    ),
];

/// Cheap to clone; clones share what they count.
#[derive(Clone)]
pub struct Requests(Arc<Shared>);

struct Shared {
    parts: [Part; PARTS],
    descriptions: [Desc; FAMILIES.len()],
}

/// Aligned so that no two share a cache line; some processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Part {
    begun: AtomicU64,
    ended: AtomicU64,
    codes: [AtomicU64; CODES.len()],
    to_target: AtomicU64,
    to_client: AtomicU64,
    /// The last one has what is above all bounds.
    seconds: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Requests {
    pub(super) fn new(to: &Registry) -> Result<Requests, prometheus::Error> {
        let described = |(name, help, _, label): &(&str, &str, MetricType, Option<&str>)| {
            let labels = label.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(format!("connectors_gateway_{name}"), (*help).to_owned(), labels, Default::default())
        };
        let [open, codes, bytes, seconds] = FAMILIES.each_ref().map(described);
        let descriptions = [open?, codes?, bytes?, seconds?];
        let requests = Requests(Arc::new(Shared { parts: Default::default(), descriptions }));
        to.register(Box::new(requests.clone()))?;
        Ok(requests)
    }

    pub fn begin(&self) {
        self.part().begun.fetch_add(1, Relaxed);
    }

    /// What is no status counts nowhere.
    pub fn answered(&self, status: u16, after: Duration) {
        let part = self.part();
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(count) = class.and_then(|class| part.codes.get(class)) {
            count.fetch_add(1, Relaxed);
        }
        let (bucket, seconds) = (BOUNDS.partition_point(|bound| after.as_secs_f64() > *bound), &part.seconds);
        if let Some(count) = seconds.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        part.nanoseconds.fetch_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// With the bytes of both bodies.
    pub fn end(&self, to_target: u64, to_client: u64) {
        let part = self.part();
        part.to_target.fetch_add(to_target, Relaxed);
        part.to_client.fetch_add(to_client, Relaxed);
        part.ended.fetch_add(1, Release);
    }

    /// Requests in progress. One that began on one thread may end on another.
    pub fn open(&self) -> u64 {
        // What has ended first: nothing ends that has not begun.
        let ended = self.0.parts.iter().map(|part| part.ended.load(Acquire)).fold(0, u64::wrapping_add);
        self.sum(|part| &part.begun).saturating_sub(ended)
    }

    fn part(&self) -> &Part {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static PLACE: usize = NEXT.fetch_add(1, Relaxed));
        let place = PLACE.try_with(|place| *place).unwrap_or_default();
        &self.0.parts[place % PARTS]
    }

    fn sum(&self, of: impl Fn(&Part) -> &AtomicU64) -> u64 {
        self.0.parts.iter().map(|part| of(part).load(Relaxed)).fold(0, u64::wrapping_add)
    }

    fn seconds(&self) -> Histogram {
        let mut all = 0;
        let mut buckets = Vec::with_capacity(BOUNDS.len());
        for (place, bound) in BOUNDS.iter().enumerate() {
            all += self.sum(|part| &part.seconds[place]);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(all);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(all + self.sum(|part| &part.seconds[BOUNDS.len()]));
        histogram.set_sample_sum(self.sum(|part| &part.nanoseconds) as f64 / 1e9);
        histogram
    }
}

impl Collector for Requests {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut open = Metric::default();
        let mut gauge = Gauge::default();
        gauge.set_value(self.open() as f64);
        open.set_gauge(gauge);
        let codes = CODES.iter().enumerate();
        let codes = codes.map(|(class, code)| counter("code", code, self.sum(|part| &part.codes[class])));
        let bytes = [
            counter("to", "client", self.sum(|part| &part.to_client)),
            counter("to", "target", self.sum(|part| &part.to_target)),
        ];
        let mut seconds = Metric::default();
        seconds.set_histogram(self.seconds());
        let metrics = [vec![open], codes.collect(), bytes.to_vec(), vec![seconds]];
        FAMILIES.iter().zip(metrics).map(family).collect()
    }
}

fn family(
    ((name, help, kind, _), metrics): (&(&str, &str, MetricType, Option<&str>), Vec<Metric>),
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("connectors_gateway_{name}"));
    family.set_help((*help).to_owned());
    family.set_field_type(*kind);
    family.set_metric(metrics);
    family
}

fn counter(label: &str, value: &str, count: u64) -> Metric {
    let mut pair = LabelPair::default();
    pair.set_name(label.to_owned());
    pair.set_value(value.to_owned());
    let mut counter = Counter::default();
    counter.set_value(count as f64);
    let mut metric = Metric::from_label(vec![pair]);
    metric.set_counter(counter);
    metric
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn shown(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render().unwrap()).unwrap()
    }

    #[test]
    fn what_threads_count_apart_is_shown_together() {
        let metrics = Metrics::new().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 * PARTS + 1 {
                scope.spawn(|| {
                    for (status, millis) in [(200, 1), (204, 3), (503, 70_000)] {
                        metrics.requests.begin();
                        metrics.requests.answered(status, Duration::from_millis(millis));
                        metrics.requests.end(2, 3);
                    }
                    metrics.requests.begin();
                });
            }
        });
        let text = shown(&metrics);
        for line in [
            "# TYPE connectors_gateway_streams_open gauge",
            "connectors_gateway_streams_open 33",
            "# TYPE connectors_gateway_requests_total counter",
            "connectors_gateway_requests_total{code=\"2xx\"} 66",
            "connectors_gateway_requests_total{code=\"4xx\"} 0",
            "connectors_gateway_requests_total{code=\"5xx\"} 33",
            "connectors_gateway_body_bytes_total{to=\"client\"} 297",
            "connectors_gateway_body_bytes_total{to=\"target\"} 198",
            "# TYPE connectors_gateway_request_seconds histogram",
            "connectors_gateway_request_seconds_bucket{le=\"0.001\"} 33",
            "connectors_gateway_request_seconds_bucket{le=\"0.0025\"} 33",
            "connectors_gateway_request_seconds_bucket{le=\"0.005\"} 66",
            "connectors_gateway_request_seconds_bucket{le=\"60\"} 66",
            "connectors_gateway_request_seconds_bucket{le=\"+Inf\"} 99",
            "connectors_gateway_request_seconds_count 99",
            "connectors_gateway_request_seconds_sum 2310.132",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }

    #[test]
    fn a_request_that_ends_on_another_thread_is_over() {
        let requests = Metrics::new().unwrap().requests;
        requests.begin();
        assert_eq!(requests.open(), 1);
        std::thread::scope(|scope| scope.spawn(|| requests.end(0, 0)).join()).unwrap();
        assert_eq!(requests.open(), 0);
    }

    #[test]
    fn nonsense_is_no_status() {
        let metrics = Metrics::new().unwrap();
        for status in [0, 99, 600, 999] {
            metrics.requests.answered(status, Duration::ZERO);
        }
        let text = shown(&metrics);
        assert!(
            !text.lines().any(|line| line.contains("requests_total{code") && !line.ends_with(" 0")),
            "{text}"
        );
    }
}
