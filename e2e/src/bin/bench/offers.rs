//! What it costs to offer what workspaces bind: from the APIBinding to its templates, then idling and a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::dirs;
use e2e::kcp::{Kcp, Workspace};
use e2e::object::{self, kcp_apis, kube_bind};
use e2e::provider::Provider;
use e2e::service::{Exported, GROUP, Offer, Source};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::DynamicObject;
use serde_json::json;

use crate::figures::{Report, amount};
use crate::load::{self, Board, PARALLEL};
use crate::run::Meter;
use crate::{Options, Setting, restart, run};

/// Workspaces that bind one after the other, before the rest does so together.
const ALONE: usize = 20;

/// What somebody waits for who binds an API: both from the moment in which the APIBinding was created.
struct Taken {
    bound: Duration,
    offered: Duration,
}

pub(crate) async fn measure(options: &Options) -> Result<Report> {
    let Options { workspaces: count, idle, .. } = *options;
    let title = format!("{count} workspaces, in each an APIBinding of which templates are made");
    let mut report = Report::new("offers", title);
    let kcp = Arc::new(Kcp::start(&dirs::fresh("bench-offers")?).await?);
    let flags = [Setting::Cluster.scope(), Source::Bindings.flag(), "--isolation=Prefixed"];
    let mut provider = Provider::start_on(Arc::clone(&kcp), "bench-offers", &flags).await?;
    let meter = Meter { log: kcp.audit(), ours: e2e::audit::Filter::backend() };

    let mark = meter.log.mark()?;
    let workspaces = load::engage(&provider, count).await?;
    let requests = meter.settled(mark).await?;
    report.add_requests(
        "requests_engage",
        "requests per engaged workspace",
        &requests,
        count,
        Some(2.0),
    );
    let engaged = report.add_memory(
        "memory_engaged",
        "memory with the workspaces engaged",
        &provider.backend,
        run::memory_budget(count, 0),
    )?;

    let offer = Offer::wild_west(&kcp, "root").await?;
    let mark = meter.log.mark()?;
    let (alone, together) = workspaces.split_at(count.min(ALONE));
    for (key, what, workspaces, at_once) in [
        ("alone", "one after the other", alone, 1),
        ("together", "eight at a time", together, PARALLEL),
    ] {
        let taken = stream::iter(workspaces).map(|workspace| bind(&kcp, &offer, workspace));
        let taken: Vec<Taken> = taken.buffer_unordered(at_once).try_collect().await?;
        if !taken.is_empty() {
            add_times(&mut report, key, what, &taken);
        }
    }
    let requests = meter.settled(mark).await?;
    let templates = count * Exported::all(GROUP).len();
    report.add_requests(
        "requests_template",
        "requests per generated template",
        &requests,
        templates,
        None,
    );
    let offered = report.add_memory(
        "memory_offered",
        "memory with the templates made",
        &provider.backend,
        run::memory_budget(count, 0),
    )?;
    let each = (offered - engaged) * 1024.0 / amount(count.max(1));
    report.add(
        "memory_workspace",
        "memory per workspace with two templates",
        each,
        "KiB",
        Some(30.0),
    );

    run::idle(&mut report, &meter, idle).await?;
    restart::measure(&mut report, &meter, &mut provider, count).await?;
    kcp.kill().await?;
    Ok(report)
}

fn add_times(report: &mut Report, key: &str, what: &str, taken: &[Taken]) {
    let each = |step: fn(&Taken) -> Duration| taken.iter().map(step).collect::<Vec<_>>();
    let (bound, offered) = (each(|taken| taken.bound), each(|taken| taken.offered));
    let before = format!("bindings {what}: from APIBinding to Bound, which is kcp's");
    report.add_latency(&format!("latency_bound_{key}"), &before, &bound);
    let whole = format!("bindings {what}: from APIBinding to the first template");
    report.add_latency(&format!("latency_template_{key}"), &whole, &offered);
    let own = taken.iter().map(|taken| taken.offered.saturating_sub(taken.bound));
    let what = format!("bindings {what}: from Bound to the first template");
    report.add_latency(&format!("latency_own_{key}"), &what, &own.collect::<Vec<_>>());
}

/// Binds the API in a workspace as its people do, and waits for the first template on a watch.
async fn bind(kcp: &Kcp, offer: &Offer, workspace: &Workspace) -> Result<Taken> {
    let admin = kcp.client(&workspace.cluster).await?;
    let bindings = object::api(&admin, &kcp_apis("APIBinding"), None);
    let bound = |object: &DynamicObject| object.data["status"]["phase"] == "Bound";
    let boards = [
        Board::open(bindings, bound).await?,
        Board::open(object::api(&admin, &kube_bind("APIServiceExportTemplate"), None), |_| true)
            .await?,
    ];
    let manifest = json!({
        "metadata": {"name": offer.export},
        "spec": {"reference": {"export": {"path": offer.workspace.path, "name": offer.export}}},
    });
    let since = Instant::now();
    object::create(&admin, &kcp_apis("APIBinding"), None, manifest).await?;
    let (bound, _) = boards[0].end("", &offer.export, since).await?;
    let offered = boards[1].first(since).await.context("the first template")?;
    Ok(Taken { bound, offered })
}
