//! `kill -9` at every write of a consumer's life, and of what an APIBinding offers: the end state is that of an
//! undisturbed run.
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
use e2e::provider::{EXPORT, PLATFORM, Provider};
use e2e::service::Offer;
use e2e::snapshot::{self, Snapshot};
use e2e::stack;
use futures::FutureExt as _;
use futures::future::try_join_all;

use crate::Test;
use decoys::Decoys;
use scenario::{Scenario, Step};

/// Schedules that run at the same time, each with an export, a proxy and a backend of its own.
const LANES: usize = 4;

/// What is lived through, and with which flags.
struct Life {
    flags: &'static [&'static str],
    steps: &'static [Step],
    /// What belongs to all consumers of a workspace and stays when the last one goes.
    stays: Option<&'static str>,
    /// Whether the API comes by an APIBinding, instead of a CRD that is there from the beginning.
    is_bound: bool,
}

/// That of a consumer: CRDs as sources, and what keeps consumers apart.
const CONSUMER: Life = Life {
    flags: &[
        "--schema-source=customresourcedefinitions",
        "--consumer-scope=namespaced",
        "--isolation=Prefixed",
    ],
    steps: scenario::CONSUMER,
    stays: Some("ClusterRole /kube-binder"),
    is_bound: false,
};
/// That of an offer.
const OFFERED: Life =
    Life { flags: PLATFORM, steps: scenario::OFFERED, stays: None, is_bound: true };

/// How many writes a run may have less than the undisturbed one: two writes of a status in a row may become one.
const MERGED: usize = 2;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("crash::kill_9_at_any_write_changes_nothing_in_the_end", || {
            killed_at_any_write(&CONSUMER).boxed()
        }),
        ("crash::kill_9_at_any_write_of_an_offer_changes_nothing_in_the_end", || {
            killed_at_any_write(&OFFERED).boxed()
        }),
    ]
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
    life: &'static Life,
    offer: Option<Offer>,
    provider: Provider,
    proxy: FaultProxy,
    ended: Vec<Ended>,
}

impl Lane {
    async fn start(life: &'static Life, offer: Option<Offer>) -> Result<Self> {
        let (provider, proxy) = Provider::start_proxied("crash", life.flags).await?;
        Ok(Self { life, offer, provider, proxy, ended: Vec::new() })
    }

    fn kcp(&self) -> &Kcp {
        &self.provider.kcp
    }

    fn place<'a>(&'a self, workspace: &'a Workspace) -> Place<'a> {
        let Self { life, offer, proxy, provider, .. } = self;
        let Provider { kcp, export, .. } = provider;
        Place { life, offer: offer.as_ref(), kcp, export, proxy, workspace }
    }

    /// A workspace with decoys that the backend does not serve yet.
    async fn workspace(&self) -> Result<Ended> {
        let workspace = self.kcp().create_workspace("root", &stack::unique("crash")).await?;
        let admin = self.kcp().access(&workspace.cluster)?.client(client::ADMIN).await?;
        if self.offer.is_none() {
            scenario::prepare(&admin).await?;
        }
        Ok(Ended { decoys: Decoys::seed(&admin).await?, workspace })
    }

    /// The run without a fault: what its checkpoints see, and its writes.
    async fn undisturbed(&mut self) -> Result<(Vec<Snapshot>, Vec<Logged>)> {
        let new = self.workspace().await?;
        let seen = live(&self.place(&new.workspace), None).await?;
        let mut writes = self.proxy.writes(&within(&new.workspace));
        // kcp may refuse the first ones, and need not in the runs that follow.
        writes.retain(|write| write.code.is_some_and(|code| code < 300));
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
        let Self { life, offer, proxy, provider, .. } = self;
        let Provider { kcp, export, backend, .. } = provider;
        let strike = proxy.arm(&within(workspace), schedule.nth, Fault::Cut(schedule.side));
        let place = Place { life, offer: offer.as_ref(), kcp, export, proxy, workspace };
        let mut life = pin!(live(&place, Some(expected)));
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
            Scenario::new(&self.place(workspace), None).await?.still(end).await?;
            let admin = self.kcp().access(&workspace.cluster)?.client(client::ADMIN).await?;
            let writes = self.proxy.writes(&within(workspace));
            decoys.untouched(&admin, &writes).await.with_context(|| workspace.path.clone())?;
        }
        Ok(())
    }
}

/// Where a life takes place.
struct Place<'a> {
    life: &'static Life,
    offer: Option<&'a Offer>,
    kcp: &'a Kcp,
    export: &'a Workspace,
    proxy: &'a FaultProxy,
    workspace: &'a Workspace,
}

/// Binds the export, which is the first that the backend hears of the workspace, and lives a life there.
async fn live(place: &Place<'_>, expected: Option<&[Snapshot]>) -> Result<Vec<Snapshot>> {
    place.kcp.bind_export(place.workspace, &place.export.path, EXPORT, Claims::All).await?;
    Scenario::new(place, expected).await?.run(place.life.steps).await
}

async fn killed_at_any_write(life: &'static Life) -> Result<()> {
    let offer = if life.is_bound { Some(scenario::offer().await?) } else { None };
    let mut lanes = try_join_all((0..LANES).map(|_| Lane::start(life, offer.clone()))).await?;
    let (seen, writes) = lanes[0].undisturbed().await?;
    let (mut start, end) = (seen.first().context("none")?.clone(), seen.last().context("none")?);
    if let Some(stays) = life.stays {
        let object = end.get(stays).with_context(|| format!("no {stays}"))?;
        start.insert(stays.to_owned(), object.clone());
    }
    if let Some(text) = snapshot::difference(&start, end) {
        bail!("something is left behind in the end:\n{text}");
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
