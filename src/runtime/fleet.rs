//! Endpoints as a reconciled set, and which logical clusters are engaged through them.
//!
//! A provider says which endpoints there are and which clusters are served. For each endpoint the
//! fleet runs one list+watch per kind. An endpoint that the provider no longer names is held for
//! [`HOLD`] first: a missing URL is a hiccup of a cache server more often than the end of a shard,
//! and it never means that an object was deleted.

mod endpoints;
mod readiness;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cache::Scope;
use super::cluster::{ClusterId, ObjKey};
use super::endpoint::{Endpoint, EndpointId, EndpointSpec};
use super::health::Health;
use super::metrics::Metrics;
use super::tasks::Tasks;

pub use self::endpoints::HOLD;
pub use self::readiness::Readiness;

/// One kind's list+watch, as the fleet sees it.
pub trait Source: Send + Sync {
    /// The kind, for people and metrics.
    fn name(&self) -> &'static str;
    /// Watches through an endpoint until the future is dropped.
    fn watch(self: Arc<Self>, fleet: Arc<Fleet>, endpoint: Arc<Endpoint>)
    -> BoxFuture<'static, ()>;
    /// Whether the kind was listed once through the endpoint.
    fn synced(&self, endpoint: EndpointId) -> bool;
    /// Whether the server ever listed the kind through the endpoint: one that does not serve it is not waited for.
    fn listed(&self, endpoint: EndpointId) -> bool;
    /// The objects that could not be decoded.
    fn unreadable(&self, endpoint: EndpointId) -> Vec<ObjKey>;
    /// Drops what is known through an endpoint.
    fn forget(&self, endpoint: EndpointId);
}

/// What a provider knows about an engaged cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterInfo {
    /// A name for people, such as a workspace path.
    pub path: Option<String>,
    /// The cluster, or what binds us to it, is being deleted: write and delete nothing there.
    pub leaving: bool,
    /// What the cluster does not let us do, each with a text for people; sorted.
    pub missing: Vec<String>,
    /// What nobody asked it to let us do, likewise.
    pub unasked: Vec<String>,
    /// What grants it, for people: the name of an object in the cluster; empty where nothing does.
    pub binding: String,
}

/// An engaged cluster and the way to it.
#[derive(Clone)]
pub struct Cluster {
    /// Its name.
    pub id: ClusterId,
    /// The endpoint that serves it.
    pub endpoint: Arc<Endpoint>,
    /// What the provider knows about it.
    pub info: Arc<ClusterInfo>,
    client: OnceLock<kube::Client>,
}

impl Cluster {
    pub(super) fn new(id: ClusterId, endpoint: Arc<Endpoint>, info: Arc<ClusterInfo>) -> Self {
        Self { id, endpoint, info, client: OnceLock::new() }
    }

    /// Where its objects are in the caches.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope { endpoint: self.endpoint.id(), cluster: self.id.clone() }
    }

    /// Its name for people: the path where it is known.
    #[must_use]
    pub fn display(&self) -> &str {
        self.info.path.as_deref().unwrap_or(self.id.as_str())
    }

    /// The same cluster by another path of the same server, such as another virtual workspace of its shard.
    #[must_use]
    pub fn at(&self, path: String) -> Self {
        let other = Self::new(self.id.clone(), Arc::clone(&self.endpoint), Arc::clone(&self.info));
        let client = self.endpoint.at(path);
        other.client.get_or_init(|| client);
        other
    }

    /// A client whose paths begin at this cluster, made at the first use.
    #[must_use]
    pub fn client(&self) -> &kube::Client {
        self.client.get_or_init(|| self.endpoint.cluster(&self.id))
    }
}

/// Called with a cluster that becomes served, or of which something else is known.
pub type Listener = Box<dyn Fn(&Cluster) + Send + Sync>;

struct Running {
    endpoint: Arc<Endpoint>,
    cancel: CancellationToken,
    lost_since: Option<Instant>,
    ready: bool,
    health: Health,
}

/// An endpoint that is wanted and could not be made yet.
struct Unmade {
    spec: EndpointSpec,
    since: Instant,
    /// Why not; none as long as it was not tried.
    why: Option<String>,
}

#[derive(Default)]
struct State {
    /// The provider has named all endpoints that it knows of, even if only to say that there is none yet.
    discovered: bool,
    /// What the provider cannot read, by name, and why.
    unread: BTreeMap<String, String>,
    unmade: BTreeMap<String, Unmade>,
    endpoints: HashMap<String, Running>,
    engaged: HashMap<ClusterId, HashMap<EndpointId, Arc<ClusterInfo>>>,
}

impl State {
    fn find(&self, id: EndpointId) -> Option<&Running> {
        self.endpoints.values().find(|running| running.endpoint.id() == id)
    }

    fn find_mut(&mut self, id: EndpointId) -> Option<&mut Running> {
        self.endpoints.values_mut().find(|running| running.endpoint.id() == id)
    }

    /// The endpoint through which a cluster is served.
    ///
    /// A workspace that moves between shards is seen through both for a while. An endpoint that is
    /// still published is the better guess, then one that works, then the one that was made last; when
    /// another one becomes the best, the objects of the workspace are looked at again.
    fn through(&self, id: &ClusterId) -> Option<(&Running, &Arc<ClusterInfo>)> {
        let through = self.engaged.get(id)?;
        through
            .iter()
            .filter_map(|(endpoint, info)| Some((self.find(*endpoint)?, info)))
            .filter(|(running, _)| running.ready)
            .max_by_key(|(running, _)| {
                (running.lost_since.is_none(), !running.health.fails(), running.endpoint.id())
            })
    }

    fn way(&self, id: &ClusterId) -> Option<EndpointId> {
        self.through(id).map(|(running, _)| running.endpoint.id())
    }

    fn handle(&self, id: &ClusterId) -> Option<Cluster> {
        let (running, info) = self.through(id)?;
        Some(Cluster::new(id.clone(), Arc::clone(&running.endpoint), Arc::clone(info)))
    }
}

/// The set of endpoints and engaged clusters.
pub struct Fleet {
    sources: Vec<Arc<dyn Source>>,
    listeners: Vec<Listener>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    state: Mutex<State>,
    /// Something has to be tried again.
    due: Notify,
    given_up: watch::Sender<()>,
}

impl Fleet {
    /// A fleet that runs these sources for each endpoint, tells the listeners when a cluster becomes
    /// served or what is known about it changes, and stops with the tasks.
    #[must_use]
    pub fn new(
        sources: Vec<Arc<dyn Source>>,
        listeners: Vec<Listener>,
        metrics: Arc<Metrics>,
        tasks: Tasks,
    ) -> Arc<Self> {
        let (state, due) = (Mutex::default(), Notify::new());
        let (given_up, _) = watch::channel(());
        Arc::new(Self { sources, listeners, metrics, tasks, state, due, given_up })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that the way to clusters depends on, and tells of those that are served another way than
    /// before.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let ways = |state: &State| -> HashMap<ClusterId, EndpointId> {
            let ids = state.engaged.keys();
            ids.filter_map(|id| Some((id.clone(), state.way(id)?))).collect()
        };
        let before = ways(&state);
        let result = change(&mut state);
        let after = ways(&state);
        let moved = after.iter().filter(|(id, way)| before.get(*id) != Some(way));
        let handles: Vec<Cluster> = moved.filter_map(|(id, _)| state.handle(id)).collect();
        self.count(&state);
        drop(state);
        for handle in &handles {
            self.tell(handle);
        }
        result
    }

    /// Says that the provider has named all endpoints that it knows of: until then the process is not ready.
    pub fn discovered(&self) {
        self.state().discovered = true;
    }

    /// Says what the provider cannot read, and why. Logged when that changes.
    pub fn unread(&self, name: &str, why: String) {
        let mut state = self.state();
        if state.unread.get(name) != Some(&why) {
            tracing::warn!("{why}");
            state.unread.insert(name.to_owned(), why);
        }
    }

    /// Whether the provider cannot read this.
    #[must_use]
    pub fn is_unread(&self, name: &str) -> bool {
        self.state().unread.contains_key(name)
    }

    /// Says that the provider can read this; whether it could not before.
    pub fn read(&self, name: &str) -> bool {
        let again = self.state().unread.remove(name).is_some();
        if again {
            tracing::info!(name, "can be read");
        }
        again
    }

    /// All endpoints in use, by URL.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let state = self.state();
        let mut all: Vec<_> =
            state.endpoints.values().map(|running| Arc::clone(&running.endpoint)).collect();
        all.sort_by(|a, b| a.url().cmp(b.url()));
        all
    }

    /// An endpoint in use.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        self.state().find(id).map(|running| Arc::clone(&running.endpoint))
    }

    /// Says that a cluster is served through an endpoint, or that something about it changed.
    pub fn engage(&self, endpoint: EndpointId, id: &ClusterId, info: ClusterInfo) {
        let mut state = self.state();
        if state.find(endpoint).is_none() {
            // It was given up meanwhile.
            return;
        }
        let through = state.engaged.entry(id.clone()).or_default();
        if through.get(&endpoint).is_some_and(|known| **known == info) {
            return;
        }
        let path = info.path.clone().unwrap_or_default();
        let leaving = info.leaving;
        if through.insert(endpoint, Arc::new(info)).is_none() {
            tracing::info!(cluster = %id, path, leaving, "cluster engaged");
        }
        self.count(&state);
        let handle = state.handle(id);
        drop(state);
        if let Some(handle) = handle {
            self.tell(&handle);
        }
    }

    /// Says that a cluster is no longer served through an endpoint. Where another one serves it from now on, its
    /// objects are looked at again, because until now they were looked up through the first.
    pub fn disengage(&self, endpoint: EndpointId, id: &ClusterId) {
        let mut state = self.state();
        let before = state.way(id);
        let Some(through) = state.engaged.get_mut(id) else {
            return;
        };
        if through.remove(&endpoint).is_none() {
            return;
        }
        if through.is_empty() {
            tracing::info!(cluster = %id, "cluster disengaged");
            state.engaged.remove(id);
        }
        self.count(&state);
        let handle = state.handle(id).filter(|now| before != Some(now.endpoint.id()));
        drop(state);
        if let Some(handle) = handle {
            self.tell(&handle);
        }
    }

    /// What is known of a cluster through an endpoint; none if it is not served through it.
    #[must_use]
    pub fn engaged(&self, endpoint: EndpointId, id: &ClusterId) -> Option<Arc<ClusterInfo>> {
        self.state().engaged.get(id)?.get(&endpoint).cloned()
    }

    /// To be called by a source when its kind is synced through an endpoint: once all are, the
    /// clusters behind it are served.
    pub fn synced(&self, endpoint: EndpointId) {
        if !self.sources.iter().all(|source| source.synced(endpoint)) {
            return;
        }
        if self.state().find(endpoint).is_none_or(|running| running.ready) {
            return;
        }
        self.change(|state| {
            if let Some(running) = state.find_mut(endpoint) {
                running.ready = true;
                let url = running.endpoint.url();
                tracing::info!(endpoint = %url, "all kinds are read; endpoint is ready");
            }
        });
    }

    fn tell(&self, cluster: &Cluster) {
        for listener in &self.listeners {
            listener(cluster);
        }
    }

    /// The way to an engaged cluster whose endpoint is ready. None means: not served, or not yet;
    /// an event follows when it is.
    #[must_use]
    pub fn cluster(&self, id: &ClusterId) -> Option<Cluster> {
        self.state().handle(id)
    }

    /// The ways to all engaged clusters whose endpoints are ready, by name.
    #[must_use]
    pub fn clusters(&self) -> Vec<Cluster> {
        let state = self.state();
        let mut clusters: Vec<Cluster> =
            state.engaged.keys().filter_map(|id| state.handle(id)).collect();
        clusters.sort_by(|a, b| a.display().cmp(b.display()));
        clusters
    }

    /// The endpoint that [`Fleet::cluster`] would lead through.
    #[must_use]
    pub fn serving(&self, id: &ClusterId) -> Option<EndpointId> {
        self.state().way(id)
    }

    fn count(&self, state: &State) {
        self.metrics.fleet(state.endpoints.len(), state.engaged.len());
    }
}

#[cfg(test)]
mod tests;
