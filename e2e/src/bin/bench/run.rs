//! One setting from the first workspace to a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::audit::{Audit, Filter, Mark, Request};
use e2e::dirs;
use e2e::kcp::Kcp;
use e2e::provider::Provider;

use crate::figures::{Report, amount, cpu_seconds};
use crate::floor::{self, Floor, Way};
use crate::load::{self, DEADLINE, Place, Taken};
use crate::{Options, Setting, restart};

/// Without a request for this long the backend has done its work.
const QUIET: Duration = Duration::from_secs(5);

/// Where requests are counted.
pub(crate) struct Meter {
    pub(crate) log: Audit,
    pub(crate) ours: Filter,
}

impl Meter {
    /// Our requests since the mark, once there are no more.
    pub(crate) async fn settled(&self, mark: Mark) -> Result<Vec<Request>> {
        self.log.quiet(mark, &self.ours, QUIET, DEADLINE, |_| false).await
    }
}

pub(crate) async fn measure(options: &Options, setting: Setting) -> Result<Report> {
    let Options { workspaces: count, consumers, .. } = *options;
    let title =
        format!("{count} workspaces, {consumers} consumers in each, {}", setting.flags()[0]);
    let mut report = Report::new(setting.key(), title);
    let name = format!("bench-{}", setting.key());
    let kcp = Arc::new(Kcp::start(&dirs::fresh(&name)?).await?);
    let mut provider = Provider::start_on(Arc::clone(&kcp), &name, &setting.flags()).await?;
    let meter = Meter { log: kcp.audit(), ours: Filter::backend() };
    report.add_memory("memory_start", "memory at start", &provider.backend, 30.0)?;

    let places = Arc::new(engage_all(&mut report, &meter, &provider, count).await?);
    let bound = bind_all(&mut report, &meter, &provider, &places, options, setting).await?;

    idle(&mut report, &meter, options.idle).await?;
    restart::measure(&mut report, &meter, &mut provider, count).await?;
    provider.backend.stop().await?;
    for way in [Way::Direct, Way::Virtual] {
        let floor = floor::measure(&provider, &places, consumers, setting, way).await?;
        add_floor(&mut report, way, &floor, count * consumers, bound);
    }
    kcp.kill().await?;
    Ok(report)
}

/// Counts requests while nobody does anything, for so many seconds.
pub(crate) async fn idle(report: &mut Report, meter: &Meter, seconds: u64) -> Result<()> {
    let mark = meter.log.mark()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let idle = meter.log.requests(mark, &meter.ours)?;
    let what = format!("requests in {seconds} s of idling, without watches");
    report.add_requests("requests_idle", &what, &idle, 1, Some(0.0));
    Ok(())
}

/// `bound` is the time in which the backend had all consumers done.
fn add_floor(report: &mut Report, way: Way, floor: &Floor, consumers: usize, bound: Duration) {
    let taken = floor.taken.as_secs_f64();
    let (key, what, budget) = match way {
        Way::Direct => ("floor", "floor", Some(1.3)),
        Way::Virtual => ("floor_virtual", "floor through the virtual workspace", None),
    };
    let mut add = |part: &str, what: String, value, unit, budget| {
        report.add(&format!("{key}_{part}"), &what, value, unit, budget);
    };
    let writes = amount(floor.writes);
    add("writes", format!("{what}: raw writes per consumer"), writes, "", None);
    add("time", format!("{what}: until all are done"), taken, "s", None);
    let rate = writes * amount(consumers) / taken;
    add("rate", format!("{what}: raw writes per second"), rate, "", None);
    let ratio = bound.as_secs_f64() / taken;
    add("ratio", format!("time until all consumers are done, over the {what}"), ratio, "x", budget);
}

/// Makes the workspaces and offers the API in them.
async fn engage_all(
    report: &mut Report,
    meter: &Meter,
    provider: &Provider,
    count: usize,
) -> Result<Vec<Place>> {
    let mark = meter.log.mark()?;
    let workspaces = load::engage(provider, count).await?;
    let requests = meter.settled(mark).await?;
    let what = "requests per engaged workspace";
    report.add_requests("requests_engage", what, &requests, count, Some(2.0));
    let what = "memory with the workspaces engaged";
    report.add_memory("memory_engaged", what, &provider.backend, memory_budget(count, 0))?;

    let mark = meter.log.mark()?;
    let places = load::serve(provider, workspaces).await?;
    let requests = meter.settled(mark).await?;
    let what = "requests per workspace in which an API is offered";
    report.add_requests("requests_offer", what, &requests, count, None);
    Ok(places)
}

/// In MiB.
pub(crate) fn memory_budget(workspaces: usize, consumers: usize) -> f64 {
    30.0 + (30.0 * amount(workspaces) + 15.0 * amount(consumers)) / 1024.0
}

/// Binds and exports for all consumers at once; gives the time that took.
async fn bind_all(
    report: &mut Report,
    meter: &Meter,
    provider: &Provider,
    places: &Arc<Vec<Place>>,
    options: &Options,
    setting: Setting,
) -> Result<Duration> {
    let all = places.len() * options.consumers;
    let mark = meter.log.mark()?;
    let cpu = cpu_seconds(&provider.backend)?;
    let since = Instant::now();
    let taken = load::consumers(places, options.consumers, setting).await?;
    let total = since.elapsed();
    let requests = meter.settled(mark).await?;
    let (shared, own): (Vec<_>, Vec<_>) = requests.into_iter().partition(is_shared);
    let (what, allowed) = match setting {
        Setting::Cluster => ("requests per consumer: bind and export", 18.0),
        Setting::Namespaced => {
            ("requests per consumer: bind, export with a claim, first service namespace", 20.0)
        }
    };
    report.add_requests("requests_consumer", what, &own, all, Some(allowed));
    let what =
        "requests per workspace at its first consumer (ClusterRole kube-binder, published address)";
    report.add_requests("requests_first", what, &shared, places.len(), None);
    let used = (cpu_seconds(&provider.backend)? - cpu) * 1000.0 / amount(all.max(1));
    report.add("cpu_consumer", "CPU per consumer", used, "ms", Some(8.0));
    let (what, budget) = ("memory with the consumers bound", memory_budget(places.len(), all));
    report.add_memory("memory_bound", what, &provider.backend, budget)?;
    add_times(report, &taken, total);
    Ok(total)
}

fn add_times(report: &mut Report, taken: &[Taken], total: Duration) {
    let each = |step: fn(&Taken) -> Option<Duration>| taken.iter().filter_map(step).collect();
    let steps: [(&str, &str, Vec<Duration>); 3] = [
        ("latency_bind", "latency of the bind", each(|taken| Some(taken.bind))),
        ("latency_export", "latency of the export", each(|taken| Some(taken.export))),
        ("latency_namespace", "latency of the service namespace", each(|taken| taken.namespace)),
    ];
    for (key, what, taken) in steps.iter().filter(|(_, _, taken)| !taken.is_empty()) {
        report.add_latency(key, what, taken);
    }
    report.add("time_all", "until all consumers are done", total.as_secs_f64(), "s", None);
}

/// What is made and read for the first consumer of a workspace, and serves all. Consumers that race for it look at it, too.
fn is_shared(request: &Request) -> bool {
    request.resource == "logicalclusters.core.kcp.io"
        || request.resource == "clusterroles.rbac.authorization.k8s.io"
            && request.object.ends_with("/kube-binder")
}
