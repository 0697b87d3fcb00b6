//! The Prometheus registry. Other crates do not know it: they answer a
//! [`MetricsSource`], which is asked at each scrape, so a counter costs
//! nothing but itself until somebody looks.

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, text::encode},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};

/// Something that has numbers to show.
pub trait MetricsSource: Send + Sync + 'static {
    /// Adds its numbers as they are now. Must not block for long.
    fn gather(&self, samples: &mut Samples);
}

/// Labels of a number: names and values.
pub type Labels = Vec<(&'static str, String)>;

enum Value {
    Gauge(f64),
    Counter(u64),
    Seconds(f64),
    Histogram { sum: f64, count: u64, buckets: Vec<(f64, u64)> },
}

impl Value {
    fn encode(&self, point: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Gauge(value) => point.encode_gauge(value),
            Self::Counter(value) => point.encode_counter(value, None::<&Exemplar<Labels, u64>>),
            Self::Seconds(value) => point.encode_counter(value, None::<&Exemplar<Labels, f64>>),
            Self::Histogram { sum, count, buckets } => {
                point.encode_histogram::<Labels>(*sum, *count, buckets, None)
            }
        }
    }
}

struct Family {
    help: &'static str,
    points: Vec<(Labels, Value)>,
}

/// The numbers of a scrape, grouped by name.
#[derive(Default)]
pub struct Samples(BTreeMap<&'static str, Family>);

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Samples {
    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: Labels, value: f64) {
        self.add(name, help, labels, Value::Gauge(value));
    }

    /// A number that only grows; `name` without `_total`.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: Labels, value: u64) {
        self.add(name, help, labels, Value::Counter(value));
    }

    /// Time that only grows, in seconds; `name` without `_total`.
    pub fn seconds(&mut self, name: &'static str, help: &'static str, labels: Labels, value: f64) {
        self.add(name, help, labels, Value::Seconds(value));
    }

    /// A distribution: sum and count of what was seen, and for each bucket its
    /// upper bound and how many fell into it (not cumulated; the last bound
    /// infinite).
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels,
        (sum, count): (f64, u64),
        buckets: Vec<(f64, u64)>,
    ) {
        self.add(name, help, labels, Value::Histogram { sum, count, buckets });
    }

    fn add(&mut self, name: &'static str, help: &'static str, labels: Labels, value: Value) {
        self.0
            .entry(name)
            .or_insert_with(|| Family { help, points: Vec::new() })
            .points
            .push((labels, value));
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, family) in &self.0 {
            let kind = match family.points.first() {
                Some((_, Value::Gauge(_))) => MetricType::Gauge,
                Some((_, Value::Counter(_) | Value::Seconds(_))) => MetricType::Counter,
                Some((_, Value::Histogram { .. })) => MetricType::Histogram,
                None => continue,
            };
            let mut metric = encoder.encode_descriptor(name, family.help, None, kind)?;
            for (labels, value) in &family.points {
                if labels.is_empty() {
                    // A family of no labels would be written with empty brackets.
                    value.encode(&mut metric)?;
                } else {
                    value.encode(&mut metric.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

/// All sources of a node, asked together so that a family that several
/// contribute to is described once.
#[derive(Clone, Default)]
struct Sources(Arc<Mutex<Vec<Arc<dyn MetricsSource>>>>);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sources({})", self.0.lock().len())
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sources = self.0.lock().clone();
        let mut samples = Samples::default();
        for source in sources {
            source.gather(&mut samples);
        }
        samples.encode(&mut encoder)
    }
}

/// A node's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sources: Sources,
}

impl Metrics {
    /// Metrics made of what `register` puts in, and of sources added later.
    pub fn new(register: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::with_prefix("cardea");
        register(&mut registry);
        let sources = Sources::default();
        registry.register_collector(Box::new(sources.clone()));
        Self { registry, sources }
    }

    /// Adds a source.
    pub fn add(&self, source: Arc<dyn MetricsSource>) {
        self.sources.0.lock().push(source);
    }

    /// The OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "the metrics could not be written");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Group(&'static str, u64);

    impl MetricsSource for Group {
        fn gather(&self, samples: &mut Samples) {
            let labels = || vec![("group", self.0.to_owned())];
            samples.gauge("raft_term", "Term", labels(), self.1 as f64);
            samples.gauge("alone", "Without labels", vec![], 1.0);
            samples.counter("raft_proposals", "Proposals", labels(), self.1);
            samples.histogram(
                "raft_fsync_seconds",
                "Fsync",
                labels(),
                (0.5, 3),
                vec![(0.1, 2), (f64::INFINITY, 1)],
            );
        }
    }

    #[test]
    fn sources_that_share_a_family_describe_it_once() {
        let metrics = Metrics::new(|_| ());
        metrics.add(Arc::new(Group("1", 4)));
        metrics.add(Arc::new(Group("2", 9)));
        let text = metrics.encode();
        assert_eq!(text.matches("# TYPE cardea_raft_term gauge").count(), 1, "{text}");
        for line in [
            "cardea_raft_term{group=\"1\"} 4.0",
            "cardea_alone 1.0",
            "cardea_raft_proposals_total{group=\"2\"} 9",
            "cardea_raft_fsync_seconds_bucket{le=\"0.1\",group=\"1\"} 2",
            "cardea_raft_fsync_seconds_bucket{le=\"+Inf\",group=\"1\"} 3",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
