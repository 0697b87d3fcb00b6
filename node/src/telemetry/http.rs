//! HTTP by route: how many, how long, with what status.

use std::time::Duration;

use ::http::{Method, StatusCode};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Labels of a request count.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    listener: &'static str,
    method: &'static str,
    route: &'static str,
    status: u16,
}

/// Labels of a latency; without the status, for histograms are many numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LatencyLabels {
    listener: &'static str,
    route: &'static str,
}

type Histograms = Family<LatencyLabels, Histogram, fn() -> Histogram>;

/// Counts and latencies of HTTP requests by route pattern.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    latency: Histograms,
}

impl HttpMetrics {
    /// Metrics that nobody scrapes until [`register`](Self::register).
    pub fn new() -> Self {
        Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| {
                // From half a millisecond to sixteen seconds.
                Histogram::new(exponential_buckets(0.0005, 2.0, 16))
            }),
        }
    }

    /// Shows them in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "HTTP requests answered", self.requests.clone());
        registry.register(
            "http_request_seconds",
            "Time to answer an HTTP request",
            self.latency.clone(),
        );
    }

    /// Counts one answer. Unknown methods share a label: they are a stranger's
    /// words.
    pub fn observe(
        &self,
        listener: &'static str,
        method: &Method,
        route: &'static str,
        status: StatusCode,
        took: Duration,
    ) {
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            _ => "other",
        };
        self.requests
            .get_or_create(&RequestLabels { listener, method, route, status: status.as_u16() })
            .inc();
        self.latency.get_or_create(&LatencyLabels { listener, route }).observe(took.as_secs_f64());
    }
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self::new()
    }
}
