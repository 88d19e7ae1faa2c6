//! Several shards: what one does must not depend on the others, and no object is taken for deleted because a shard, an
//! endpoint or the way to it is away.

mod clock;
mod hangs;
mod looked;
mod partitions;
mod proxied;
mod two;

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::audit::{self, Audit, Filter, Mark};
use e2e::binding::{self, Bound, Request};
use e2e::driver::Settings;
use e2e::kcp::{Claims, Workspace};
use e2e::provider::{EXPORT, Provider};
use e2e::service::{Exported, GROUP, Source};
use e2e::shards::Shard;
use e2e::snapshot::{self, Snapshot};
use e2e::wait::SOON;
use kube::Client;

use crate::Test;

/// What it may take until a shard is served again that is ready, or goes on. The aim is 2 s; kcp may answer 404 and 500 for
/// longer.
const BACK: Duration = Duration::from_secs(30);
/// Longer than any pause of ours between two writes.
const QUIET: Duration = Duration::from_secs(5);

pub(crate) fn tests() -> Vec<Test> {
    [two::tests(), partitions::tests(), hangs::tests(), looked::tests(), proxied::tests()].concat()
}

/// The flags for a provider of exports, each consumer for itself.
fn flags() -> [String; 3] {
    let [scope, isolation] = Settings::APART.flags();
    [scope, isolation, Source::Crds.flag().to_owned()]
}

/// The URL of the virtual workspace of an export on a shard.
fn endpoint(shard: Shard, export: &Workspace) -> String {
    format!("{}/services/apiexport/{}/{EXPORT}", shard.url(), export.cluster)
}

/// A consumer in the middle of its life: bound, with an export and a service namespace, which are what would be deleted
/// after it.
async fn settle(admin: &Client, name: &str) -> Result<Bound> {
    let bound = binding::bind(admin, &Request::new(name, name)).await?;
    let exported = Exported::of(GROUP, Settings::APART.resource);
    let usage = bound.consumer.take_up("herd", Settings::APART, &exported, &[]).await?;
    usage.service_namespace("town").await?;
    Ok(bound)
}

/// Everything in a workspace that the backend deals with, once it has nothing more to do there.
async fn settled(log: &Audit, workspace: &Workspace, admin: &Client) -> Result<Snapshot> {
    let ours = Filter::backend().cluster(&workspace.cluster);
    log.quiet(Mark::START, &ours, QUIET, SOON, |_| false).await?;
    let kinds = snapshot::kinds(admin).await?;
    snapshot::take(admin, &kinds, &[]).await
}

/// Nothing came, went or became another since `before`.
fn unchanged(before: &Snapshot, after: &Snapshot) -> Result<()> {
    let difference = snapshot::difference(before, after);
    ensure!(difference.is_none(), "the workspace changed:\n{}", difference.unwrap_or_default());
    Ok(())
}

/// The backends have deleted nothing in these clusters.
fn nothing_deleted(log: &Audit, clusters: &[&Workspace]) -> Result<()> {
    for workspace in clusters {
        let ours = Filter::backend().cluster(&workspace.cluster);
        let mut deletes = log.requests(Mark::START, &ours)?;
        ensure!(!deletes.is_empty(), "the log has no request of ours in {}", workspace.path);
        deletes.retain(|request| request.verb.starts_with("delete"));
        ensure!(deletes.is_empty(), "deleted:\n{}", audit::listing(&deletes));
    }
    Ok(())
}

/// A workspace of a provider on one shard, with an API to export.
async fn offering(provider: &Provider, name: &str) -> Result<Workspace> {
    let workspace = provider.tenant(name, Claims::All).await?;
    provider.serve(&workspace, Source::Crds).await?;
    Ok(workspace)
}
