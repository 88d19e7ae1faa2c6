//! Binding a consumer by a request, and what it can do with the kubeconfig that it gets.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::binding::{self, Bound, Request};
use e2e::kcp::Claims;
use e2e::provider::{self, PLATFORM, Provider};
use e2e::stack;
use futures::FutureExt as _;
use kube::Client;

use crate::Test;

/// Without an event for this long, two writers do not fight.
const PAUSE: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        (
            "binding::a_consumer_of_a_workspace_is_bound_and_heard",
            || a_consumer_of_a_workspace_is_bound_and_heard().boxed(),
        ),
        (
            "binding::a_consumer_of_a_cluster_is_bound_and_heard",
            || a_consumer_of_a_cluster_is_bound_and_heard().boxed(),
        ),
    ]
}

async fn a_consumer_of_a_workspace_is_bound_and_heard() -> Result<()> {
    let mut provider = Provider::start("heard", PLATFORM).await?;
    let tenant = provider.tenant("heard", Claims::All).await?;
    let admin = provider.kcp.client(&tenant.cluster).await?;
    let outcome = two_consumers(&admin, &tenant.cluster).await;
    outcome.map_err(|error| provider.backend.fail(format!("{error:#}")))?;
    provider.backend.stop().await
}

async fn a_consumer_of_a_cluster_is_bound_and_heard() -> Result<()> {
    let kubernetes = stack::kubernetes().await?;
    let flags = provider::install(&kubernetes, "heard-cluster").await?;
    let mut backend = Backend::start("heard-cluster", flags).await?;
    let outcome = two_consumers(&kubernetes.client().await?, "kubernetes").await;
    outcome.map_err(|error| backend.fail(format!("{error:#}")))?;
    backend.stop().await
}

/// Binds two consumers; each has its rights and not the other's, and the backend does not fight their heartbeats.
async fn two_consumers(admin: &Client, suffix: &str) -> Result<()> {
    let (one, two) = (format!("one-{suffix}"), format!("two-{suffix}"));
    let (one, two) = (Request::new(&one, &one), Request::new(&two, &two));
    let (one, two) = (
        binding::bind(admin, &one).await?,
        binding::bind(admin, &two).await?,
    );
    let namespaces: BTreeSet<_> = [&one, &two].map(|bound| bound.consumer.namespace()).into();
    ensure!(
        namespaces.len() == 2,
        "both consumers are in {namespaces:?}"
    );
    one.check_secret(admin).await?;
    two.check_secret(admin).await?;
    one.consumer
        .check_rights(&[two.consumer.namespace()])
        .await?;
    two.consumer
        .check_rights(&[one.consumer.namespace()])
        .await?;
    heartbeats(&one).await
}

async fn heartbeats(bound: &Bound) -> Result<()> {
    let consumer = &bound.consumer;
    let watches = consumer.open_watches().await?;
    consumer.check_stale_heartbeat().await?;
    watches.quiet(0, "ClusterBinding", PAUSE, DEADLINE).await?;
    let mark = watches.mark();
    consumer.heartbeat().await?;
    let events = watches
        .quiet(mark, "ClusterBinding", PAUSE, DEADLINE)
        .await?;
    // The heartbeat itself, and at most one answer of the backend.
    ensure!(
        events.len() <= 2,
        "{} events after one heartbeat",
        events.len()
    );
    consumer
        .check_conditions()
        .await
        .context("after a heartbeat")?;
    Ok(())
}
