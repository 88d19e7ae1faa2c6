//! The list+watch of one kind through one endpoint.
//!
//! Every object is decoded behind a guard: one that cannot be decoded is skipped and counted, and
//! the watch of its kind goes on. An object that names no cluster is skipped and counted, never
//! taken for one of an empty cluster.

use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder as _;
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
        Box::pin(async move {
            Run { watched: &self, fleet, endpoint }.forever().await;
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
}

/// Without an error for this long a watch works.
const WORKS_AFTER: Duration = Duration::from_secs(8);
/// A kind that is not served for this long is taken for empty until it is.
const NOT_SERVED_FOR: Duration = Duration::from_secs(10);
/// The longest pause between two tries of a watch that fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause between two looks for a kind that is not served: a workspace waits for it.
const LONGEST_ABSENCE: Duration = Duration::from_secs(2);
/// The same while all workspaces of the endpoint wait for it, which is not for long.
const LONGEST_FIRST_ABSENCE: Duration = Duration::from_millis(500);

/// Failures in a row.
struct Series {
    since: Option<Instant>,
    failing: bool,
    pauses: backon::ExponentialBackoff,
}

impl Default for Series {
    fn default() -> Self {
        let pauses = backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(300))
            .with_max_delay(LONGEST_PAUSE)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times()
            .build();
        Self { since: None, failing: false, pauses }
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

impl<K, C> Run<'_, K, C>
where
    K: Wire,
    C: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    async fn forever(self) {
        let kind = &self.watched.kind;
        let mut events = (kind.open)(self.endpoint.wildcard());
        let mut snapshot = None;
        let mut trouble = Series::default();
        loop {
            // A watch that was taken up again may be silent for long: no error for a while is the
            // sign that it works.
            let event = match tokio::time::timeout(WORKS_AFTER, events.next()).await {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(_) => {
                    self.works(&mut trouble);
                    continue;
                }
            };
            match event {
                Ok(event) => {
                    if !matches!(event, Event::Init) {
                        self.works(&mut trouble);
                    }
                    self.handle(event, &mut snapshot);
                }
                Err(err) => {
                    self.watched.metrics.watch_failed(kind.name);
                    let pause = self.failed(&err, &mut trouble);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn works(&self, trouble: &mut Series) {
        if trouble.failing {
            self.fleet.recovered(self.endpoint.id(), self.watched.kind.name);
        }
        *trouble = Series::default();
    }

    /// Notes a failure and returns how long to wait before the next try.
    fn failed(&self, err: &Error, trouble: &mut Series) -> Duration {
        let (id, kind) = (self.endpoint.id(), &self.watched.kind);
        if matches!(err, Error::WatchError(status) if status.code == 410) {
            // Our version is no longer known: a new list follows, and nothing is wrong.
            return Duration::from_millis(100);
        }
        let since = *trouble.since.get_or_insert_with(Instant::now);
        let pauses = &mut trouble.pauses;
        if !is_not_served(err) {
            trouble.failing = true;
            self.fleet.trouble(id, kind.name, &explain(err));
            return pauses.next().unwrap_or(LONGEST_PAUSE);
        }
        // In the first seconds after a binding, kcp does not serve what it will serve; taking that
        // for "there is none" would mean to act without what is there.
        if since.elapsed() >= NOT_SERVED_FOR && !kind.cache.synced(id) {
            tracing::warn!(
                kind = kind.name,
                endpoint = self.endpoint.url(),
                "the server does not serve this kind; going on without it and looking again; on \
                 Kubernetes apply manifests/, in kcp check the permission claims of the APIExport"
            );
            kind.cache.mark_synced(id);
            self.fleet.synced(id);
        }
        let first = !kind.cache.synced(id);
        let longest = if first { LONGEST_FIRST_ABSENCE } else { LONGEST_ABSENCE };
        pauses.next().unwrap_or(LONGEST_PAUSE).min(longest)
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
