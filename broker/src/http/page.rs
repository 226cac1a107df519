//! A page of metrics: families of samples, gathered at each scrape and written by `prometheus-client`, as OpenMetrics or in
//! the older text format, which Prometheus asks for by `Accept`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// Names and values of labels.
pub(super) type Labels = Vec<(&'static str, String)>;

/// What a histogram holds: the sum of what was measured, how often, and how often within each bound (not cumulated).
#[derive(Clone, Debug)]
pub(super) struct Spread {
    pub(super) sum: f64,
    pub(super) count: u64,
    pub(super) buckets: Vec<(f64, u64)>,
}

/// Samples of one name, by kind.
#[derive(Clone, Debug)]
pub(super) enum Samples {
    /// What rises and falls.
    Gauge(Vec<(Labels, f64)>),
    /// What only rises; its name gets `_total`.
    Counter(Vec<(Labels, f64)>),
    /// What is spread.
    Histogram(Vec<(Labels, Spread)>),
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    samples: Samples,
}

/// A page.
#[derive(Debug, Default)]
pub(super) struct Page(Vec<Family>);

/// Text of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `application/openmetrics-text`
    Open,
    /// `text/plain; version=0.0.4`
    Plain,
}

impl Page {
    /// Adds a family whose name is without its unit and `_total`; nothing if it has no samples.
    pub(super) fn add(
        &mut self,
        name: &'static str,
        unit: Option<Unit>,
        help: &'static str,
        samples: Samples,
    ) {
        let is_empty = match &samples {
            Samples::Gauge(samples) | Samples::Counter(samples) => samples.is_empty(),
            Samples::Histogram(samples) => samples.is_empty(),
        };
        if !is_empty {
            self.0.push(Family { name, help, unit, samples });
        }
    }

    /// One gauge without labels.
    pub(super) fn gauge(&mut self, name: &'static str, unit: Option<Unit>, help: &'static str, value: f64) {
        self.add(name, unit, help, Samples::Gauge(vec![(Vec::new(), value)]));
    }

    /// One counter without labels.
    pub(super) fn counter(&mut self, name: &'static str, unit: Option<Unit>, help: &'static str, value: f64) {
        self.add(name, unit, help, Samples::Counter(vec![(Vec::new(), value)]));
    }

    /// The text.
    pub(super) fn write(self, format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("memory takes all");
        match format {
            Format::Open => text,
            Format::Plain => plain(&text),
        }
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family { name, help, unit, samples } in &self.0 {
            let kind = match samples {
                Samples::Gauge(_) => MetricType::Gauge,
                Samples::Counter(_) => MetricType::Counter,
                Samples::Histogram(_) => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            match samples {
                Samples::Gauge(samples) => {
                    for (labels, value) in samples {
                        ConstGauge::new(*value).encode(family.encode_family(labels)?)?;
                    }
                }
                Samples::Counter(samples) => {
                    for (labels, value) in samples {
                        ConstCounter::new(*value).encode(family.encode_family(labels)?)?;
                    }
                }
                Samples::Histogram(samples) => {
                    for (labels, spread) in samples {
                        let mut one = family.encode_family(labels)?;
                        let Spread { sum, count, buckets } = spread;
                        one.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// OpenMetrics in the older format: counters are named in full where they are described, and there are no units and no end.
fn plain(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let total = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                text.push_str(&format!("# HELP {name}{total} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{total} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let mut page = Page::default();
        page.gauge("queued_raft_term", None, "The term", 7.0);
        page.counter("process_cpu", Some(Unit::Seconds), "CPU time", 1.5);
        let by_queue = |queue: &str, value| (vec![("queue", queue.to_owned())], value);
        page.add("queued_x", None, "X", Samples::Counter(vec![by_queue("a", 1.0), by_queue("b\"", 2.0)]));
        let spread = Spread { sum: 0.75, count: 3, buckets: vec![(0.1, 1), (f64::INFINITY, 2)] };
        page.add("queued_y", Some(Unit::Seconds), "Y", Samples::Histogram(vec![(Vec::new(), spread)]));
        page.add("queued_none", None, "Nothing", Samples::Gauge(Vec::new()));
        page
    }

    #[test]
    fn both_formats_have_the_same_samples_and_name_them_by_the_rules() {
        let (open, plain) = (page().write(Format::Open), page().write(Format::Plain));
        let samples = |text: &str| {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(samples(&open), samples(&plain));
        assert!(open.ends_with("# EOF\n") && open.contains("# TYPE process_cpu_seconds counter"), "{open}");
        for line in [
            "# HELP process_cpu_seconds_total CPU time",
            "# TYPE process_cpu_seconds_total counter",
            "process_cpu_seconds_total 1.5",
            "queued_x_total{queue=\"b\\\"\"} 2.0",
            "# TYPE queued_y_seconds histogram",
            "queued_y_seconds_bucket{le=\"0.1\"} 1",
            "queued_y_seconds_bucket{le=\"+Inf\"} 3",
            "queued_y_seconds_count 3",
        ] {
            assert!(plain.lines().any(|other| other == line), "{line} is not in\n{plain}");
        }
        assert!(
            !plain.contains("queued_none") && !plain.contains("EOF") && !plain.contains("UNIT"),
            "{plain}"
        );
    }
}
