//! Workspaces and consumers, and how long each step of a consumer takes, as a user sees it: on a watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::client::Access;
use e2e::kcp::{Claims, Workspace};
use e2e::object::{self, kube_bind};
use e2e::provider::{EXPORT, Provider};
use e2e::service::{self, Exported, GROUP, Source};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Setting;

/// Workspaces that are made at the same time: more only queue up in kcp.
pub(crate) const PARALLEL: usize = 8;
/// Requests of ours in flight at the same time. kcp turns writes away beyond 200, and one through a virtual workspace
/// counts twice.
pub(crate) const AT_ONCE: usize = 64;
pub(crate) const DEADLINE: Duration = Duration::from_mins(15);
/// The consumer's namespace that is synced first.
const TOWN: &str = "town";

/// A served workspace, with a watch of what users wait for.
pub(crate) struct Place {
    pub(crate) workspace: Workspace,
    pub(crate) admin: Client,
    binds: Board,
    exports: Board,
    namespaces: Board,
}

/// How long each step took.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) bind: Duration,
    pub(crate) export: Duration,
    pub(crate) namespace: Option<Duration>,
}

/// Objects of one kind in one workspace that have come to their end, with the time when that was seen.
pub(crate) struct Board {
    seen: watch::Receiver<HashMap<String, (Instant, DynamicObject)>>,
    task: JoinHandle<()>,
}

impl Drop for Board {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl Board {
    /// Watches a kind; `done` tells which objects have come to their end.
    pub(crate) async fn open(
        api: Api<DynamicObject>,
        done: fn(&DynamicObject) -> bool,
    ) -> Result<Self> {
        let (write, seen) = watch::channel(HashMap::new());
        let (ready, mut listed) = watch::channel(false);
        let events = watcher(api, watcher::Config::default());
        let task = tokio::spawn(async move {
            let mut events = events.boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))
                        if done(&object) =>
                    {
                        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                        let name = object.metadata.name.as_deref().unwrap_or_default();
                        let key = key(namespace, name);
                        write.send_modify(|seen: &mut HashMap<_, _>| {
                            seen.entry(key).or_insert((Instant::now(), object));
                        });
                    }
                    Ok(watcher::Event::InitDone) => {
                        ready.send_replace(true);
                    }
                    _ => {}
                }
            }
        });
        tokio::time::timeout(DEADLINE, listed.wait_for(|ready| *ready)).await??;
        Ok(Self { seen, task })
    }

    /// Waits for the end of an object that was created at this time.
    pub(crate) async fn end(
        &self,
        namespace: &str,
        name: &str,
        since: Instant,
    ) -> Result<(Duration, DynamicObject)> {
        let key = key(namespace, name);
        let mut seen = self.seen.clone();
        let wait = seen.wait_for(|seen| seen.contains_key(&key));
        let found = tokio::time::timeout(DEADLINE, wait)
            .await
            .with_context(|| format!("{key} did not come to an end within {DEADLINE:?}"))??;
        let (at, object) = found.get(&key).context("it was there")?;
        Ok((at.saturating_duration_since(since), object.clone()))
    }

    /// Waits until any object has come to its end.
    pub(crate) async fn first(&self, since: Instant) -> Result<Duration> {
        let mut seen = self.seen.clone();
        let wait = seen.wait_for(|seen| !seen.is_empty());
        let found = tokio::time::timeout(DEADLINE, wait)
            .await
            .with_context(|| format!("nothing came to an end within {DEADLINE:?}"))??;
        let at = found.values().map(|(at, _)| *at).min().context("there was one")?;
        Ok(at.saturating_duration_since(since))
    }
}

fn has_ended(object: &DynamicObject) -> bool {
    matches!(object.data["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn has_namespace(object: &DynamicObject) -> bool {
    object.data["status"]["namespace"].is_string()
}

impl Setting {
    /// Names it in JSON.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Namespaced => "namespaced",
        }
    }

    pub(crate) fn flags(self) -> [&'static str; 5] {
        let (source, prefix) = (Source::Schemas.flag(), "--namespace-prefix=kube-bind-");
        [self.scope(), "--isolation=Prefixed", source, prefix, service::BY_HAND]
    }

    pub(crate) fn scope(self) -> &'static str {
        match self {
            Self::Cluster => "--consumer-scope=cluster",
            Self::Namespaced => "--consumer-scope=namespaced",
        }
    }

    fn exported(self) -> Exported {
        match self {
            Self::Cluster => Exported::of(GROUP, service::Scope::Cluster),
            Self::Namespaced => Exported::of(GROUP, service::Scope::Namespaced),
        }
    }
}

/// The credential that the backend runs with, and the URL of the virtual workspace that it writes through.
pub(crate) async fn backend_access(provider: &Provider) -> Result<(Access, String)> {
    let endpoint = provider.kcp.endpoint_url(&provider.export.path, EXPORT).await?;
    Ok((provider.credential()?, endpoint))
}

/// Makes workspaces that are engaged.
pub(crate) async fn engage(provider: &Provider, count: usize) -> Result<Vec<Workspace>> {
    let made = stream::iter(0..count).map(|_| provider.tenant("tenant", Claims::All));
    made.buffer_unordered(PARALLEL).try_collect().await
}

/// Serves the API in each workspace, by an APIBinding of its own and a labelled copy of its schemas.
///
/// Copies are cheaper for kcp than CRDs: it serves one API for all bindings of an export, and a copy is only stored.
pub(crate) async fn serve(provider: &Provider, workspaces: Vec<Workspace>) -> Result<Vec<Place>> {
    let served = stream::iter(workspaces).map(|workspace| async move {
        provider.serve(&workspace, Source::Schemas).await?;
        let admin = provider.kcp.client(&workspace.cluster).await?;
        let all = |kind: &str| object::api(&admin, &kube_bind(kind), None);
        let binds = Board::open(all("BindableResourcesRequest"), has_ended).await?;
        let exports = Board::open(all("APIServiceExportRequest"), has_ended).await?;
        let namespaces = Board::open(all("APIServiceNamespace"), has_namespace).await?;
        anyhow::Ok(Place { workspace, admin, binds, exports, namespaces })
    });
    served.buffer_unordered(PARALLEL).try_collect().await
}

/// All consumers of all workspaces at once, as far as kcp lets them; the workspaces take turns.
pub(crate) async fn consumers(
    places: &Arc<Vec<Place>>,
    count: usize,
    setting: Setting,
) -> Result<Vec<Taken>> {
    let all = (0..count).flat_map(|index| places.iter().map(move |place| (place, index)));
    let all: Vec<_> = all.collect();
    let taken = stream::iter(all).map(|(place, index)| one(place, index, setting));
    taken.buffer_unordered(AT_ONCE).try_collect().await
}

/// Asks for a binding; gives the time before.
pub(crate) async fn ask(place: &Place, name: &str) -> Result<Instant> {
    let manifest = json!({
        "metadata": {"name": name},
        "spec": {
            "author": "bench",
            "clusterIdentity": {"identity": format!("{}-{name}", place.workspace.cluster)},
        },
    });
    let kind = kube_bind("BindableResourcesRequest");
    let since = Instant::now();
    object::create(&place.admin, &kind, Some("default"), manifest).await?;
    Ok(since)
}

/// Waits for a binding; gives what it took, and the contract namespace.
pub(crate) async fn bound(place: &Place, name: &str, since: Instant) -> Result<(Duration, String)> {
    let (taken, ended) = place.binds.end("default", name, since).await?;
    ensure!(ended.data["status"]["phase"] == "Succeeded", "{}", object::summary(&ended));
    let namespace = ended.data["status"]["namespace"].as_str().context("no namespace")?;
    Ok((taken, namespace.to_owned()))
}

async fn one(place: &Place, index: usize, setting: Setting) -> Result<Taken> {
    let name = format!("consumer-{index}");
    let since = ask(place, &name).await?;
    let (bind, namespace) = bound(place, &name, since).await?;
    let claims = match setting {
        Setting::Cluster => Vec::new(),
        Setting::Namespaced => vec![service::claim("secrets")],
    };
    let manifest = json!({
        "metadata": {"name": "herd"},
        "spec": service::request_spec(&[&setting.exported()], &claims),
    });
    let since = Instant::now();
    let kind = kube_bind("APIServiceExportRequest");
    object::create(&place.admin, &kind, Some(&namespace), manifest).await?;
    let (export, ended) = place.exports.end(&namespace, "herd", since).await?;
    ensure!(ended.data["status"]["phase"] == "Succeeded", "{}", object::summary(&ended));
    if setting == Setting::Cluster {
        return Ok(Taken { bind, export, namespace: None });
    }
    let exports = object::api(&place.admin, &kube_bind("APIServiceExport"), Some(&namespace));
    let owner = exports.get("herd").await?;
    let manifest = json!({
        "metadata": {"name": TOWN, "ownerReferences": [{
            "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceExport", "name": "herd",
            "uid": owner.metadata.uid, "controller": true, "blockOwnerDeletion": true,
        }]},
    });
    let since = Instant::now();
    let kind = kube_bind("APIServiceNamespace");
    object::create(&place.admin, &kind, Some(&namespace), manifest).await?;
    let (taken, _) = place.namespaces.end(&namespace, TOWN, since).await?;
    Ok(Taken { bind, export, namespace: Some(taken) })
}
