//! On a real kcp with two shards. The export is in a workspace of the root shard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::binding::{self, Request};
use e2e::client;
use e2e::driver::Settings;
use e2e::kcp::{Claims, Workspace};
use e2e::object::{self, core, endpoint_slices, kube_bind, rbac};
use e2e::provider::{self, EXPORT, Provider};
use e2e::service::{Exported, GROUP, Offer, Scope, Source};
use e2e::shards::{Shard, Shards, USER};
use e2e::wait::{SOON, eventually};
use e2e::{dirs, stack};
use futures::FutureExt as _;
use kube::Client;
use kube::api::ListParams;
use serde_json::json;
use tokio::try_join;

use super::clock::Clock;
use super::{BACK, endpoint, flags, nothing_deleted, settle, settled, unchanged};
use crate::Test;

/// What a workspace may wait to be engaged once its endpoint serves it. The aim is 2 s; other tests use the machine too.
const ENGAGED: Duration = Duration::from_secs(5);
/// What a bind may cost while another shard is down, as a multiple of before. The aim is 1.2; what other tests do at the
/// same time is not wholly in what it is compared with. Whoever waits for the dead shard waits for seconds.
const SLOWER: f64 = 3.0;

/// The group of an API that comes from the shard without the export.
const LATE: &str = "late.wildwest.dev";

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("shards::workspaces_on_two_shards_are_engaged_soon_and_binds_work_on_both", || {
            both().boxed()
        }),
        (
            "shards::what_is_bound_is_offered_on_both_and_without_the_shard_of_the_export_too",
            || offered().boxed(),
        ),
        (
            "shards::a_shard_that_is_killed_stops_its_own_workspaces_only_and_they_keep_every_object",
            || one_killed().boxed(),
        ),
        (
            "shards::without_the_shard_of_the_export_a_start_serves_the_endpoints_that_are_stored",
            || home_down().boxed(),
        ),
    ]
}

/// An export on the root shard; gives the flags for a backend.
pub(super) async fn export(kcp: &Shards, name: &str) -> Result<(Workspace, Vec<String>)> {
    kcp.create_workspace_in(Shard::Root.region(), "root", name).await?;
    let (export, base) = provider::init(kcp, name).await?;
    Ok((export, base.into_iter().chain(flags()).collect()))
}

pub(super) async fn start(
    kcp: &Arc<Shards>,
    name: &str,
    more: &[String],
) -> Result<Provider<Shards>> {
    let name = stack::unique(name);
    let (export, flags) = export(kcp, &name).await?;
    start_with(kcp, &name, export, [&flags, more].concat()).await
}

async fn start_with(
    kcp: &Arc<Shards>,
    name: &str,
    export: Workspace,
    flags: Vec<String>,
) -> Result<Provider<Shards>> {
    let backend = Backend::start(&format!("{name}-backend"), flags.clone()).await?;
    Ok(Provider::of(Arc::clone(kcp), export, flags, backend))
}

/// As [`start`], but the backend is [`USER`], who may do what the service account of `init` may. A service account is
/// accepted only while the shard of its workspace answers or has answered within a minute: the other shard asks it for the
/// account and its Secret. So a backend with the credential of `init` is refused there after a minute without the shard of
/// the export, unless kcp runs with `--service-account-lookup=false`. Each shard knows a user by itself; RBAC of the
/// export's workspace is known there through the cache server.
async fn start_as_user(kcp: &Arc<Shards>, name: &str, more: &[String]) -> Result<Provider<Shards>> {
    let name = stack::unique(name);
    let (export, mut flags) = export(kcp, &name).await?;
    grant(kcp, &export).await?;
    let file = dirs::run()?.join(format!("{name}-user.kubeconfig"));
    kcp.user(&export.path).write(&file)?;
    flags.push(format!("--kubeconfig={}", file.display()));
    start_with(kcp, &name, export, [&flags, more].concat()).await
}

/// A workspace on a shard that is served and offers an API, and an admin client for it.
pub(super) async fn tenant(
    provider: &Provider<Shards>,
    shard: Shard,
) -> Result<(Workspace, Client)> {
    let (workspace, admin) = bound(provider, shard).await?;
    provider.serve(&workspace, Source::Crds).await?;
    // Which fails on another shard.
    object::api(&admin, &kube_bind("Cluster"), None).get("default").await?;
    Ok((workspace, admin))
}

/// A workspace on a shard that is served, and an admin client that asks this shard.
async fn bound(provider: &Provider<Shards>, shard: Shard) -> Result<(Workspace, Client)> {
    let (kcp, name) = (&provider.kcp, stack::unique("tenant"));
    let workspace = kcp.create_workspace_in(shard.region(), "root", &name).await?;
    provider.bind(&workspace, Claims::All).await?;
    let admin = kcp.direct(shard, &workspace.cluster).await?;
    Ok((workspace, admin))
}

/// When the slice had an endpoint of a shard, seen every 100 ms.
async fn published(kcp: &Shards, export: &Workspace, shard: Shard) -> Result<Instant> {
    let api = object::api(&kcp.client(&export.path).await?, &endpoint_slices(), None);
    eventually("an endpoint of the shard", SOON, async || {
        let slice = api.get(EXPORT).await.map_err(|error| error.to_string())?;
        let endpoints = slice.data["status"]["endpoints"].as_array().cloned().unwrap_or_default();
        let of_shard = |url: &str| url.starts_with(shard.url());
        let found = endpoints.iter().any(|endpoint| endpoint["url"].as_str().is_some_and(of_shard));
        if found { Ok(Instant::now()) } else { Err(object::summary(&slice)) }
    })
    .await
}

/// When the endpoint of a shard served a workspace to the backend's own credential, a kind of ours and one that is claimed,
/// seen every 100 ms. In the first seconds kcp answers 404.
async fn served(
    provider: &Provider<Shards>,
    shard: Shard,
    workspace: &Workspace,
) -> Result<Instant> {
    let url = format!("{}/clusters/{}", endpoint(shard, &provider.export), workspace.cluster);
    let client = provider.credential()?.at(url).client(client::ADMIN).await?;
    let kinds = [kube_bind("Cluster"), core("Secret")];
    eventually("the endpoint to serve", SOON, async || {
        for kind in &kinds {
            object::api(&client, kind, None).list(&ListParams::default()).await?;
        }
        Ok::<_, kube::Error>(Instant::now())
    })
    .await
}

/// When the backend had a workspace and everything behind the endpoint of its shard, seen every 100 ms.
async fn engaged(
    provider: &Provider<Shards>,
    shard: Shard,
    workspace: &Workspace,
) -> Result<Instant> {
    let cluster = format!("cluster engaged cluster={} ", workspace.cluster);
    let endpoint = format!("endpoint is ready endpoint={}/", shard.url());
    eventually("the backend to have the workspace", SOON, async || {
        let output = provider.backend.output().map_err(|error| error.to_string())?;
        let missing = [&cluster, &endpoint].into_iter().find(|text| !output.contains(*text));
        missing.map_or(Ok(Instant::now()), |text| Err(format!("not said: {text}")))
    })
    .await
}

async fn both() -> Result<()> {
    let kcp = stack::shards().await?;
    let _turn = kcp.turn().await?;
    let front = format!("--external-address={}", kcp.url());
    let provider = start(&kcp, "both", &[front]).await?;
    let (first, admin) = tenant(&provider, Shard::Root).await?;
    binding::bind(&admin, &Request::new("root", "root")).await?.consumer.heartbeat().await?;

    for which in ["the first workspace of a shard", "a further one"] {
        let name = stack::unique("second");
        let region = Shard::Second.region();
        let workspace = kcp.create_workspace_in(region, "root", &name).await?;
        let admin = kcp.direct(Shard::Second, &workspace.cluster).await?;
        let bound = async {
            let path = &provider.export.path;
            kcp.bind_export(&workspace, path, EXPORT, Claims::All).await?;
            anyhow::Ok(Instant::now())
        };
        // kcp may take seconds for the first object of a kind in a workspace.
        let made = async {
            let clusters = object::api(&admin, &kube_bind("Cluster"), None);
            eventually("its Cluster", SOON, async || clusters.get("default").await).await?;
            anyhow::Ok(Instant::now())
        };
        let published = published(&kcp, &provider.export, Shard::Second);
        let served = served(&provider, Shard::Second, &workspace);
        let engaged = engaged(&provider, Shard::Second, &workspace);
        let (bound, published, served, engaged, made) =
            try_join!(bound, published, served, engaged, made)
                .map_err(|error| provider.backend.fail(format!("{error:#}")))?;
        let known = bound.max(published);
        let [since_known, serving, made] =
            [engaged, served, made].map(|at| at.saturating_duration_since(known));
        let engaged = engaged.saturating_duration_since(known.max(served));
        eprintln!(
            "shards: after {which} was bound and its endpoint published, it was served after {serving:?}, engaged after \
             {since_known:?}, and had its Cluster after {made:?}"
        );
        ensure!(engaged <= ENGAGED, "{which} was engaged {engaged:?} after it was served");

        let bound = binding::bind(&admin, &Request::new("second", "second")).await?;
        bound.consumer.heartbeat().await?;
        let url = bound.consumer.server();
        ensure!(url == format!("{}/clusters/{}", kcp.url(), workspace.cluster), "{url}");
        nothing_deleted(&kcp.audit(Shard::Second), &[&workspace])?;
    }
    nothing_deleted(&kcp.audit(Shard::Root), &[&first])
}

/// The schema of an API is read through the shard of each workspace, and no flag says where consumers reach kcp.
async fn offered() -> Result<()> {
    let kcp = stack::shards().await?;
    let _turn = kcp.turn().await?;
    let source = Source::Bindings.flag().to_owned();
    let mut provider = start_as_user(&kcp, "offered", &[source]).await?;
    let outcome = offers(&kcp, &provider).await;
    outcome.map_err(|error| provider.backend.fail(format!("{error:#}")))?;
    provider.backend.stop().await
}

async fn offers(kcp: &Shards, provider: &Provider<Shards>) -> Result<()> {
    let offer = Offer::wild_west(kcp, "root").await?;
    let name = stack::unique("late-provider");
    let other = kcp.create_workspace_in(Shard::Second.region(), "root", &name).await?;
    let crds = Exported::all(LATE).iter().map(Exported::crd).collect();
    let late = Offer::create_in(kcp, &other, crds).await?;
    let mut tenants = Vec::new();
    for shard in [Shard::Root, Shard::Second] {
        let (workspace, admin) = bound(provider, shard).await?;
        consume(kcp, &offer, GROUP, &workspace, &admin).await?;
        tenants.push((workspace, admin));
    }
    // What a workspace binds is offered while the shard of the export is down, too.
    let [(home, home_admin), (second, second_admin)] = &tenants[..] else {
        anyhow::bail!("two shards, and {} workspaces", tenants.len());
    };
    let objects = settled(&kcp.audit(Shard::Root), home, home_admin).await?;
    kcp.kill(Shard::Root).await?;
    consume(kcp, &late, LATE, second, second_admin).await.context("without the export's shard")?;
    kcp.resume(Shard::Root).await?;
    provider.backend.ready().await?;
    unchanged(&objects, &settled(&kcp.audit(Shard::Root), home, home_admin).await?)?;
    binding::bind(home_admin, &Request::new("after", "after")).await?;
    nothing_deleted(&kcp.audit(Shard::Root), &[home])?;
    nothing_deleted(&kcp.audit(Shard::Second), &[second])
}

/// Binds an API of this group in a workspace, and a consumer to the template that comes of it.
async fn consume(
    kcp: &Shards,
    offer: &Offer,
    group: &str,
    workspace: &Workspace,
    admin: &Client,
) -> Result<()> {
    offer.serve(kcp, workspace).await?;
    let template = format!("{group}-namespaced");
    let templates = object::api(admin, &kube_bind("APIServiceExportTemplate"), None);
    let what = format!("template {template} in {}", workspace.path);
    object::wait_for(&templates, &template, &what, SOON, |_| Ok(())).await?;
    let request = Request { template: Some(&template), ..Request::new(group, group) };
    let bound = binding::bind(admin, &request).await?;
    let server = bound.consumer.server();
    ensure!(server == format!("{}/clusters/{}", kcp.url(), workspace.cluster), "{server}");
    let cowboys = Exported::of(group, Scope::Namespaced);
    let cow = bound.consumer.take_up("cow", Settings::APART, &cowboys, &[]).await?;
    cow.service_namespace("wild-west").await.map(drop)
}

async fn one_killed() -> Result<()> {
    let kcp = stack::shards().await?;
    let _turn = kcp.turn().await?;
    let provider = start(&kcp, "killed", &[]).await?;
    let (alive, admin) = tenant(&provider, Shard::Root).await?;
    let (dead, dead_admin) = tenant(&provider, Shard::Second).await?;
    let kept = settle(&dead_admin, "kept").await?;
    let objects = settled(&kcp.audit(Shard::Second), &dead, &dead_admin).await?;
    let clock = Clock::open(&admin).await?;
    let before = clock.typical().await?;

    kcp.kill(Shard::Second).await?;
    let first = clock.bind().await?;
    eventually("/readyz to name the endpoint", SOON, async || {
        match provider.backend.get("/readyz").await {
            Ok((200, body)) if body.contains(Shard::Second.url()) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let during = clock.typical().await?;
    let ratio = during.over_raw / before.over_raw;
    eprintln!(
        "shards: a bind took {:?}, {first:?} at once after the other shard was killed, {:?} while it was down: {ratio:.2} \
         times as long as before, each over raw requests beside it",
        before.time, during.time
    );
    ensure!(
        ratio < SLOWER,
        "{ratio:.2} times as long: {before:?}, and {during:?} beside a dead shard"
    );

    kcp.resume(Shard::Second).await?;
    let began = Instant::now();
    provider.backend.ready().await?;
    let back = began.elapsed();
    eprintln!("shards: a shard that came back was served after {back:?}");
    ensure!(back < BACK, "a shard that came back was served after {back:?}");
    unchanged(&objects, &settled(&kcp.audit(Shard::Second), &dead, &dead_admin).await?)?;
    let again = binding::bind(&dead_admin, &Request::new("again", "kept")).await?;
    ensure!(again.kubeconfig == kept.kubeconfig, "the outage changed a credential");
    again.consumer.heartbeat().await?;
    binding::bind(&dead_admin, &Request::new("after", "after")).await?;
    nothing_deleted(&kcp.audit(Shard::Root), &[&alive])?;
    nothing_deleted(&kcp.audit(Shard::Second), &[&dead])
}

/// Lets [`USER`] do what the service account of `init` may.
async fn grant(kcp: &Shards, export: &Workspace) -> Result<()> {
    let admin = kcp.client(&export.path).await?;
    let group = "rbac.authorization.k8s.io";
    let manifest = json!({
        "metadata": {"name": "kube-bind-backend-user"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "kube-bind-backend"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
    });
    object::create(&admin, &rbac("ClusterRoleBinding"), None, manifest).await.map(drop)
}

/// With the root shard kcp 0.31 loses more than the workspaces there, of which the backend depends on nothing:
/// - No workspace directly under `root` can be made or deleted; below those of another shard they can.
/// - The front proxy answers 502 for workspaces of that shard, and leads to the others as long as it runs.
/// - A service account of the export's workspace is refused (see [`start_as_user`]).
async fn home_down() -> Result<()> {
    let kcp = stack::shards().await?;
    let _turn = kcp.turn().await?;
    let name = stack::unique("home");
    let state = dirs::fresh(&format!("{name}-state"))?;
    let store = format!("--state-dir={}", state.display());
    let mut provider = start_as_user(&kcp, &name, std::slice::from_ref(&store)).await?;
    let stored = provider.flags.clone();
    let flags: Vec<String> = stored.iter().filter(|flag| **flag != store).cloned().collect();
    let (home, home_admin) = tenant(&provider, Shard::Root).await?;
    let (other, other_admin) = tenant(&provider, Shard::Second).await?;
    settle(&home_admin, "kept").await?;
    let kept = settle(&other_admin, "kept").await?;
    eventually("both endpoints to be stored", SOON, async || {
        let text = std::fs::read_to_string(state.join("endpoints.json"))
            .map_err(|error| error.to_string())?;
        let both = [Shard::Root, Shard::Second].iter().all(|shard| text.contains(shard.url()));
        if both { Ok(()) } else { Err(text) }
    })
    .await?;
    let objects = [
        settled(&kcp.audit(Shard::Root), &home, &home_admin).await?,
        settled(&kcp.audit(Shard::Second), &other, &other_admin).await?,
    ];
    provider.backend.stop().await?;
    kcp.kill(Shard::Root).await?;

    let path = format!("/clusters/{}", provider.export.path);
    let bare = Backend::launch(&format!("{name}-bare"), flags).await?;
    let says = async |backend: &Backend, code: u16, expected: &str| -> Result<()> {
        let what = format!("/readyz to name {expected:?}");
        let said = eventually(&what, SOON, async || match backend.get("/readyz").await {
            Ok((is, body)) if is == code && body.contains(&path) && body.contains(expected) => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        });
        said.await.map_err(|error| backend.fail(format!("{error:#}")))
    };
    says(&bare, 503, "check that kcp runs with all its shards").await?;
    ensure!(!bare.output()?.contains("endpoint added"), "{}", bare.output()?);
    drop(bare);

    let backend = Backend::launch(&format!("{name}-stored"), stored).await?;
    let during = async {
        let again = binding::bind(&other_admin, &Request::new("again", "kept")).await?;
        ensure!(again.kubeconfig == kept.kubeconfig, "the restart changed a credential");
        let new = binding::bind(&other_admin, &Request::new("during", "during")).await?;
        new.consumer.heartbeat().await?;
        let expected = format!("{}/clusters/{}", kcp.url(), other.cluster);
        ensure!(new.consumer.server() == expected, "{}", new.consumer.server());
        anyhow::Ok(())
    };
    during.await.map_err(|error| backend.fail(format!("{error:#}")))?;
    says(&backend, 200, "the endpoints stored in").await?;

    kcp.resume(Shard::Root).await?;
    backend.ready().await?;
    unchanged(&objects[0], &settled(&kcp.audit(Shard::Root), &home, &home_admin).await?)?;
    binding::bind(&home_admin, &Request::new("after", "after")).await?;
    nothing_deleted(&kcp.audit(Shard::Root), &[&home])?;
    nothing_deleted(&kcp.audit(Shard::Second), &[&other])
}
