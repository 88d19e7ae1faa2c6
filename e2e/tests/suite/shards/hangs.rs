//! A shard that hangs: it takes connections and answers nothing, which no error tells.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::binding::{self, Request};
use e2e::shards::Shard;
use e2e::stack;
use e2e::wait::{SOON, eventually};
use futures::FutureExt as _;

use super::clock::Clock;
use super::two::{start, tenant};
use super::{BACK, nothing_deleted, settle, settled, unchanged};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![(
        "shards::a_shard_that_hangs_is_said_within_90_s_and_stops_its_own_workspaces_only",
        || hangs().boxed(),
    )]
}

/// Waits until `/readyz` names the endpoint that hangs, and nothing keeps the backend from being ready.
async fn named(backend: &Backend) -> Result<()> {
    let what = "/readyz to name the endpoint";
    let said = eventually(what, SOON, async || match backend.get("/readyz").await {
        Ok((200, body)) if body.contains(Shard::Second.url()) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    said.await.map_err(|error| backend.fail(format!("{error:#}")))
}

async fn hangs() -> Result<()> {
    let kcp = stack::shards().await?;
    let _turn = kcp.turn().await?;
    let provider = start(&kcp, "hangs", &[]).await?;
    let (alive, admin) = tenant(&provider, Shard::Root).await?;
    let (stopped, stopped_admin) = tenant(&provider, Shard::Second).await?;
    settle(&stopped_admin, "kept").await?;
    let objects = settled(&kcp.audit(Shard::Second), &stopped, &stopped_admin).await?;

    let clock = Clock::open(&admin).await?;
    kcp.hang(Shard::Second, true).await?;
    let began = Instant::now();
    let at_once = clock.bind().await?;
    named(&provider.backend).await?;
    let seen = began.elapsed();
    let during = clock.bind().await?;
    eprintln!(
        "shards: a shard that hangs was said after {seen:?}; a bind on the other one took {at_once:?} at once, {during:?} \
         then"
    );
    // Watches are renewed each minute; one that is not answered for ten seconds is missed.
    ensure!(seen < Duration::from_secs(90), "it was said after {seen:?}");
    let name = stack::unique("hangs-from-start");
    let late = Backend::launch(&name, provider.flags.clone()).await?;
    named(&late).await.context("a start beside it")?;

    kcp.hang(Shard::Second, false).await?;
    let began = Instant::now();
    for backend in [&provider.backend, &late] {
        backend.ready().await?;
    }
    let back = began.elapsed();
    eprintln!("shards: it was served again after {back:?}");
    ensure!(back < BACK, "it was served again after {back:?}");
    drop(late);
    unchanged(&objects, &settled(&kcp.audit(Shard::Second), &stopped, &stopped_admin).await?)?;
    binding::bind(&stopped_admin, &Request::new("after", "after")).await?;
    nothing_deleted(&kcp.audit(Shard::Root), &[&alive])?;
    nothing_deleted(&kcp.audit(Shard::Second), &[&stopped])
}
