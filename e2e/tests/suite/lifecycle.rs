//! Restarts on both sides, what they cost, and what an operator sees meanwhile.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{self, Filter, Request};
use e2e::binding;
use e2e::kcp::{Claims, Kcp};
use e2e::provider::{PLATFORM, Provider};
use e2e::wait::eventually;
use e2e::{dirs, stack};
use futures::FutureExt as _;
use futures::future::try_join_all;

use crate::Test;

const SOON: Duration = Duration::from_secs(30);
const RECOVERY: Duration = Duration::from_mins(2);
/// Longer than any pause of ours between two writes.
const QUIET: Duration = Duration::from_secs(5);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("lifecycle::a_restart_on_a_converged_world_writes_nothing", || converged().boxed()),
        ("lifecycle::engaging_a_workspace_and_a_bind_cost_what_the_budget_allows", || {
            budget().boxed()
        }),
        ("lifecycle::a_backend_recovers_by_itself_when_kcp_is_killed_and_comes_back", || {
            kcp_restarts().boxed()
        }),
        ("lifecycle::health_is_served_where_the_flags_say_and_names_no_tenant", || {
            health().boxed()
        }),
        ("lifecycle::sigterm_ends_the_process_also_while_kcp_is_down", || {
            sigterm_while_down().boxed()
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

async fn converged() -> Result<()> {
    let mut provider = Provider::start("converged", PLATFORM).await?;
    let log = provider.kcp.audit();
    let workspaces = [
        provider.tenant("converged", Claims::All).await?,
        provider.tenant("converged", Claims::All).await?,
    ];
    let start = log.mark()?;
    for workspace in &workspaces {
        let admin = provider.kcp.client(&workspace.cluster).await?;
        let bound = binding::bind(&admin, &binding::Request::new("consumer", "consumer")).await?;
        bound.consumer.heartbeat().await?;
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

async fn budget() -> Result<()> {
    let provider = Provider::start("budget", PLATFORM).await?;
    let log = provider.kcp.audit();
    let mark = log.mark()?;
    let workspace = provider.tenant("budget", Claims::All).await?;
    let ours = Filter::backend().cluster(&workspace.cluster);
    let engaged = log.quiet(mark, &ours, QUIET, SOON, |_| false).await?;
    ensure!(engaged.len() <= 2, "to engage a workspace:\n{}", audit::listing(&engaged));

    let admin = provider.kcp.client(&workspace.cluster).await?;
    binding::bind(&admin, &binding::Request::new("first", "first")).await?;
    log.quiet(mark, &ours, QUIET, SOON, |_| false).await?;
    let mark = log.mark()?;
    binding::bind(&admin, &binding::Request::new("second", "second")).await?;
    let bound = log.quiet(mark, &ours, QUIET, SOON, |_| false).await?;
    ensure!(bound.len() <= 12, "to bind a consumer:\n{}", audit::listing(&bound));
    Ok(())
}

async fn kcp_restarts() -> Result<()> {
    let kcp = std::sync::Arc::new(Kcp::start(&dirs::fresh("kcp-restarted")?).await?);
    let provider = Provider::start_on(kcp.clone(), "restarted", PLATFORM).await?;
    let workspace = provider.tenant("restarted", Claims::All).await?;
    let admin = kcp.client(&workspace.cluster).await?;
    let before = binding::bind(&admin, &binding::Request::new("before", "before")).await?;
    kcp.kill().await?;
    eventually("/readyz to say that kcp is away", RECOVERY, async || {
        let alive = provider.backend.get("/livez").await.map_err(|e| format!("{e:#}"))?;
        if alive.0 != 200 {
            return Err(format!("/livez answers {}", alive.0));
        }
        match provider.backend.get("/readyz").await {
            Ok((503, body)) if body.contains("cannot watch") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    kcp.resume().await?;
    provider.backend.ready().await?;
    let admin = kcp.client(&workspace.cluster).await?;
    let again = binding::bind(&admin, &binding::Request::new("again", "before")).await?;
    ensure!(again.kubeconfig == before.kubeconfig, "the restart changed a credential");
    binding::bind(&admin, &binding::Request::new("after", "after")).await?;
    let deletes = kcp.audit().requests(audit::Mark::START, &Filter::backend())?;
    let deletes: Vec<_> = deletes.into_iter().filter(|r| r.verb == "delete").collect();
    ensure!(deletes.is_empty(), "{}", audit::listing(&deletes));
    kcp.kill().await
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
    let backend = e2e::backend::Backend::launch(&name, flags).await?;
    ensure!(backend.get("/healthz").await?.0 == 200, "/healthz left the listen address");
    for path in ["/livez", "/readyz", "/metrics"] {
        ensure!(backend.get(path).await?.0 == 404, "{path} is still at the listen address");
    }
    let output = backend.output()?;
    let admin = output.lines().find(|line| line.contains("--admin-address")).context("no line")?;
    ensure!(admin.contains("address=127.0.0.1:"), "{admin}");
    Ok(())
}

async fn sigterm_while_down() -> Result<()> {
    let kcp = std::sync::Arc::new(Kcp::start(&dirs::fresh("kcp-gone")?).await?);
    let mut provider = Provider::start_on(kcp.clone(), "gone", PLATFORM).await?;
    kcp.kill().await?;
    provider.backend.stop().await
}
