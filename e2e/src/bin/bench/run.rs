//! One setting from the first workspace to a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::audit::{Audit, Filter, Mark, Request};
use e2e::dirs;
use e2e::kcp::Kcp;
use e2e::object;
use e2e::provider::Provider;

use crate::figures::{Report, amount, cpu_seconds};
use crate::load::{self, CONSUMERS_AT_ONCE, DEADLINE, Place, Taken};
use crate::{Options, Setting, floor};

/// Without a request for this long the backend has done its work.
const QUIET: Duration = Duration::from_secs(5);

/// Where requests are counted.
struct Meter {
    log: Audit,
    ours: Filter,
}

impl Meter {
    /// Our requests since the mark, once there are no more.
    async fn settled(&self, mark: Mark) -> Result<Vec<Request>> {
        self.log.quiet(mark, &self.ours, QUIET, DEADLINE, |_| false).await
    }
}

pub(crate) async fn measure(options: &Options, setting: Setting) -> Result<Report> {
    let Options { workspaces: count, consumers, .. } = *options;
    let title =
        format!("{count} workspaces, {consumers} consumers in each, {}", setting.flags()[0]);
    let mut report = Report::new(title);
    let kcp = Arc::new(Kcp::start(&dirs::fresh(&format!("bench-{setting:?}"))?).await?);
    let name = format!("bench-{setting:?}").to_lowercase();
    let mut provider = Provider::start_on(Arc::clone(&kcp), &name, &setting.flags()).await?;
    let meter = Meter { log: kcp.audit(), ours: Filter::backend() };
    report.add_memory("memory at start", &provider.backend, 30.0)?;

    let mark = meter.log.mark()?;
    let workspaces = load::engage(&provider, count).await?;
    let requests = meter.settled(mark).await?;
    report.add_requests("requests per engaged workspace", &requests, count, Some(2.0));
    let mut budget = 30.0 + 30.0 * amount(count) / 1024.0;
    report.add_memory("memory with the workspaces engaged", &provider.backend, budget)?;

    let mark = meter.log.mark()?;
    let places = Arc::new(load::serve(&provider, workspaces).await?);
    let requests = meter.settled(mark).await?;
    report.add_requests(
        "requests per workspace in which an API is offered",
        &requests,
        count,
        None,
    );

    let all = count * consumers;
    let bound = bind_all(&mut report, &meter, &provider, &places, options, setting).await?;
    budget += 15.0 * amount(all) / 1024.0;
    report.add_memory("memory with the consumers bound", &provider.backend, budget)?;

    let mark = meter.log.mark()?;
    tokio::time::sleep(Duration::from_secs(options.idle)).await;
    let idle = meter.log.requests(mark, &meter.ours)?;
    let what = format!("requests in {} s of idling, without watches", options.idle);
    report.add(&what, amount(idle.len()), "", Some(0.0));

    restart(&mut report, &meter, &mut provider, &places).await?;
    provider.backend.stop().await?;
    let floor = floor::measure(&places, consumers, setting).await?;
    report.add("floor: raw writes per consumer", amount(floor.writes), "", None);
    let rate = amount(floor.writes * all) / floor.taken.as_secs_f64();
    report.add("floor: raw writes per second", rate, "", None);
    let ratio = bound.as_secs_f64() / floor.taken.as_secs_f64();
    report.add("time until all consumers are done, over the floor", ratio, "x", Some(1.3));
    kcp.kill().await?;
    Ok(report)
}

/// Binds and exports for all consumers; gives the time that took.
async fn bind_all(
    report: &mut Report,
    meter: &Meter,
    provider: &Provider,
    places: &Arc<Vec<Place>>,
    options: &Options,
    setting: Setting,
) -> Result<Duration> {
    let all = options.workspaces * options.consumers;
    let mark = meter.log.mark()?;
    let cpu = cpu_seconds(&provider.backend)?;
    let since = Instant::now();
    let taken = load::consumers(places, options.consumers, setting).await?;
    let total = since.elapsed();
    let requests = meter.settled(mark).await?;
    let (shared, own): (Vec<_>, Vec<_>) = requests.into_iter().partition(is_shared);
    let what = "requests per workspace at its first consumer (ClusterRole kube-binder)";
    report.add_requests(what, &shared, options.workspaces, None);
    let (what, allowed) = match setting {
        Setting::Cluster => ("requests per consumer: bind and export", 18.0),
        Setting::Namespaced => {
            ("requests per consumer: bind, export with a claim, first service namespace", 20.0)
        }
    };
    report.add_requests(what, &own, all, Some(allowed));
    let used = (cpu_seconds(&provider.backend)? - cpu) * 1000.0 / amount(all.max(1));
    report.add("CPU per consumer", used, "ms", Some(8.0));
    let each = |step: fn(&Taken) -> Option<Duration>| taken.iter().filter_map(step).collect();
    let steps: [(&str, Vec<Duration>); 3] = [
        ("bind", each(|taken| Some(taken.bind))),
        ("export", each(|taken| Some(taken.export))),
        ("service namespace", each(|taken| taken.namespace)),
    ];
    for (step, taken) in steps.iter().filter(|(_, taken)| !taken.is_empty()) {
        let what = format!("latency of the {step}, {CONSUMERS_AT_ONCE} consumers at a time");
        report.add_latency(&what, taken);
    }
    Ok(total)
}

/// What the first consumer of a workspace makes for all of them.
fn is_shared(request: &Request) -> bool {
    request.resource == "clusterroles.rbac.authorization.k8s.io"
        && request.object.ends_with("/kube-binder")
}

/// A restart in a world where nothing is left to do, beside the same lists issued raw, one after the other as the backend
/// must not wait for.
async fn restart(
    report: &mut Report,
    meter: &Meter,
    provider: &mut Provider,
    places: &Arc<Vec<Place>>,
) -> Result<()> {
    provider.backend.stop().await?;
    let mark = meter.log.mark()?;
    let since = Instant::now();
    provider.backend.restart().await?;
    let ready = since.elapsed();
    let requests = meter.settled(mark).await?;
    let (lists, others): (Vec<_>, Vec<_>) = requests.into_iter().partition(|r| r.verb == "list");
    report.add_requests("lists of a restart", &lists, 1, None);
    report.add_requests("other requests of a restart", &others, 1, Some(0.0));
    let seconds = ready.as_secs_f64();
    let what = format!("ready after a restart with {} workspaces", places.len());
    report.add(&what, seconds, "s", Some(3.0));
    let raw = raw_lists(provider).await?.as_secs_f64();
    report.add(
        "ready after a restart, over the same lists issued raw",
        seconds / raw,
        "x",
        Some(1.3),
    );
    Ok(())
}

/// The lists of a start, all at once, by the credential and the addresses that the backend uses.
async fn raw_lists(provider: &Provider) -> Result<Duration> {
    let kubeconfig = provider.flags.iter().find_map(|flag| flag.strip_prefix("--kubeconfig="));
    let text = std::fs::read_to_string(kubeconfig.unwrap_or_default())?;
    let endpoint = provider.kcp.endpoint_url(&provider.export.path, e2e::provider::EXPORT).await?;
    let access = e2e::client::Access::from_kubeconfig(&text, None)?;
    let client = access.at(format!("{endpoint}/clusters/*")).client("bench").await?;
    let kinds = [
        "Cluster",
        "ClusterBinding",
        "BindableResourcesRequest",
        "APIServiceExportRequest",
        "APIServiceExport",
        "BoundSchema",
        "APIServiceNamespace",
        "APIServiceExportTemplate",
    ]
    .map(object::kube_bind);
    let core = ["Namespace", "ServiceAccount", "Secret"].map(object::core);
    let rbac = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"].map(object::rbac);
    let schemas =
        object::resource("apis.kcp.io", "v1alpha1", "APIResourceSchema", "apiresourceschemas");
    let all =
        kinds.into_iter().chain(core).chain(rbac).chain([schemas, object::kcp_apis("APIBinding")]);
    let since = Instant::now();
    let lists = all.map(|kind| {
        let client = client.clone();
        async move { object::list(&object::api(&client, &kind, None)).await }
    });
    futures::future::try_join_all(lists).await?;
    Ok(since.elapsed())
}
