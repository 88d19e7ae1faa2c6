//! Endpoints as a reconciled set, and which logical clusters are engaged through them.
//!
//! A provider says which endpoints there are and which clusters are served. For each endpoint the
//! fleet runs one list+watch per kind. An endpoint that the provider no longer names is held for
//! [`HOLD`] first: a missing URL is a hiccup of a cache server more often than the end of a shard,
//! and it never means that an object was deleted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cache::Scope;
use super::cluster::{ClusterId, ObjKey};
use super::endpoint::{ConnectError, Endpoint, EndpointId, EndpointSpec};
use super::metrics::Metrics;
use super::tasks::Tasks;

/// How long an endpoint that left the provider's list is kept going.
pub const HOLD: Duration = Duration::from_mins(5);

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
    /// Kinds whose watch fails, and why: said once for all kinds that fail alike.
    troubles: HashMap<&'static str, Trouble>,
}

/// A watch that fails.
struct Trouble {
    what: String,
    since: Instant,
}

/// Shorter troubles count for nothing.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    /// The provider has spoken, even if only to say that there is nothing yet.
    discovered: bool,
    /// What the provider waits for until then.
    waiting: Option<String>,
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
    /// still published is the better guess, then the one that was made last; when the other one
    /// lets go of the workspace its objects are looked at again.
    fn through(&self, id: &ClusterId) -> Option<(&Running, &Arc<ClusterInfo>)> {
        let through = self.engaged.get(id)?;
        through
            .iter()
            .filter_map(|(endpoint, info)| Some((self.find(*endpoint)?, info)))
            .filter(|(running, _)| running.ready)
            .max_by_key(|(running, _)| (running.lost_since.is_none(), running.endpoint.id()))
    }

    fn handle(&self, id: &ClusterId) -> Option<Cluster> {
        let (running, info) = self.through(id)?;
        Some(Cluster::new(id.clone(), Arc::clone(&running.endpoint), Arc::clone(info)))
    }
}

/// What works and what does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// What keeps the process from being ready; empty if nothing does.
    pub waiting: Vec<String>,
    /// Endpoints that have not worked for a while, where another one does: the failure of a shard is none of the others.
    pub away: Vec<String>,
}

/// The set of endpoints and engaged clusters.
pub struct Fleet {
    sources: Vec<Arc<dyn Source>>,
    listeners: Vec<Listener>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    state: Mutex<State>,
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
        let state = Mutex::default();
        Arc::new(Self { sources, listeners, metrics, tasks, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the running endpoints equal to the wanted ones: new ones start, those that left are
    /// held, those that came back go on as if nothing had happened.
    pub fn set_endpoints(self: &Arc<Self>, wanted: Vec<EndpointSpec>) -> Result<(), ConnectError> {
        let urls: Vec<String> = wanted.iter().map(EndpointSpec::url).collect();
        // Making a client may read files and run a credential plugin: not under the lock.
        let known: Vec<String> = self.state().endpoints.keys().cloned().collect();
        let mut result = Ok(());
        let mut made = Vec::new();
        for spec in wanted.into_iter().filter(|spec| !known.contains(&spec.url())) {
            match Endpoint::connect(spec, &self.metrics) {
                Ok(endpoint) => made.push(Arc::new(endpoint)),
                Err(err) => result = Err(err),
            }
        }
        let mut state = self.state();
        for (url, running) in &mut state.endpoints {
            if urls.contains(url) {
                if running.lost_since.take().is_some() {
                    tracing::info!(endpoint = %url, "endpoint is back");
                }
            } else if running.lost_since.is_none() {
                running.lost_since = Some(Instant::now());
                tracing::warn!(endpoint = %url, hold_seconds = HOLD.as_secs(),
                    "endpoint is no longer published; holding it, nothing is deleted");
            }
        }
        for endpoint in made {
            let url = endpoint.url().to_owned();
            tracing::info!(endpoint = %url, "endpoint added");
            if let Some(cluster) = endpoint.only_cluster() {
                state.engaged.entry(cluster).or_default().insert(endpoint.id(), Arc::default());
            }
            let running = self.start(endpoint);
            state.endpoints.insert(url, running);
        }
        self.count(&state);
        result
    }

    /// Says that the provider knows all endpoints that there are: until then the process is not ready.
    pub fn discovered(&self) {
        let mut state = self.state();
        state.discovered = true;
        state.waiting = None;
    }

    /// Ends endpoints that were held long enough; the time until the next one is due comes back.
    pub fn retire_lost(&self) -> Option<Duration> {
        let mut state = self.state();
        let mut next = None::<Duration>;
        let mut retired = Vec::new();
        state.endpoints.retain(|url, running| {
            let Some(since) = running.lost_since else { return true };
            let left = HOLD.saturating_sub(since.elapsed());
            if left.is_zero() {
                tracing::warn!(endpoint = %url, "endpoint is given up; its objects stay as they are");
                running.cancel.cancel();
                retired.push(running.endpoint.id());
                return false;
            }
            next = Some(next.map_or(left, |known| known.min(left)));
            true
        });
        let mut elsewhere = Vec::new();
        for (id, through) in &mut state.engaged {
            let before = through.len();
            through.retain(|endpoint, _| !retired.contains(endpoint));
            if through.len() != before {
                elsewhere.push(id.clone());
            }
        }
        state.engaged.retain(|_, through| !through.is_empty());
        self.count(&state);
        let handles: Vec<Cluster> = elsewhere.iter().filter_map(|id| state.handle(id)).collect();
        drop(state);
        for endpoint in retired {
            for source in &self.sources {
                source.forget(endpoint);
            }
        }
        for handle in &handles {
            self.tell(handle);
        }
        next
    }

    fn start(self: &Arc<Self>, endpoint: Arc<Endpoint>) -> Running {
        let cancel = self.tasks.cancelled().child_token();
        for source in &self.sources {
            let name = format!("the watch of {}", source.name());
            let watch = Arc::clone(source).watch(Arc::clone(self), Arc::clone(&endpoint));
            let until = cancel.clone();
            self.tasks.spawn(name, &cancel, async move {
                tokio::select! {
                    () = until.cancelled() => {}
                    () = watch => {}
                }
            });
        }
        Running { endpoint, cancel, lost_since: None, ready: false, troubles: HashMap::new() }
    }

    /// Gives up lost endpoints when their time has come. Runs until the fleet is stopped.
    pub async fn tend(&self) {
        loop {
            let next = self.retire_lost().unwrap_or(HOLD);
            tokio::select! {
                () = self.tasks.cancelled().cancelled() => return,
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// Says what the provider waits for before it can name endpoints. Logged when it changes.
    pub fn waiting(&self, what: String) {
        let mut state = self.state();
        if state.waiting.as_ref() != Some(&what) {
            tracing::warn!("{what}");
            state.waiting = Some(what);
        }
    }

    /// Notes that a kind's watch fails. Logged unless another kind fails for the same reason.
    pub(super) fn trouble(&self, endpoint: EndpointId, kind: &'static str, what: &str) {
        let mut state = self.state();
        let Some(running) = state.find_mut(endpoint) else {
            return;
        };
        if !running.troubles.values().any(|known| known.what == what) {
            tracing::warn!(
                endpoint = running.endpoint.url(),
                kind,
                "watch failed: {what}; trying again"
            );
        }
        let since = running.troubles.get(kind).map_or_else(Instant::now, |known| known.since);
        running.troubles.insert(kind, Trouble { what: what.to_owned(), since });
    }

    /// Notes that a kind's watch works.
    pub(super) fn recovered(&self, endpoint: EndpointId, kind: &'static str) {
        let mut state = self.state();
        let Some(running) = state.find_mut(endpoint) else {
            return;
        };
        if running.troubles.remove(kind).is_some() && running.troubles.is_empty() {
            tracing::info!(endpoint = running.endpoint.url(), "all watches work again");
        }
    }

    /// Whether there is any endpoint.
    #[must_use]
    pub fn has_endpoints(&self) -> bool {
        !self.state().endpoints.is_empty()
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

    /// Says that a cluster is no longer served through an endpoint. Where another one serves it, its
    /// objects are looked at again, because until now they were looked up through the first.
    pub fn disengage(&self, endpoint: EndpointId, id: &ClusterId) {
        let mut state = self.state();
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
        let handle = state.handle(id);
        drop(state);
        if let Some(handle) = handle {
            self.tell(&handle);
        }
    }

    /// To be called by a source when its kind is synced through an endpoint: once all are, the
    /// clusters behind it are served.
    pub fn synced(&self, endpoint: EndpointId) {
        if !self.sources.iter().all(|source| source.synced(endpoint)) {
            return;
        }
        let mut state = self.state();
        let Some(running) = state.find_mut(endpoint) else {
            return;
        };
        if std::mem::replace(&mut running.ready, true) {
            return;
        }
        tracing::info!(endpoint = %running.endpoint.url(), "all kinds are read; endpoint is ready");
        let ids: Vec<ClusterId> = state
            .engaged
            .iter()
            .filter(|(_, through)| through.contains_key(&endpoint))
            .map(|(id, _)| id.clone())
            .collect();
        let handles: Vec<Cluster> = ids.iter().filter_map(|id| state.handle(id)).collect();
        drop(state);
        for handle in &handles {
            self.tell(handle);
        }
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
        self.state().through(id).map(|(running, _)| running.endpoint.id())
    }

    /// What works and what does not, each with a name. An endpoint that is no longer published is held, but nobody
    /// need wait for it.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let state = self.state();
        let mut readiness = Readiness::default();
        let mut works = false;
        for running in state.endpoints.values().filter(|running| running.lost_since.is_none()) {
            let away = running.troubles.values().any(|trouble| trouble.since.elapsed() > GRACE);
            works |= running.ready && !away;
            let why = running.troubles.values().map(|trouble| trouble.what.as_str()).next();
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            let (id, url) = (running.endpoint.id(), running.endpoint.url());
            let text = if !running.ready {
                let unread = self.sources.iter().filter(|source| !source.synced(id));
                let unread: Vec<&str> = unread.map(|source| source.name()).collect();
                format!("{url}: waiting for the first list of {}{why}", unread.join(", "))
            } else if away {
                let kinds: Vec<&str> = running.troubles.keys().copied().collect();
                format!("{url}: cannot watch {}{why}", kinds.join(", "))
            } else {
                continue;
            };
            if away { &mut readiness.away } else { &mut readiness.waiting }.push(text);
        }
        if !works {
            readiness.waiting.append(&mut readiness.away);
        }
        if !state.discovered {
            let waiting = state.waiting.as_deref().unwrap_or("not known yet");
            readiness.waiting.insert(0, format!("endpoints: {waiting}"));
        }
        readiness
    }

    fn count(&self, state: &State) {
        self.metrics.fleet(state.endpoints.len(), state.engaged.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::endpoint::ClusterSource;

    fn specs(names: &[&str]) -> Vec<EndpointSpec> {
        let spec = |name: &&str| EndpointSpec {
            config: kube::Config::new(format!("https://{name}").parse().unwrap()),
            source: ClusterSource::Annotation("kcp.io/cluster"),
        };
        names.iter().map(spec).collect()
    }

    /// A fleet with these endpoints, and their ids in the same order.
    fn fleet(names: &[&str]) -> (Arc<Fleet>, Vec<EndpointId>) {
        let fleet = Fleet::new(vec![], vec![], Arc::default(), Tasks::default());
        fleet.set_endpoints(specs(names)).unwrap();
        let id = |name: &&str| fleet.state().endpoints[&format!("https://{name}")].endpoint.id();
        let ids = names.iter().map(id).collect();
        (fleet, ids)
    }

    #[tokio::test]
    async fn an_endpoint_that_is_no_longer_published_keeps_nothing_from_being_ready() {
        let (fleet, ids) = fleet(&["east", "west"]);
        fleet.synced(ids[0]);
        fleet.waiting("for the slice".to_owned());
        let west = "https://west: waiting for the first list of ";
        assert_eq!(fleet.readiness(), readiness(&["endpoints: for the slice", west], &[]));
        fleet.discovered();
        assert_eq!(fleet.readiness(), readiness(&[west], &[]));
        fleet.set_endpoints(specs(&["east"])).unwrap();
        assert_eq!(fleet.readiness(), readiness(&[], &[]));
        fleet.set_endpoints(specs(&["east", "west"])).unwrap();
        assert_eq!(fleet.readiness(), readiness(&[west], &[]));
    }

    fn readiness(waiting: &[&str], away: &[&str]) -> Readiness {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Readiness { waiting: texts(waiting), away: texts(away) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_is_away_keeps_nobody_from_being_ready_as_long_as_another_works() {
        let (fleet, ids) = fleet(&["east", "west"]);
        fleet.discovered();
        fleet.synced(ids[0]);
        fleet.trouble(ids[1], "Cluster", "refused");
        let west = "https://west: waiting for the first list of : refused";
        assert_eq!(fleet.readiness(), readiness(&[west], &[]), "it may come within a moment");
        tokio::time::advance(GRACE + Duration::from_secs(1)).await;
        assert_eq!(fleet.readiness(), readiness(&[], &[west]));
        fleet.trouble(ids[0], "Cluster", "refused");
        assert_eq!(fleet.readiness(), readiness(&[], &[west]), "it may come within a moment");
        tokio::time::advance(GRACE + Duration::from_secs(1)).await;
        let mut neither = fleet.readiness();
        neither.waiting.sort();
        let east = "https://east: cannot watch Cluster: refused";
        assert_eq!(neither, readiness(&[east, west], &[]));
        fleet.recovered(ids[0], "Cluster");
        assert_eq!(fleet.readiness(), readiness(&[], &[west]));
    }

    #[tokio::test]
    async fn a_cluster_is_served_through_a_published_endpoint_and_until_the_last_one_lets_go() {
        let (fleet, ids) = fleet(&["east", "west"]);
        let cluster = ClusterId::parse("abc").unwrap();
        for id in &ids {
            fleet.synced(*id);
            fleet.engage(*id, &cluster, ClusterInfo::default());
        }
        let newest = ids.iter().max().copied();
        assert_eq!(fleet.serving(&cluster), newest);
        fleet.set_endpoints(specs(&["east"])).unwrap();
        assert_eq!(fleet.serving(&cluster), Some(ids[0]));
        fleet.disengage(ids[0], &cluster);
        assert_eq!(fleet.serving(&cluster), Some(ids[1]), "the one that is held");
        fleet.disengage(ids[1], &cluster);
        assert_eq!(fleet.serving(&cluster), None);
    }
}
