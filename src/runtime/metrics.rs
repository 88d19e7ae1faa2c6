//! What the process counts. No label carries a cluster, namespace or object name.

use http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

/// All metrics of the runtime, registered once.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    reconciles: Family<ReconcileLabels, Counter>,
    latency: Family<ControllerLabels, Histogram>,
    depth: Family<ControllerLabels, Gauge>,
    unreadable: Family<KindLabels, Counter>,
    unplaced: Family<KindLabels, Counter>,
    relists: Family<KindLabels, Counter>,
    watch_errors: Family<KindLabels, Counter>,
    endpoints: Gauge,
    clusters: Gauge,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("kube_bind_backend");
        let requests = Family::default();
        registry.register(
            "api_requests",
            "Requests to API servers by method and status code (0: no answer)",
            requests.clone(),
        );
        let reconciles = Family::default();
        registry.register("reconciles", "Reconciles by controller and outcome", reconciles.clone());
        let latency: Family<ControllerLabels, Histogram> = Family::new_with_constructor(|| {
            Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0])
        });
        registry.register(
            "reconcile_seconds",
            "Duration of one reconcile in seconds",
            latency.clone(),
        );
        let depth = Family::default();
        registry.register("queue_depth", "Keys waiting for a worker", depth.clone());
        let unreadable = Family::default();
        registry.register(
            "unreadable_objects",
            "Events of objects that could not be decoded and were skipped",
            unreadable.clone(),
        );
        let unplaced = Family::default();
        registry.register(
            "unplaced_objects",
            "Events of objects that named no logical cluster and were skipped",
            unplaced.clone(),
        );
        let relists = Family::default();
        registry.register("relists", "Completed lists by kind", relists.clone());
        let watch_errors = Family::default();
        registry.register("watch_errors", "Failed lists and watches by kind", watch_errors.clone());
        let endpoints = Gauge::default();
        registry.register("endpoints", "API endpoints in use", endpoints.clone());
        let clusters = Gauge::default();
        registry.register("engaged_clusters", "Logical clusters served", clusters.clone());
        Self {
            registry,
            requests,
            reconciles,
            latency,
            depth,
            unreadable,
            unplaced,
            relists,
            watch_errors,
            endpoints,
            clusters,
        }
    }
}

impl Metrics {
    /// Adds something that stays as it is for the life of the process, such as how it was configured.
    pub fn fact(&mut self, name: &'static str, help: &'static str, value: i64) {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        self.registry.register(name, help, gauge);
    }

    /// Counts one request; code 0 means that no answer came.
    pub(super) fn request(&self, method: &Method, code: u16) {
        let labels = RequestLabels { method: method.to_string(), code: code.to_string() };
        self.requests.get_or_create(&labels).inc();
    }

    pub(super) fn reconciled(&self, controller: &'static str, outcome: &'static str, seconds: f64) {
        self.reconciles.get_or_create(&ReconcileLabels { controller, outcome }).inc();
        self.latency.get_or_create(&ControllerLabels { controller }).observe(seconds);
    }

    pub(super) fn queue_depth(&self, controller: &'static str, depth: usize) {
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        self.depth.get_or_create(&ControllerLabels { controller }).set(depth);
    }

    pub(super) fn unreadable(&self, kind: &'static str) {
        self.unreadable.get_or_create(&KindLabels { kind }).inc();
    }

    pub(super) fn unplaced(&self, kind: &'static str) {
        self.unplaced.get_or_create(&KindLabels { kind }).inc();
    }

    pub(super) fn relisted(&self, kind: &'static str) {
        self.relists.get_or_create(&KindLabels { kind }).inc();
    }

    pub(super) fn watch_failed(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&KindLabels { kind }).inc();
    }

    pub(super) fn fleet(&self, endpoints: usize, clusters: usize) {
        self.endpoints.set(i64::try_from(endpoints).unwrap_or(i64::MAX));
        self.clusters.set(i64::try_from(clusters).unwrap_or(i64::MAX));
    }

    /// The `OpenMetrics` text of all metrics.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail; a metric that cannot be encoded would be cut off here.
        if let Err(err) = encode(&mut text, &self.registry) {
            tracing::warn!(%err, "metrics could not be encoded");
        }
        text
    }
}
