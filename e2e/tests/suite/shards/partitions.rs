//! Partitions of kcp, each with an endpoint slice of its own: a process for each, and one process for all.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use e2e::backend::Backend;
use e2e::binding::{self, Request};
use e2e::kcp::Workspace;
use e2e::object::{self, resource};
use e2e::provider::{EXPORT, Provider};
use e2e::shards::{Shard, Shards};
use e2e::stack;
use e2e::wait::{SOON, eventually};
use futures::FutureExt as _;
use kube::Client;
use serde_json::json;

use super::two::{export, tenant};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![("shards::partitions_are_served_by_a_process_each_or_by_one_for_all", || {
        partitions().boxed()
    })]
}

/// A Partition with the shard alone, and an endpoint slice for it; gives the name of both.
async fn partition(kcp: &Shards, export: &Workspace, shard: Shard) -> Result<&'static str> {
    let home = kcp.client(&export.path).await?;
    let name = shard.region();
    let kind = resource("topology.kcp.io", "v1alpha1", "Partition", "partitions");
    let selector = json!({"matchLabels": {"region": name}});
    let manifest = json!({"metadata": {"name": name}, "spec": {"selector": selector}});
    object::create(&home, &kind, None, manifest).await?;
    let kind =
        resource("apis.kcp.io", "v1alpha1", "APIExportEndpointSlice", "apiexportendpointslices");
    let reference = json!({"path": export.path, "name": EXPORT});
    let spec = json!({"export": reference, "partition": name});
    let manifest = json!({"metadata": {"name": name}, "spec": spec});
    object::create(&home, &kind, None, manifest).await?;
    Ok(name)
}

async fn start(name: &str, flags: &[String], slices: &[&str]) -> Result<(Backend, Vec<String>)> {
    let slices = slices.iter().map(|slice| format!("--apiexport-endpoint-slice-name={slice}"));
    let flags: Vec<String> = flags.iter().cloned().chain(slices).collect();
    Ok((Backend::start(&stack::unique(name), flags.clone()).await?, flags))
}

/// Which of these workspaces a backend has engaged, once it has any.
async fn engaged(backend: &Backend, all: [&Workspace; 2]) -> Result<BTreeSet<String>> {
    eventually("a workspace to be engaged", SOON, async || {
        let log = backend.output()?;
        let has =
            |of: &&&Workspace| log.contains(&format!("cluster engaged cluster={} ", of.cluster));
        let engaged: BTreeSet<String> = all.iter().filter(has).map(|of| of.path.clone()).collect();
        ensure!(!engaged.is_empty(), "none");
        anyhow::Ok(engaged)
    })
    .await
}

async fn bind(admin: &Client, name: &str) -> Result<()> {
    binding::bind(admin, &Request::new(name, name)).await?.consumer.heartbeat().await.map(drop)
}

async fn partitions() -> Result<()> {
    let kcp = stack::shards().await?;
    let _turn = kcp.turn().await?;
    let (home, flags) = export(&kcp, &stack::unique("partitions")).await?;
    let mut providers = Vec::new();
    let mut tenants = Vec::new();
    for shard in [Shard::Root, Shard::Second] {
        let slice = partition(&kcp, &home, shard).await?;
        let (backend, flags) = start(&format!("partition-{slice}"), &flags, &[slice]).await?;
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
    for (provider, own) in providers.iter_mut().zip([first, second]) {
        let engaged = engaged(&provider.backend, [first, second]).await?;
        ensure!(engaged == BTreeSet::from([own.path.clone()]), "{}: {engaged:?}", own.path);
        provider.backend.stop().await?;
    }

    let slices = [Shard::Root, Shard::Second].map(Shard::region);
    let (mut backend, _) = start("partitions-all", &flags, &slices).await?;
    let outcome = async {
        bind(first_admin, "one-first").await?;
        bind(second_admin, "one-second").await
    };
    outcome.await.map_err(|error| backend.fail(format!("{error:#}")))?;
    let engaged = engaged(&backend, [first, second]).await?;
    ensure!(engaged == BTreeSet::from([first, second].map(|of| of.path.clone())), "{engaged:?}");
    backend.stop().await
}
