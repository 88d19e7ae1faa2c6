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
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::watcher::{Error, Event};
use tokio::time::Instant;

use super::cache::{Decoded, Snapshot};
use super::endpoint::{Endpoint, EndpointId};
use super::error::shortened;
use super::fleet::{Fleet, Source};
use super::kind::{Kind, Read, Wire};
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
            Run {
                watched: &self,
                fleet,
                endpoint,
            }
            .forever()
            .await;
        })
    }

    fn synced(&self, endpoint: EndpointId) -> bool {
        self.kind.cache.synced(endpoint)
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

/// What an error of a watch means.
enum Trouble {
    /// The server does not serve the kind, or not yet: as good as empty, look again.
    NotServed,
    /// Anything else.
    Failed,
}

fn trouble(err: &Error) -> Trouble {
    match err {
        // kcp before the fix of its issue 4215 answers 404, newer ones an empty list without version.
        Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            Trouble::NotServed
        }
        Error::NoResourceVersion => Trouble::NotServed,
        _ => Trouble::Failed,
    }
}

fn pauses(first: u64, longest: u64) -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(first))
        .with_max_delay(Duration::from_millis(longest))
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
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
        let mut failing = pauses(300, 30_000);
        let mut absent = pauses(250, 5_000);
        let mut in_trouble = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if matches!(event, Event::InitDone) {
                        failing = pauses(300, 30_000);
                        absent = pauses(250, 5_000);
                    }
                    if !matches!(event, Event::Init) && std::mem::take(&mut in_trouble) {
                        self.fleet.recovered(self.endpoint.id(), kind.name);
                    }
                    self.handle(event, &mut snapshot);
                }
                Err(err) => {
                    self.watched.metrics.watch_failed(kind.name);
                    let pause = match trouble(&err) {
                        Trouble::NotServed => {
                            kind.cache.mark_synced(self.endpoint.id());
                            self.fleet.synced(self.endpoint.id());
                            absent.next()
                        }
                        Trouble::Failed => {
                            in_trouble = true;
                            self.fleet
                                .trouble(self.endpoint.id(), kind.name, &explain(&err));
                            failing.next()
                        }
                    };
                    tokio::time::sleep(pause.unwrap_or(Duration::from_secs(5))).await;
                }
            }
        }
    }

    fn handle(&self, event: Event<Box<Read<C>>>, snapshot: &mut Option<Snapshot<C>>) {
        let kind = &self.watched.kind;
        match event {
            Event::Init => {
                *snapshot = Some(Snapshot {
                    began: Instant::now(),
                    objects: Vec::new(),
                });
            }
            Event::InitApply(read) => {
                if let Some((scope, decoded)) = self.place(read.decoded)
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
                if let Some((scope, decoded)) = self.place(read.decoded)
                    && let Some(delta) = kind.cache.apply(&scope, decoded)
                {
                    kind.tell(&self.fleet, &delta);
                }
            }
            Event::Delete(read) => {
                let meta = meta_of(&read.decoded);
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
        let Some(scope) = Kind::<K, C>::scope(&self.endpoint, meta_of(&decoded)) else {
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

fn meta_of<C: Resource>(decoded: &Decoded<C>) -> &ObjectMeta {
    match decoded {
        Decoded::Object(object) => object.meta(),
        Decoded::Unreadable(meta, _) => meta,
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

/// What a person can do about a failed watch.
fn explain(err: &Error) -> String {
    let text = text_of(err);
    match err {
        Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403 => {
            format!("{text} (grant our credential list and watch of it)")
        }
        Error::InitialListFailed(kube::Error::Api(status)) if status.code == 401 => {
            format!("{text} (the credential is not accepted; renew the kubeconfig)")
        }
        _ => text,
    }
}
