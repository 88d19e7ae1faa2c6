//! Partitions of kcp, each with an endpoint slice of its own: a process for each, and one process for all.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use e2e::backend::Backend;
use e2e::binding::{self, Request};
use e2e::kcp::Workspace;
use e2e::object::{self, endpoint_slices, resource};
use e2e::provider::{EXPORT, Provider};
use e2e::shards::{Shard, Shards};
use e2e::stack;
use e2e::wait::{SOON, eventually};
use futures::FutureExt as _;
use kube::Client;
use serde_json::json;

use super::two::{export, tenant};
use crate::Test;

const BOTH: [Shard; 2] = [Shard::Root, Shard::Second];

pub(super) fn tests() -> Vec<Test> {
    vec![("shards::partitions_are_served_by_a_process_each_or_by_one_for_all", || {
        partitions().boxed()
    })]
}

/// A Partition with the shard alone, and an endpoint slice for it, both named after its region.
///
/// Until kcp 0.31 has read which shards the Partition selects, it may take an endpoint of every shard on which the export
/// is bound into the slice, and then leaves it there. The export's own workspace has bound it, so its shard is one of them.
/// The README has the command that takes it out.
async fn partition(kcp: &Shards, export: &Workspace, shard: Shard) -> Result<()> {
    let home = kcp.client(&export.path).await?;
    let name = shard.region();
    let kind = resource("topology.kcp.io", "v1alpha1", "Partition", "partitions");
    let selector = json!({"matchLabels": {"region": name}});
    let manifest = json!({"metadata": {"name": name}, "spec": {"selector": selector}});
    object::create(&home, &kind, None, manifest).await?;
    let reference = json!({"path": export.path, "name": EXPORT});
    let spec = json!({"export": reference, "partition": name});
    let manifest = json!({"metadata": {"name": name}, "spec": spec});
    object::create(&home, &endpoint_slices(), None, manifest).await?;
    let slices = object::api(&home, &endpoint_slices(), None);
    object::wait_for(&slices, name, &format!("the shards of slice {name}"), SOON, |slice| {
        let known = slice.data["status"]["shardSelector"] == format!("region={name}");
        if known { Ok(()) } else { Err(object::summary(slice)) }
    })
    .await?;
    let none = json!({"status": {"endpoints": []}});
    object::merge_patch(&slices, name, &none, true).await?;
    Ok(())
}

/// The shards that the slice of a shard leads to, this one among them.
async fn published(kcp: &Shards, export: &Workspace, shard: Shard) -> Result<Vec<Shard>> {
    let slices = object::api(&kcp.client(&export.path).await?, &endpoint_slices(), None);
    let endpoints = slices.get(shard.region()).await?.data["status"]["endpoints"].clone();
    let has = |of: &Shard| {
        let url = super::endpoint(*of, export);
        endpoints.as_array().is_some_and(|all| all.contains(&json!({"url": url})))
    };
    let published: Vec<Shard> = BOTH.into_iter().filter(has).collect();
    ensure!(published.contains(&shard), "{shard:?}: {endpoints}");
    Ok(published)
}

async fn start(name: &str, flags: &[String], slices: &[Shard]) -> Result<(Backend, Vec<String>)> {
    let slice = |shard: &Shard| format!("--apiexport-endpoint-slice-name={}", shard.region());
    let flags: Vec<String> = flags.iter().cloned().chain(slices.iter().map(slice)).collect();
    Ok((Backend::start(&stack::unique(name), flags.clone()).await?, flags))
}

/// Paths of those workspaces that a backend has engaged so far.
fn engaged(backend: &Backend, all: [&Workspace; 2]) -> Result<BTreeSet<String>> {
    let log = backend.output()?;
    let has = |of: &&Workspace| log.contains(&format!("cluster engaged cluster={} ", of.cluster));
    Ok(all.into_iter().filter(has).map(|of| of.path.clone()).collect())
}

async fn bind(admin: &Client, name: &str) -> Result<()> {
    binding::bind(admin, &Request::new(name, name)).await?.consumer.heartbeat().await.map(drop)
}

async fn partitions() -> Result<()> {
    let kcp = stack::shards().await?;
    let _turn = kcp.turn().await?;
    let (home, flags) = export(&kcp, &stack::unique("partitions")).await?;
    for shard in BOTH {
        partition(&kcp, &home, shard).await?;
    }
    let mut providers = Vec::new();
    let mut tenants = Vec::new();
    for shard in BOTH {
        let name = format!("partition-{}", shard.region());
        let (backend, flags) = start(&name, &flags, &[shard]).await?;
        let provider = Provider::of(kcp.clone(), home.clone(), flags, backend);
        tenants.push(tenant(&provider, shard).await?);
        providers.push(provider);
    }
    let [(first, first_admin), (second, second_admin)] = &tenants[..] else {
        anyhow::bail!("two shards, and {} workspaces", tenants.len());
    };
    bind(first_admin, "each-first").await?;
    bind(second_admin, "each-second").await?;
    // By now each has served its own, and would have the other's.
    for (provider, shard) in providers.iter_mut().zip(BOTH) {
        let published = eventually("those behind the endpoints to be engaged", SOON, async || {
            let published = published(&kcp, &home, shard).await?;
            let behind = BOTH.into_iter().zip([first, second]);
            let behind = behind.filter(|(shard, _)| published.contains(shard));
            let expected: BTreeSet<String> = behind.map(|(_, of)| of.path.clone()).collect();
            let engaged = engaged(&provider.backend, [first, second])?;
            ensure!(engaged == expected, "{shard:?}: {engaged:?}, and not {expected:?}");
            anyhow::Ok(published)
        });
        let published = published.await?;
        eprintln!("shards: kcp leads the process of {shard:?} to {published:?}");
        provider.backend.stop().await?;
    }

    let (mut backend, _) = start("partitions-all", &flags, &BOTH).await?;
    let outcome = async {
        bind(first_admin, "one-first").await?;
        bind(second_admin, "one-second").await?;
        let both = BTreeSet::from([first, second].map(|of| of.path.clone()));
        eventually("both to be engaged", SOON, async || {
            let engaged = engaged(&backend, [first, second])?;
            ensure!(engaged == both, "{engaged:?}");
            anyhow::Ok(())
        })
        .await
    };
    outcome.await.map_err(|error| backend.fail(format!("{error:#}")))?;
    backend.stop().await
}
