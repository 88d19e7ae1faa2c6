//! Restarts on both sides, what they cost, and what an operator sees meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::audit::{self, Filter, Request};
use e2e::backend::Backend;
use e2e::binding;
use e2e::driver::Settings;
use e2e::kcp::{Claims, Kcp, Workspace};
use e2e::provider::{PLATFORM, Provider};
use e2e::service::{BY_HAND, Exported, GROUP, Scope, Source};
use e2e::wait::{SOON, eventually};
use e2e::{dirs, stack};
use futures::FutureExt as _;
use futures::future::try_join_all;

use crate::Test;

const RECOVERY: Duration = Duration::from_mins(2);
/// Longer than any pause of ours between two writes.
const QUIET: Duration = Duration::from_secs(5);
/// Longer than a watch lasts, which is a minute.
const RENEWAL: Duration = Duration::from_secs(70);
/// What the platform may rely on between SIGTERM and the end: four seconds for requests in flight, and what a busy machine
/// needs besides.
const END: Duration = Duration::from_secs(8);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("lifecycle::a_restart_on_a_converged_world_writes_nothing", || converged().boxed()),
        ("lifecycle::a_restart_costs_one_list_a_kind_and_idling_costs_watches_only", || {
            idle().boxed()
        }),
        ("lifecycle::a_workspace_and_a_consumer_cost_what_the_budget_allows", || budget().boxed()),
        ("lifecycle::a_backend_recovers_by_itself_when_kcp_is_killed_and_comes_back", || {
            kcp_restarts().boxed()
        }),
        ("lifecycle::health_is_served_where_the_flags_say_and_names_no_tenant", || {
            health().boxed()
        }),
        ("lifecycle::sigterm_ends_the_process_also_while_kcp_is_down", || {
            sigterm_while_down().boxed()
        }),
        ("lifecycle::sigterm_in_the_middle_of_binds_on_a_kcp_that_hangs_loses_nothing", || {
            sigterm_while_hanging().boxed()
        }),
    ]
}

/// Requests of ours that changed something since `mark`, once there are no more requests at all.
async fn writes(provider: &Provider, mark: audit::Mark) -> Result<Vec<Request>> {
    let log = provider.kcp.audit();
    let mut writes = Vec::new();
    // Other tests run on the same kcp: only the clusters of this one count.
    for cluster in provider.tenants() {
        let ours = Filter::backend().cluster(&cluster);
        let seen = log.quiet(mark, &ours, QUIET, SOON, |_| false).await?;
        writes.extend(seen.into_iter().filter(Request::is_write));
    }
    Ok(writes)
}

/// A workspace where an API is served.
async fn served(provider: &Provider, name: &str) -> Result<Workspace> {
    let workspace = provider.tenant(name, Claims::All).await?;
    provider.serve(&workspace, Source::Schemas).await?;
    Ok(workspace)
}

/// The flags for a provider of exports. What is offered is made by hand: the budgets are for consumers.
fn flags(settings: Settings) -> [String; 4] {
    let [scope, isolation] = settings.flags();
    [scope, isolation, Source::Schemas.flag().to_owned(), BY_HAND.to_owned()]
}

/// A consumer in the middle of its life: bound, alive, with an export and, where objects are synced to one, a service
/// namespace.
async fn consumer(
    provider: &Provider,
    workspace: &Workspace,
    name: &str,
    settings: Settings,
    claims: &[&'static str],
) -> Result<()> {
    let admin = provider.kcp.client(&workspace.cluster).await?;
    let bound = binding::bind(&admin, &binding::Request::new(name, name)).await?;
    bound.consumer.heartbeat().await?;
    let exported = Exported::of(GROUP, settings.resource);
    let usage = bound.consumer.take_up("herd", settings, &exported, claims).await?;
    if settings == Settings::APART {
        usage.service_namespace("town").await?;
    }
    Ok(())
}

async fn converged() -> Result<()> {
    let settings = Settings::APART;
    let flags = flags(settings);
    let mut provider = Provider::start("converged", &flags.each_ref().map(String::as_str)).await?;
    let log = provider.kcp.audit();
    let workspaces = [served(&provider, "converged").await?, served(&provider, "converged").await?];
    let start = log.mark()?;
    for workspace in &workspaces {
        consumer(&provider, workspace, "consumer", settings, &["Secret"]).await?;
    }
    writes(&provider, start).await?;

    let mark = log.mark()?;
    provider.backend.stop().await?;
    provider.backend.restart().await?;
    let written = writes(&provider, mark).await?;
    ensure!(written.is_empty(), "after SIGTERM:\n{}", audit::listing(&written));

    let mark = log.mark()?;
    provider.backend.kill().await?;
    provider.backend.restart().await?;
    let written = writes(&provider, mark).await?;
    ensure!(written.is_empty(), "after kill -9:\n{}", audit::listing(&written));
    Ok(())
}

/// On a kcp of its own: requests to all workspaces at once name none, so those of other tests would be counted too.
async fn idle() -> Result<()> {
    let kcp = Arc::new(Kcp::start(&dirs::fresh("kcp-idle")?).await?);
    let settings = Settings::APART;
    let flags = flags(settings);
    let flags = flags.each_ref().map(String::as_str);
    let mut provider = Provider::start_on(kcp.clone(), "idle", &flags).await?;
    let (log, ours) = (kcp.audit(), Filter::backend());
    for _ in 0..2 {
        let workspace = served(&provider, "idle").await?;
        for name in ["one", "two"] {
            consumer(&provider, &workspace, name, settings, &["Secret"]).await?;
        }
    }
    log.quiet(audit::Mark::START, &ours, QUIET, SOON, |_| false).await?;

    for how in ["SIGTERM", "kill -9"] {
        let mark = log.mark()?;
        match how {
            "SIGTERM" => provider.backend.stop().await?,
            _ => provider.backend.kill().await?,
        }
        provider.backend.restart().await?;
        let requests = log.quiet(mark, &ours, QUIET, SOON, |_| false).await?;
        let counts = audit::count(&requests);
        let lists_only = counts.iter().all(|((verb, _), count)| verb == "list" && *count == 1);
        ensure!(
            lists_only && !counts.is_empty(),
            "a start after {how}:\n{}",
            audit::listing(&requests)
        );
    }

    let mark = log.mark()?;
    let requests = log.quiet(mark, &ours, RENEWAL, RENEWAL * 2, |_| false).await?;
    ensure!(requests.is_empty(), "idle:\n{}", audit::listing(&requests));
    ensure!(
        !log.watches(mark, &ours)?.is_empty(),
        "no watch was renewed in {RENEWAL:?}: that proves nothing"
    );
    provider.backend.stop().await?;
    kcp.kill().await
}

/// The budgets of design section 6, with the answer to a heartbeat, which they leave out.
async fn budget() -> Result<()> {
    let wide = Settings { informers: Scope::Cluster, ..Settings::APART };
    for (name, settings, claims, allowed) in
        [("budget", Settings::APART, &["Secret"][..], 20), ("budget-wide", wide, &[], 18)]
    {
        let flags = flags(settings);
        let provider = Provider::start(name, &flags.each_ref().map(String::as_str)).await?;
        let log = provider.kcp.audit();
        let mark = log.mark()?;
        let workspace = provider.tenant(name, Claims::All).await?;
        let ours = Filter::backend().cluster(&workspace.cluster);
        // kcp may refuse the first write to a new workspace.
        let refused = |request: &audit::Request| request.code == 403;
        let engaged = log.quiet(mark, &ours, QUIET, SOON, refused).await?;
        eprintln!("{name}: requests to engage a workspace: {}", engaged.len());
        ensure!(engaged.len() <= 2, "to engage a workspace:\n{}", audit::listing(&engaged));

        provider.serve(&workspace, Source::Schemas).await?;
        consumer(&provider, &workspace, "first", settings, claims).await?;
        log.quiet(mark, &ours, QUIET, SOON, |_| false).await?;
        let mark = log.mark()?;
        consumer(&provider, &workspace, "second", settings, claims).await?;
        let bound = log.quiet(mark, &ours, QUIET, SOON, |_| false).await?;
        eprintln!("{name}: requests for a consumer: {}", bound.len());
        ensure!(bound.len() <= allowed + 1, "for a consumer:\n{}", audit::listing(&bound));
    }
    Ok(())
}

async fn kcp_restarts() -> Result<()> {
    let kcp = Arc::new(Kcp::start(&dirs::fresh("kcp-restarted")?).await?);
    let provider = Provider::start_on(kcp.clone(), "restarted", PLATFORM).await?;
    let workspace = provider.tenant("restarted", Claims::All).await?;
    let admin = kcp.client(&workspace.cluster).await?;
    let before = binding::bind(&admin, &binding::Request::new("before", "before")).await?;
    let outage = async {
        kcp.kill().await?;
        eventually("/readyz to say that kcp is away", RECOVERY, async || {
            match provider.backend.get("/readyz").await {
                Ok((503, body)) if body.contains("cannot watch") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        kcp.resume().await?;
        provider.backend.ready().await
    };
    tokio::select! {
        over = outage => over?,
        never = stays_alive(&provider.backend) => never?,
    }
    let admin = kcp.client(&workspace.cluster).await?;
    let again = binding::bind(&admin, &binding::Request::new("again", "before")).await?;
    ensure!(again.kubeconfig == before.kubeconfig, "the restart changed a credential");
    binding::bind(&admin, &binding::Request::new("after", "after")).await?;
    let deletes = kcp.audit().requests(audit::Mark::START, &Filter::backend())?;
    let deletes: Vec<_> = deletes.into_iter().filter(|r| r.verb == "delete").collect();
    ensure!(deletes.is_empty(), "{}", audit::listing(&deletes));
    kcp.kill().await
}

/// Ends only when `/livez` does not answer 200.
async fn stays_alive(backend: &Backend) -> Result<()> {
    loop {
        let (code, body) = backend.get("/livez").await?;
        ensure!(code == 200, "/livez answers {code} {body}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn health() -> Result<()> {
    let mut provider = Provider::start("health", PLATFORM).await?;
    let workspace = provider.tenant("health", Claims::All).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    let names: Vec<String> = (0..3).map(|index| format!("metric-{index}")).collect();
    let bound = try_join_all(names.iter().map(|name| {
        let admin = admin.clone();
        async move { binding::bind(&admin, &binding::Request::new(name, name)).await }
    }))
    .await?;
    for path in ["/healthz", "/livez", "/readyz"] {
        ensure!(provider.backend.get(path).await?.0 == 200, "{path} does not answer 200");
    }
    let (code, metrics) = provider.backend.get("/metrics").await?;
    ensure!(code == 200 && metrics.contains("kube_bind_backend_engaged_clusters 1"), "{metrics}");
    let mut secret = vec![workspace.cluster.as_str(), workspace.path.as_str()];
    secret.extend(bound.iter().map(|bound| bound.consumer.namespace()));
    secret.extend(names.iter().map(String::as_str));
    for name in secret {
        ensure!(!metrics.contains(name), "the metrics name {name}");
    }
    ensure!(provider.backend.get("/other").await?.0 == 404, "an unknown path is answered");

    provider.backend.stop().await?;
    let flags = provider.flags.iter().cloned().chain(["--admin-address=127.0.0.1:0".to_owned()]);
    let name = stack::unique("admin-address");
    let backend = Backend::launch(&name, flags).await?;
    ensure!(backend.get("/healthz").await?.0 == 200, "/healthz left the listen address");
    for path in ["/livez", "/readyz", "/metrics"] {
        ensure!(backend.get(path).await?.0 == 404, "{path} is still at the listen address");
    }
    backend.ready().await?;
    for path in ["/healthz", "/livez", "/metrics"] {
        let (code, body) = backend.get_admin(path).await?;
        ensure!(code == 200, "{path} at the admin address: {code} {body}");
    }
    Ok(())
}

/// SIGTERM; it has to end with exit code 0 in time.
async fn ends(backend: &mut Backend) -> Result<()> {
    let began = Instant::now();
    backend.stop().await?;
    let took = began.elapsed();
    if took > END {
        return Err(backend.fail(format!("took {took:?} to end after SIGTERM")));
    }
    Ok(())
}

async fn sigterm_while_down() -> Result<()> {
    let kcp = Arc::new(Kcp::start(&dirs::fresh("kcp-gone")?).await?);
    let mut provider = Provider::start_on(kcp.clone(), "gone", PLATFORM).await?;
    ends(&mut provider.backend).await.context("beside a healthy kcp")?;
    provider.backend.restart().await?;
    kcp.kill().await?;
    ends(&mut provider.backend).await.context("without kcp")
}

async fn sigterm_while_hanging() -> Result<()> {
    const NAMES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
    let kcp = Arc::new(Kcp::start(&dirs::fresh("kcp-hangs")?).await?);
    let mut provider = Provider::start_on(kcp.clone(), "hangs", PLATFORM).await?;
    let workspace = provider.tenant("hangs", Claims::All).await?;
    let admin = kcp.client(&workspace.cluster).await?;
    let (log, ours) = (kcp.audit(), Filter::backend().cluster(&workspace.cluster));
    log.quiet(audit::Mark::START, &ours, QUIET, SOON, |_| false).await?;
    let mark = log.mark()?;
    for name in NAMES {
        binding::create(&admin, &binding::Request::new(name, name)).await?;
    }
    eventually("the backend to be at work", SOON, async || {
        match log.requests(mark, &ours)?.len() {
            0 => bail!("no request yet"),
            _ => anyhow::Ok(()),
        }
    })
    .await?;
    kcp.pause(true).await?;
    let alive = provider.backend.get("/livez").await?;
    ensure!(alive.0 == 200, "{alive:?}");
    ends(&mut provider.backend).await?;
    kcp.pause(false).await?;
    provider.backend.restart().await?;
    for name in NAMES {
        let request = binding::Request::new(name, name);
        binding::finished(&admin, &request).await.with_context(|| name.to_owned())?;
    }
    ends(&mut provider.backend).await?;
    kcp.kill().await
}
