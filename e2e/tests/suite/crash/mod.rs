//! `kill -9` at every write of a consumer's life: the end state is that of an undisturbed run.
//!
//! The writes of one undisturbed run are counted, from the first in a new workspace to the last clean-up. Then each
//! write gets a run of its own, in a workspace of its own: when the n-th write arrives at the proxy it is lost before or
//! after its effect, nothing later reaches the server, the backend is killed with SIGKILL and started again.
//!
//! Without more, each n is tried on one side, odd ones before and even ones after their effect. `CRASH=all` in the
//! environment tries both sides of all. A bind with both sides takes 2.5 minutes on two cores, starting kcp included;
//! most of a schedule is kcp's 5 s for the end of a namespace, so that lanes are cheap.

mod decoys;
mod scenario;

use std::collections::VecDeque;
use std::env;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::client;
use e2e::faultproxy::{Fault, FaultProxy, Logged, Side, listing};
use e2e::kcp::{Claims, Kcp, Workspace};
use e2e::provider::{EXPORT, Provider};
use e2e::snapshot::{self, Snapshot};
use e2e::stack;
use futures::FutureExt as _;
use futures::future::try_join_all;

use crate::Test;
use decoys::Decoys;
use scenario::{Scenario, Step};

/// Schedules that run at the same time, each with an export, a proxy and a backend of its own.
const LANES: usize = 4;
/// CRDs as sources, and what keeps consumers apart.
const FLAGS: &[&str] = &[
    "--schema-source=customresourcedefinitions",
    "--consumer-scope=namespaced",
    "--isolation=Prefixed",
];
/// How many writes a run may have less than the undisturbed one: two writes of a status in a row may become one, and kcp
/// refuses the first `Cluster` of a workspace when it has not applied the claims yet.
const MERGED: usize = 2;
/// What belongs to all consumers of a workspace and stays when the last one goes.
const SHARED: &str = "ClusterRole /kube-binder";
/// Whether the backend under test serves exports.
const EXPORTS_ARE_SERVED: bool = true;
const STEPS: &[Step] = if EXPORTS_ARE_SERVED { scenario::EXPORTS } else { scenario::BIND };

pub(crate) fn tests() -> Vec<Test> {
    vec![("crash::kill_9_at_any_write_changes_nothing_in_the_end", || {
        killed_at_any_write().boxed()
    })]
}

/// What the path of each request to a workspace contains.
fn within(workspace: &Workspace) -> String {
    format!("/clusters/{}/", workspace.cluster)
}

/// Which write of a run is the last that the backend makes in its first life.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    nth: usize,
    side: Side,
}

fn schedules(writes: usize) -> VecDeque<Schedule> {
    let both = env::var_os("CRASH").is_some_and(|value| value == "all");
    let sides = |nth: usize| match (both, nth % 2) {
        (true, _) => vec![Side::Before, Side::After],
        (false, 1) => vec![Side::Before],
        (false, _) => vec![Side::After],
    };
    (1..=writes)
        .flat_map(|nth| sides(nth).into_iter().map(move |side| Schedule { nth, side }))
        .collect()
}

/// A workspace in which a life has ended.
struct Ended {
    workspace: Workspace,
    decoys: Decoys,
}

/// An export with a proxy and a backend, in which one schedule after the other runs.
struct Lane {
    provider: Provider,
    proxy: FaultProxy,
    ended: Vec<Ended>,
}

impl Lane {
    async fn start() -> Result<Self> {
        let (provider, proxy) = Provider::start_proxied("crash", FLAGS).await?;
        Ok(Self { provider, proxy, ended: Vec::new() })
    }

    fn kcp(&self) -> &Kcp {
        &self.provider.kcp
    }

    /// A workspace with decoys that the backend does not serve yet.
    async fn workspace(&self) -> Result<Ended> {
        let workspace = self.kcp().create_workspace("root", &stack::unique("crash")).await?;
        let admin = self.kcp().access(&workspace.cluster)?.client(client::ADMIN).await?;
        scenario::prepare(&admin).await?;
        Ok(Ended { decoys: Decoys::seed(&admin).await?, workspace })
    }

    /// Binds the export, which is the first that the backend hears of the workspace, and lives a life there.
    async fn live(
        kcp: &Kcp,
        provider: &str,
        proxy: &FaultProxy,
        workspace: &Workspace,
        expected: Option<&[Snapshot]>,
    ) -> Result<Vec<Snapshot>> {
        kcp.bind_export(workspace, provider, EXPORT, Claims::All).await?;
        Scenario::new(kcp, proxy, workspace, expected).await?.run(STEPS).await
    }

    /// The run without a fault: what its checkpoints see, and its writes.
    async fn undisturbed(&mut self) -> Result<(Vec<Snapshot>, Vec<Logged>)> {
        let new = self.workspace().await?;
        let path = &self.provider.export.path;
        let seen = Self::live(self.kcp(), path, &self.proxy, &new.workspace, None).await?;
        let writes = self.proxy.writes(&within(&new.workspace));
        self.ended.push(new);
        Ok((seen, writes))
    }

    /// A run in which the backend is killed once; gives the request at which it was.
    async fn disturbed(
        &mut self,
        schedule: Schedule,
        expected: &[Snapshot],
    ) -> Result<Option<Logged>> {
        let new = self.workspace().await?;
        let (seen, struck) = self.killed_once(schedule, &new.workspace, expected).await?;
        self.proxy.reset();
        if let Err(error) = seen {
            let struck = struck.as_slice();
            let writes = self.proxy.writes(&within(&new.workspace));
            return Err(self.provider.backend.fail(format!(
                "{schedule:?}: {error:#}\nkilled at:\n{}all writes:\n{}",
                listing(struck),
                listing(&writes),
            )));
        }
        self.ended.push(new);
        Ok(struck)
    }

    /// A life and, in the middle of it, the end of the backend and its restart.
    async fn killed_once(
        &mut self,
        schedule: Schedule,
        workspace: &Workspace,
        expected: &[Snapshot],
    ) -> Result<(Result<Vec<Snapshot>>, Option<Logged>)> {
        let (proxy, Provider { kcp, export, backend, .. }) = (&self.proxy, &mut self.provider);
        let strike = proxy.arm(&within(workspace), schedule.nth, Fault::Cut(schedule.side));
        let mut life = pin!(Self::live(kcp, &export.path, proxy, workspace, Some(expected)));
        tokio::select! {
            biased;
            struck = strike => {
                let restart = async {
                    backend.kill().await?;
                    proxy.reset();
                    backend.restart().await
                };
                let (seen, restarted) = futures::join!(life, restart);
                restarted.with_context(|| format!("the restart of {schedule:?}"))?;
                Ok((seen, Some(struck?)))
            }
            seen = &mut life => Ok((seen, None)),
        }
    }

    /// Nothing has changed in any workspace since its life ended, and nobody else's objects ever.
    async fn check_ended(&self, end: &Snapshot) -> Result<()> {
        for Ended { workspace, decoys } in &self.ended {
            Scenario::new(self.kcp(), &self.proxy, workspace, None).await?.still(end).await?;
            let admin = self.kcp().access(&workspace.cluster)?.client(client::ADMIN).await?;
            let writes = self.proxy.writes(&within(workspace));
            decoys.untouched(&admin, &writes).await.with_context(|| workspace.path.clone())?;
        }
        Ok(())
    }
}

async fn killed_at_any_write() -> Result<()> {
    let mut lanes = try_join_all((0..LANES).map(|_| Lane::start())).await?;
    let (seen, writes) = lanes[0].undisturbed().await?;
    let (mut start, end) = (seen.first().context("none")?.clone(), seen.last().context("none")?);
    let shared = end.get(SHARED).with_context(|| format!("no {SHARED}"))?;
    start.insert(SHARED.to_owned(), shared.clone());
    if let Some(text) = snapshot::difference(&start, end) {
        bail!("a consumer that is gone leaves something behind:\n{text}");
    }
    eprintln!("writes of an undisturbed run: {}\n{}", writes.len(), listing(&writes));

    let left = Mutex::new(schedules(writes.len()));
    let missed = Mutex::new(Vec::new());
    try_join_all(lanes.iter_mut().map(async |lane| {
        loop {
            let next = taken(&left).pop_front();
            let Some(schedule) = next else { break };
            let struck = lane.disturbed(schedule, &seen).await?;
            if struck.is_none() {
                taken(&missed).push(schedule);
            }
        }
        anyhow::Ok(())
    }))
    .await?;
    try_join_all(lanes.iter().map(|lane| lane.check_ended(end))).await?;
    let mut missed = std::mem::take(&mut *taken(&missed));
    missed.retain(|schedule: &Schedule| schedule.nth + MERGED <= writes.len());
    ensure!(missed.is_empty(), "these writes never came: {missed:?}");
    Ok(())
}

fn taken<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
