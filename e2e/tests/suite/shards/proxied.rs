//! What a kcp of one shard looks like through proxies: endpoints that vanish, and a workspace that moves. kcp 0.31 cannot
//! move a workspace; two endpoints of one kcp, each of which can lose sight of it, are what a move would look like.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::binding::{self, Request};
use e2e::faultproxy::{FaultProxy, WILDCARD, listing};
use e2e::provider::Provider;
use e2e::wait::{SOON, eventually};
use futures::FutureExt as _;
use tokio::time::{Instant, sleep_until};

use super::{flags, nothing_deleted, offering, settle, settled, unchanged};
use crate::Test;

/// How long the slice is empty: as long as a cache server may need to come back.
const EMPTY: Duration = Duration::from_secs(30);

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("shards::a_slice_that_is_empty_for_30_s_interrupts_nothing", || {
            through("emptied", emptied).boxed()
        }),
        ("shards::a_workspace_that_moves_between_endpoints_is_never_taken_for_deleted", || {
            through("moved", moved).boxed()
        }),
        ("shards::of_a_workspace_that_moves_any_kind_may_be_seen_last", || {
            through("late", late).boxed()
        }),
    ]
}

/// Runs a test with a provider that has a proxy as each of its endpoints. A failure comes with the log of the backend.
async fn through<const N: usize>(
    name: &str,
    test: impl AsyncFnOnce(&Provider, &[FaultProxy; N]) -> Result<()>,
) -> Result<()> {
    let flags = flags();
    let flags = flags.each_ref().map(String::as_str);
    let (provider, endpoints) = Provider::start_sharded(name, &flags).await?;
    let outcome = test(&provider, &endpoints).await;
    outcome.map_err(|error| provider.backend.fail(format!("{error:#}")))
}

async fn emptied(provider: &Provider, [proxy]: &[FaultProxy; 1]) -> Result<()> {
    let log = provider.kcp.audit();
    let workspace = offering(provider, "emptied").await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    settle(&admin, "kept").await?;
    let endpoint = provider.kcp.endpoint_url(&provider.export.path, e2e::provider::EXPORT).await?;
    let before = settled(&log, &workspace, &admin).await?;

    let until = Instant::now() + EMPTY;
    proxy.publish(&[]).await?;
    let said = async |text: &str| {
        eventually(&format!("the log to say {text:?}"), SOON, async || {
            let output = provider.backend.output().map_err(|error| error.to_string())?;
            if output.matches(text).count() == 1 { Ok(()) } else { Err("not once".to_owned()) }
        })
        .await
    };
    said("no longer published; holding it").await?;
    unchanged(&before, &settled(&log, &workspace, &admin).await?)?;
    let during = binding::bind(&admin, &Request::new("during", "during")).await?;
    during.consumer.heartbeat().await?;
    let (code, body) = provider.backend.get("/readyz").await?;
    ensure!(code == 200, "/readyz: {code} {body}");
    let before = settled(&log, &workspace, &admin).await?;
    sleep_until(until).await;

    proxy.publish(&[proxy.url(&endpoint)?]).await?;
    said("endpoint is back").await?;
    unchanged(&before, &settled(&log, &workspace, &admin).await?)?;
    let after = binding::bind(&admin, &Request::new("after", "after")).await?;
    after.consumer.heartbeat().await?;
    said("endpoint added").await?;
    nothing_deleted(&log, &[&workspace])
}

async fn moved(provider: &Provider, [from, to]: &[FaultProxy; 2]) -> Result<()> {
    let log = provider.kcp.audit();
    let workspace = offering(provider, "moved").await?;
    let cluster = &workspace.cluster;
    let admin = provider.kcp.client(cluster).await?;
    to.hide(cluster).await?;
    settle(&admin, "kept").await?;
    let mut before = settled(&log, &workspace, &admin).await?;

    // The new endpoint shows it before the old one loses it, then the other way round, and there for a while nobody does.
    for (which, from, to, gap) in
        [("with an overlap", from, to, false), ("with a gap", to, from, true)]
    {
        if gap {
            from.hide(cluster).await?;
            unchanged(&before, &settled(&log, &workspace, &admin).await?).context(which)?;
            to.show(cluster).await?;
        } else {
            to.show(cluster).await?;
            from.hide(cluster).await?;
        }
        unchanged(&before, &settled(&log, &workspace, &admin).await?).context(which)?;

        let path = format!("/clusters/{cluster}/");
        let (old, new) = (from.log(&path).len(), to.writes(&path).len());
        let name = which.replace(' ', "-");
        let bound = binding::bind(&admin, &Request::new(&name, &name)).await.context(which)?;
        bound.consumer.heartbeat().await?;
        before = settled(&log, &workspace, &admin).await?;
        ensure!(
            to.writes(&path).len() > new,
            "{which}: nothing was written through the new endpoint"
        );
        let late = &from.log(&path)[old..];
        ensure!(late.is_empty(), "{which}: still through the old endpoint:\n{}", listing(late));
    }
    nothing_deleted(&log, &[&workspace])
}

/// So many that each has been left alone for a while when it is its turn again: one that has to list anew time and again
/// pauses longer each time.
const ENDPOINTS: usize = 6;

async fn late(provider: &Provider, endpoints: &[FaultProxy; ENDPOINTS]) -> Result<()> {
    let log = provider.kcp.audit();
    let workspace = offering(provider, "late").await?;
    let cluster = &workspace.cluster;
    let admin = provider.kcp.client(cluster).await?;
    for other in &endpoints[1..] {
        other.hide(cluster).await?;
    }
    settle(&admin, "kept").await?;
    let before = settled(&log, &workspace, &admin).await?;

    let watched = endpoints[0].log(WILDCARD).into_iter().map(|request| request.path);
    // An APIBinding is what says that the workspace is here.
    let kinds: BTreeSet<String> = watched.filter(|path| !path.ends_with("/apibindings")).collect();
    ensure!(kinds.len() > 10, "watched: {kinds:?}");
    let mut from = &endpoints[0];
    for (last, to) in kinds.iter().zip(endpoints.iter().cycle().skip(1)) {
        let context = || format!("with {last} last");
        to.show_but(cluster, Some(last)).await.with_context(context)?;
        from.hide(cluster).await.with_context(context)?;
        unchanged(&before, &settled(&log, &workspace, &admin).await?).with_context(context)?;
        to.show(cluster).await.with_context(context)?;
        from = to;
    }
    unchanged(&before, &settled(&log, &workspace, &admin).await?)?;
    nothing_deleted(&log, &[&workspace])
}
