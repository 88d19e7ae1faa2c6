//! What we know of one kind: endpoint → cluster → (namespace, name) → object.
//!
//! Resource versions are compared within one endpoint only: behind one endpoint is one store
//! (for kcp: one shard), so a higher version is newer there; between endpoints they mean nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use tokio::time::Instant;

use super::cluster::{ClusterId, ObjKey};
use super::endpoint::EndpointId;

/// One cluster as seen through one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Through which endpoint.
    pub endpoint: EndpointId,
    /// Which cluster.
    pub cluster: ClusterId,
}

/// A change of one object.
#[derive(Debug)]
pub struct Delta<C> {
    /// Where.
    pub scope: Scope,
    /// Before; none for a new object.
    pub old: Option<Arc<C>>,
    /// After; none for one that is gone.
    pub new: Option<Arc<C>>,
}

impl<C> Delta<C> {
    /// The object after the change, or before it where it is gone.
    #[must_use]
    pub fn object(&self) -> Option<&Arc<C>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

type Name = (String, String);

/// An entry stays where its object could not be decoded: it is neither stale nor deleted.
enum Entry<C> {
    Object {
        object: Arc<C>,
        /// Our write of it, until the watch or a list has shown it to us.
        written: Option<Written<C>>,
    },
    Unreadable {
        version: u64,
    },
}

/// A write of ours that nobody has been told of yet.
struct Written<C> {
    at: Instant,
    /// What was last told of the object: the change is reported from there.
    told: Option<Arc<C>>,
}

struct EndpointCache<C> {
    synced: bool,
    /// It was synced by a list, and not for want of one.
    listed: bool,
    /// The newest version that the watch showed: an object that is not here and is older was deleted.
    newest: u64,
    clusters: HashMap<ClusterId, BTreeMap<Name, Entry<C>>>,
}

impl<C> Default for EndpointCache<C> {
    fn default() -> Self {
        Self { synced: false, listed: false, newest: 0, clusters: HashMap::new() }
    }
}

/// The cache of one kind. What is read through an endpoint that was not opened, or was forgotten, is dropped.
pub struct Cache<C> {
    endpoints: RwLock<HashMap<EndpointId, EndpointCache<C>>>,
}

impl<C> Default for Cache<C> {
    fn default() -> Self {
        Self { endpoints: RwLock::default() }
    }
}

/// What a watch read: the object, or what could be known of one that cannot be decoded.
#[derive(Debug)]
pub enum Decoded<C> {
    /// A good object.
    Object(C),
    /// One that could not be decoded, and why.
    Unreadable(Box<ObjectMeta>, String),
}

impl<C: Resource> Decoded<C> {
    /// The metadata, which is known either way.
    pub fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Object(object) => object.meta(),
            Self::Unreadable(meta, _) => meta,
        }
    }
}

/// Objects of a list in progress.
pub struct Snapshot<C> {
    /// When the list began: what we wrote after that may be missing in it.
    pub began: Instant,
    /// What it held.
    pub objects: Vec<(ClusterId, Decoded<C>)>,
}

fn name_of(meta: &ObjectMeta) -> Name {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// A version that is no number sorts first, so such an object never hides another.
fn version_of(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

impl<C: Resource> Entry<C> {
    fn version(&self) -> u64 {
        match self {
            Self::Object { object, .. } => version_of(object.meta()),
            Self::Unreadable { version } => *version,
        }
    }

    fn written(&self) -> Option<Instant> {
        match self {
            Self::Object { written, .. } => written.as_ref().map(|written| written.at),
            Self::Unreadable { .. } => None,
        }
    }

    /// What was last told of it.
    fn told(&self) -> Option<Arc<C>> {
        match self {
            Self::Object { written: Some(written), .. } => written.told.clone(),
            Self::Object { object, .. } => Some(Arc::clone(object)),
            Self::Unreadable { .. } => None,
        }
    }

    fn object(&self) -> Option<&Arc<C>> {
        match self {
            Self::Object { object, .. } => Some(object),
            Self::Unreadable { .. } => None,
        }
    }
}

impl<C: Resource> Cache<C> {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<EndpointId, EndpointCache<C>>> {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<EndpointId, EndpointCache<C>>> {
        self.endpoints.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for what is read through an endpoint.
    pub fn open(&self, endpoint: EndpointId) {
        self.write().entry(endpoint).or_default();
    }

    /// One object.
    pub fn get(&self, scope: &Scope, namespace: &str, name: &str) -> Option<Arc<C>> {
        let endpoints = self.read();
        let objects = endpoints.get(&scope.endpoint)?.clusters.get(&scope.cluster)?;
        objects.get(&(namespace.to_owned(), name.to_owned()))?.object().cloned()
    }

    /// Whether there is such an object, readable or not.
    pub fn contains(&self, scope: &Scope, namespace: &str, name: &str) -> bool {
        let endpoints = self.read();
        let objects = endpoints
            .get(&scope.endpoint)
            .and_then(|endpoint| endpoint.clusters.get(&scope.cluster));
        objects.is_some_and(|known| known.contains_key(&(namespace.to_owned(), name.to_owned())))
    }

    /// All readable objects of a cluster.
    pub fn list(&self, scope: &Scope) -> Vec<Arc<C>> {
        let endpoints = self.read();
        endpoints
            .get(&scope.endpoint)
            .and_then(|endpoint| endpoint.clusters.get(&scope.cluster))
            .map(|objects| objects.values().filter_map(Entry::object).cloned().collect())
            .unwrap_or_default()
    }

    /// All readable objects of one namespace of a cluster.
    pub fn list_namespace(&self, scope: &Scope, namespace: &str) -> Vec<Arc<C>> {
        let endpoints = self.read();
        let objects = endpoints
            .get(&scope.endpoint)
            .and_then(|endpoint| endpoint.clusters.get(&scope.cluster));
        let Some(objects) = objects else { return Vec::new() };
        let first = (namespace.to_owned(), String::new());
        let from = objects.range(first..);
        from.take_while(|((of, _), _)| of == namespace)
            .filter_map(|(_, entry)| entry.object())
            .cloned()
            .collect()
    }

    /// Whether the kind was listed once through the endpoint.
    pub fn synced(&self, endpoint: EndpointId) -> bool {
        self.read().get(&endpoint).is_some_and(|endpoint| endpoint.synced)
    }

    /// Whether a server ever listed the kind through the endpoint, so that what is not here is not there.
    pub fn listed(&self, endpoint: EndpointId) -> bool {
        self.read().get(&endpoint).is_some_and(|endpoint| endpoint.listed)
    }

    /// The clusters of which anything is known through an endpoint.
    pub fn clusters(&self, endpoint: EndpointId) -> Vec<ClusterId> {
        let endpoints = self.read();
        endpoints.get(&endpoint).map_or_else(Vec::new, |of| of.clusters.keys().cloned().collect())
    }

    /// The objects that could not be decoded.
    pub fn unreadable(&self, endpoint: EndpointId) -> Vec<ObjKey> {
        let endpoints = self.read();
        let of = endpoints.get(&endpoint).into_iter().flat_map(|endpoint| &endpoint.clusters);
        of.flat_map(|(cluster, objects)| {
            let bad = objects.iter().filter(|(_, entry)| entry.object().is_none());
            bad.map(|((namespace, name), _)| ObjKey::new(cluster, namespace, name))
        })
        .collect()
    }

    /// Marks the kind as known to be empty, or unchanged, without a list: the server does not serve
    /// it (yet). What is in the cache stays, because "not served" is never proof of a deletion.
    pub fn mark_synced(&self, endpoint: EndpointId) {
        if let Some(endpoint) = self.write().get_mut(&endpoint) {
            endpoint.synced = true;
        }
    }

    /// Takes over one object that a watch reported.
    pub fn apply(&self, scope: &Scope, decoded: Decoded<C>) -> Option<Delta<C>> {
        let mut endpoints = self.write();
        let endpoint = endpoints.get_mut(&scope.endpoint)?;
        endpoint.newest = endpoint.newest.max(version_of(decoded.meta()));
        let objects = endpoint.clusters.entry(scope.cluster.clone()).or_default();
        put(objects, scope, decoded, Newer::Wins(None))
    }

    /// Takes over the response to a write of ours, unless the watch has gone past it: then the object
    /// was deleted meanwhile, and nobody would ever tell us again.
    pub fn observe_write(&self, scope: &Scope, object: C) -> Option<Delta<C>> {
        let mut endpoints = self.write();
        let endpoint = endpoints.get_mut(&scope.endpoint)?;
        let objects = endpoint.clusters.entry(scope.cluster.clone()).or_default();
        let gone = !objects.contains_key(&name_of(object.meta()));
        if gone && version_of(object.meta()) <= endpoint.newest {
            return None;
        }
        put(objects, scope, Decoded::Object(object), Newer::Wins(Some(Instant::now())))
    }

    /// Drops an object that the server says does not exist, if it is still the one that was seen.
    pub fn vanished(&self, scope: &Scope, seen: &ObjectMeta) {
        let mut endpoints = self.write();
        let objects = endpoints
            .get_mut(&scope.endpoint)
            .and_then(|endpoint| endpoint.clusters.get_mut(&scope.cluster));
        let Some(objects) = objects else { return };
        let name = name_of(seen);
        let known = objects.get(&name).and_then(Entry::object);
        if known.is_some_and(|known| known.meta().uid == seen.uid) {
            objects.remove(&name);
        }
    }

    /// Removes an object that a watch reported as deleted, unless a newer one of the same name is
    /// known.
    pub fn remove(&self, scope: &Scope, meta: &ObjectMeta) -> Option<Delta<C>> {
        let mut endpoints = self.write();
        let endpoint = endpoints.get_mut(&scope.endpoint)?;
        endpoint.newest = endpoint.newest.max(version_of(meta));
        let clusters = &mut endpoint.clusters;
        let objects = clusters.get_mut(&scope.cluster)?;
        let name = name_of(meta);
        if objects.get(&name)?.version() > version_of(meta) {
            return None;
        }
        let old = objects.remove(&name)?;
        if objects.is_empty() {
            clusters.remove(&scope.cluster);
        }
        Some(Delta { scope: scope.clone(), old: old.object().cloned(), new: None })
    }

    /// Replaces what is known through an endpoint by a complete list; the differences come back. The
    /// list is the truth even where its versions are lower (a server restored from a backup), except
    /// for what we wrote after it began.
    pub fn replace(&self, endpoint: EndpointId, snapshot: Snapshot<C>) -> Vec<Delta<C>> {
        let mut endpoints = self.write();
        let mut deltas = Vec::new();
        let Some(known) = endpoints.get_mut(&endpoint) else {
            return deltas;
        };
        let mut listed: HashMap<ClusterId, HashSet<Name>> = HashMap::new();
        known.newest = 0;
        for (cluster, decoded) in snapshot.objects {
            listed.entry(cluster.clone()).or_default().insert(name_of(decoded.meta()));
            known.newest = known.newest.max(version_of(decoded.meta()));
            let objects = known.clusters.entry(cluster.clone()).or_default();
            let scope = Scope { endpoint, cluster };
            deltas.extend(put(objects, &scope, decoded, Newer::UnlessWrittenSince(snapshot.began)));
        }
        known.synced = true;
        known.listed = true;
        for (cluster, objects) in &mut known.clusters {
            let listed = listed.remove(cluster).unwrap_or_default();
            objects.retain(|name, entry| {
                let ours = entry.written().is_some_and(|at| at >= snapshot.began);
                let keep = ours || listed.contains(name);
                if !keep && let Some(old) = entry.object() {
                    let scope = Scope { endpoint, cluster: cluster.clone() };
                    deltas.push(Delta { scope, old: Some(Arc::clone(old)), new: None });
                }
                keep
            });
        }
        known.clusters.retain(|_, objects| !objects.is_empty());
        deltas
    }

    /// Forgets an endpoint. Nothing is reported as deleted: a lost endpoint says nothing about its
    /// objects.
    pub fn forget(&self, endpoint: EndpointId) {
        self.write().remove(&endpoint);
    }
}

/// Which of two copies stays.
#[derive(Clone, Copy)]
enum Newer {
    /// The one with the higher version; the new one was written by us at this time, or read.
    Wins(Option<Instant>),
    /// The new one, unless we wrote the other after this.
    UnlessWrittenSince(Instant),
}

fn put<C: Resource>(
    objects: &mut BTreeMap<Name, Entry<C>>,
    scope: &Scope,
    decoded: Decoded<C>,
    which: Newer,
) -> Option<Delta<C>> {
    let (name, version) = (name_of(decoded.meta()), version_of(decoded.meta()));
    let known = objects.get_mut(&name);
    if let Some(known) = known {
        let stays = match which {
            _ if known.version() == version => return echo(known, scope, which),
            Newer::Wins(_) => known.version() > version,
            Newer::UnlessWrittenSince(began) => {
                known.version() > version && known.written().is_some_and(|at| at >= began)
            }
        };
        if stays {
            return None;
        }
    }
    let old = objects.get(&name).and_then(Entry::told);
    match decoded {
        Decoded::Object(object) => {
            let object = Arc::new(object);
            let at = if let Newer::Wins(at) = which { at } else { None };
            let written = at.map(|at| Written { at, told: old.clone() });
            objects.insert(name, Entry::Object { object: Arc::clone(&object), written });
            Some(Delta { scope: scope.clone(), old, new: Some(object) })
        }
        Decoded::Unreadable(..) => {
            // Controllers must not take "unreadable" for "gone", so nobody is told.
            objects.insert(name, Entry::Unreadable { version });
            None
        }
    }
}

/// Reports an object of ours when a watch or a list shows it for the first time: whoever wrote it
/// knows, but the controllers of its kind have not heard of it yet.
fn echo<C>(known: &mut Entry<C>, scope: &Scope, which: Newer) -> Option<Delta<C>> {
    let Entry::Object { object, written } = known else {
        return None;
    };
    if matches!(which, Newer::Wins(Some(_))) {
        return None;
    }
    let Written { told, .. } = written.take()?;
    Some(Delta { scope: scope.clone(), old: told, new: Some(Arc::clone(object)) })
}

#[cfg(test)]
mod tests;
