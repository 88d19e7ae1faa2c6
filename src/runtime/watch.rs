//! The list+watch of one kind through one endpoint.
//!
//! Every object is decoded behind a guard: one that cannot be decoded is skipped and counted, and
//! the watch of its kind goes on. An object that names no cluster is skipped and counted, never
//! taken for one of an empty cluster. Of its requests the fleet is told when they are sent and
//! answered, which is what the health of an endpoint is known from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use kube::Resource;
use kube::runtime::watcher::{Error, Event};
use tokio::time::Instant;

use super::cache::{Decoded, Snapshot};
use super::cluster::ObjKey;
use super::endpoint::{Endpoint, EndpointId};
use super::error::shortened;
use super::fleet::{Fleet, Source};
use super::health::{Expiries, Observer, backoff, is_expired, is_overtaken};
use super::kind::{Kind, Wire};
use super::metrics::Metrics;

/// A kind together with the metrics that its watches count into.
pub struct Watched<K, C = K> {
    kind: Arc<Kind<K, C>>,
    metrics: Arc<Metrics>,
}

impl<K, C> Watched<K, C> {
    /// Makes a source for a fleet.
    #[must_use]
    pub fn new(kind: Arc<Kind<K, C>>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { kind, metrics })
    }
}

impl<K, C> Source for Watched<K, C>
where
    K: Wire,
    C: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        self.kind.name
    }

    fn watch(
        self: Arc<Self>,
        fleet: Arc<Fleet>,
        endpoint: Arc<Endpoint>,
    ) -> BoxFuture<'static, ()> {
        // Before the endpoint can be given up: what a watch reads after that is dropped.
        self.kind.cache.open(endpoint.id());
        Box::pin(async move {
            Run::new(&self, fleet, endpoint).forever().await;
        })
    }

    fn synced(&self, endpoint: EndpointId) -> bool {
        self.kind.cache.synced(endpoint)
    }

    fn listed(&self, endpoint: EndpointId) -> bool {
        self.kind.cache.listed(endpoint)
    }

    fn unreadable(&self, endpoint: EndpointId) -> Vec<ObjKey> {
        self.kind.cache.unreadable(endpoint)
    }

    fn forget(&self, endpoint: EndpointId) {
        self.kind.cache.forget(endpoint);
    }
}

struct Run<'a, K, C> {
    watched: &'a Watched<K, C>,
    fleet: Arc<Fleet>,
    endpoint: Arc<Endpoint>,
    told: Arc<Told>,
}

/// Tells the fleet of the requests of one watch.
struct Told {
    fleet: Arc<Fleet>,
    endpoint: Arc<Endpoint>,
    kind: &'static str,
    /// A request was sent and not answered yet: most events are none of an answer that was waited for.
    owed: AtomicBool,
}

impl Observer for Told {
    fn asks(&self) {
        self.owed.store(true, Ordering::Relaxed);
        self.fleet.asks(self.endpoint.id(), self.kind);
    }

    fn answered(&self) {
        if self.owed.swap(false, Ordering::Relaxed)
            && self.fleet.answered(self.endpoint.id(), self.kind)
        {
            self.endpoint.turns().back();
        }
    }
}

impl Told {
    fn failed(&self, why: &str) {
        self.owed.store(true, Ordering::Relaxed);
        self.fleet.failed(self.endpoint.id(), self.kind, why);
    }
}

/// A kind that is not served for this long is taken for empty until it is.
const NOT_SERVED_FOR: Duration = Duration::from_secs(10);
/// The longest pause between two looks for a kind that is not served: a workspace waits for it.
const LONGEST_ABSENCE: Duration = Duration::from_secs(2);
/// The same while all workspaces of the endpoint wait for it, which is not for long.
const LONGEST_FIRST_ABSENCE: Duration = Duration::from_millis(500);

/// What a watch waits for before it goes on.
#[derive(Default)]
struct Pauses {
    absence: Option<Absence>,
    expiries: Expiries,
}

/// A kind that is not served.
struct Absence {
    since: Instant,
    pauses: backon::ExponentialBackoff,
}

impl Default for Absence {
    fn default() -> Self {
        let pauses = backoff(Duration::from_millis(300), LONGEST_ABSENCE);
        Self { since: Instant::now(), pauses }
    }
}

/// Whether the server does not serve the kind, or not yet. kcp before the fix of its issue 4215
/// answers 404, newer ones an empty list without version.
fn is_not_served(err: &Error) -> bool {
    match err {
        Error::InitialListFailed(kube::Error::Api(status)) => status.code == 404,
        Error::NoResourceVersion => true,
        _ => false,
    }
}

impl<'a, K, C> Run<'a, K, C>
where
    K: Wire,
    C: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    fn new(watched: &'a Watched<K, C>, fleet: Arc<Fleet>, endpoint: Arc<Endpoint>) -> Self {
        let told = Arc::new(Told {
            fleet: Arc::clone(&fleet),
            endpoint: Arc::clone(&endpoint),
            kind: watched.kind.name,
            owed: AtomicBool::new(false),
        });
        Self { watched, fleet, endpoint, told }
    }

    async fn forever(self) {
        let kind = &self.watched.kind;
        let open = || (kind.open)(self.endpoint.watching(&self.told));
        let mut events = open();
        let mut snapshot = None;
        let mut pauses = Pauses::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if !matches!(event, Event::Init) {
                        self.told.answered();
                        pauses.absence = None;
                    }
                    self.handle(event, &mut snapshot);
                }
                Err(err) => {
                    self.watched.metrics.watch_failed(kind.name);
                    self.failed(&err, &mut pauses).await;
                    if is_expired(&err) {
                        // Where it is told instead of an answer, the stream would go on from the same version.
                        events = open();
                    }
                }
            }
        }
    }

    /// Notes a failure, and waits until it is time for the next try.
    async fn failed(&self, err: &Error, pauses: &mut Pauses) {
        if is_overtaken(err) {
            return;
        }
        if is_expired(err) {
            self.told.answered();
            tokio::time::sleep(pauses.expiries.next()).await;
        } else if is_not_served(err) {
            self.told.answered();
            let pause = self.absent(pauses.absence.get_or_insert_default());
            self.endpoint.turns().pause(pause).await;
        } else {
            self.told.failed(&explain(err));
            self.endpoint.turns().next().await;
        }
    }

    /// Notes that the kind is not served, and returns how long to wait for it.
    fn absent(&self, absence: &mut Absence) -> Duration {
        let (id, kind) = (self.endpoint.id(), &self.watched.kind);
        // In the first seconds after a binding, kcp does not serve what it will serve; taking that
        // for "there is none" would mean to act without what is there.
        if absence.since.elapsed() >= NOT_SERVED_FOR && !kind.cache.synced(id) {
            tracing::warn!(
                kind = kind.name,
                endpoint = self.endpoint.url(),
                "the server does not serve this kind; going on without it and looking again; on \
                 Kubernetes apply manifests/, in kcp check the permission claims of the APIExport"
            );
            kind.cache.mark_synced(id);
            self.fleet.synced(id);
        }
        let longest = if kind.cache.synced(id) { LONGEST_ABSENCE } else { LONGEST_FIRST_ABSENCE };
        absence.pauses.next().unwrap_or(longest).min(longest)
    }

    fn handle(&self, event: Event<Box<Decoded<C>>>, snapshot: &mut Option<Snapshot<C>>) {
        let kind = &self.watched.kind;
        match event {
            Event::Init => {
                *snapshot = Some(Snapshot { began: Instant::now(), objects: Vec::new() });
            }
            Event::InitApply(read) => {
                if let Some((scope, decoded)) = self.place(*read)
                    && let Some(snapshot) = snapshot
                {
                    snapshot.objects.push((scope.cluster, decoded));
                }
            }
            Event::InitDone => {
                let Some(snapshot) = snapshot.take() else {
                    return;
                };
                self.watched.metrics.relisted(kind.name);
                let deltas = kind.cache.replace(self.endpoint.id(), snapshot);
                for delta in &deltas {
                    kind.tell(&self.fleet, delta);
                }
                self.fleet.synced(self.endpoint.id());
            }
            Event::Apply(read) => {
                if let Some((scope, decoded)) = self.place(*read)
                    && let Some(delta) = kind.cache.apply(&scope, decoded)
                {
                    kind.tell(&self.fleet, &delta);
                }
            }
            Event::Delete(read) => {
                let meta = read.meta();
                let Some(scope) = Kind::<K, C>::scope(&self.endpoint, meta) else {
                    return;
                };
                if let Some(delta) = kind.cache.remove(&scope, meta) {
                    kind.tell(&self.fleet, &delta);
                }
            }
        }
    }

    /// Finds the cluster of an object, and counts what cannot be used.
    fn place(&self, decoded: Decoded<C>) -> Option<(super::cache::Scope, Decoded<C>)> {
        let kind = &self.watched.kind;
        let Some(scope) = Kind::<K, C>::scope(&self.endpoint, decoded.meta()) else {
            self.watched.metrics.unplaced(kind.name);
            return None;
        };
        if let Decoded::Unreadable(meta, why) = &decoded {
            let why = shortened(why.clone());
            self.watched.metrics.unreadable(kind.name);
            tracing::warn!(
                kind = kind.name,
                cluster = %scope.cluster,
                namespace = meta.namespace.as_deref().unwrap_or_default(),
                name = meta.name.as_deref().unwrap_or_default(),
                "object is skipped because it cannot be decoded: {why}; correct or delete it"
            );
        }
        Some((scope, decoded))
    }
}

/// An error with its causes, each said once.
#[must_use]
pub fn text_of(err: &Error) -> String {
    let cause: &dyn std::error::Error = match err {
        Error::InitialListFailed(err) | Error::WatchStartFailed(err) | Error::WatchFailed(err) => {
            err
        }
        other => other,
    };
    let mut text = cause.to_string();
    let mut source = cause.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

/// What a person can do about a failed watch. The texts for a refused credential leave out what the
/// server said, because it names the kind: the same text for all kinds is said once.
fn explain(err: &Error) -> String {
    let refused = match err {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status)) => status.code,
        _ => 0,
    };
    match refused {
        403 => {
            "the credential may not list it; in kcp grant `apiexports/content` of the APIExport with \
             `backend init`, on Kubernetes apply manifests/rbac.yaml"
                .to_owned()
        }
        401 => {
            "the credential is not accepted; renew the kubeconfig, then restart; in kcp with shards a service \
             account is refused too while the shard of its workspace is away, until that is back"
                .to_owned()
        }
        _ => text_of(err),
    }
}

#[cfg(test)]
mod tests;
