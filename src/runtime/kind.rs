//! One watched kind: reads from its cache, writes with preconditions.
//!
//! No server-side apply: kcp forwards it through a virtual workspace as PUT or POST, so dropped
//! fields stay and a second apply conflicts with the first. We compare, then write with the
//! resourceVersion that we saw. Single fields are written as JSON merge patches that carry UID and
//! resourceVersion, so that fields unknown to our types survive. Deletes carry the UID.

use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    Api, DeleteParams, ListParams, ObjectList, PatchParams, PostParams, Preconditions,
};
use kube::core::{DeserializeGuard, PartialObjectMeta, Request};
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::cache::{Cache, Decoded, Delta, Scope};
use super::cluster::{ClusterId, ObjKey};
use super::endpoint::{EndpointId, REQUEST_TIMEOUT, WATCH_TIMEOUT};
use super::error::{Action, CallError, Cause};
use super::fleet::{Cluster, Fleet};

/// What a controller does with a change of an object: usually, to queue keys.
pub type Subscriber<C> = Box<dyn Fn(&Arc<Fleet>, &Delta<C>) + Send + Sync>;

pub(super) type EventStream<C> =
    BoxStream<'static, watcher::Result<watcher::Event<Box<Decoded<C>>>>>;

/// The bounds that every kind on the wire meets.
pub trait Wire:
    Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
}

impl<K> Wire for K where
    K: Resource<DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// A watched kind `K`, cached as `C`.
pub struct Kind<K, C = K> {
    pub(super) name: &'static str,
    pub(super) cache: Cache<C>,
    subscribers: RwLock<Vec<Subscriber<C>>>,
    pub(super) open: Box<dyn Fn(Client) -> EventStream<C> + Send + Sync>,
    keep: fn(K) -> C,
}

/// Drops what nobody reads and what costs several times the rest of an object in memory.
fn prune(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

impl<T: Wire> Kind<T, T> {
    /// A kind cached as it is. `labels` is a label selector, as kubectl takes it.
    #[must_use]
    pub fn whole(name: &'static str, labels: Option<&'static str>) -> Self {
        Self::projected(name, labels, |object| object)
    }
}

impl<K: Wire> Kind<K, PartialObjectMeta<K>> {
    /// A kind of which only the metadata is read and cached.
    #[must_use]
    pub fn metadata(name: &'static str, labels: Option<&'static str>) -> Self {
        let keep = |object: K| PartialObjectMeta {
            types: None,
            metadata: object.meta().clone(),
            _phantom: std::marker::PhantomData,
        };
        Self::opened(name, keep, labels, |mut object: PartialObjectMeta<K>| {
            prune(&mut object.metadata);
            Decoded::Object(object)
        })
    }
}

impl<K, C> Kind<K, C>
where
    K: Wire,
    C: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    /// A kind of which only a part is cached. The function must keep the metadata.
    #[must_use]
    pub fn projected(name: &'static str, labels: Option<&'static str>, keep: fn(K) -> C) -> Self {
        Self::opened(name, keep, labels, move |DeserializeGuard(object): DeserializeGuard<K>| {
            match object {
                Ok(mut object) => {
                    prune(object.meta_mut());
                    Decoded::Object(keep(object))
                }
                Err(mut bad) => {
                    prune(&mut bad.metadata);
                    Decoded::Unreadable(Box::new(bad.metadata), bad.error)
                }
            }
        })
    }

    /// A kind whose watch reads `W` and decodes it like this.
    fn opened<W>(
        name: &'static str,
        keep: fn(K) -> C,
        labels: Option<&'static str>,
        decode: impl Fn(W) -> Decoded<C> + Copy + Send + Sync + 'static,
    ) -> Self
    where
        W: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
    {
        let seconds = u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(60);
        let config = watcher::Config {
            label_selector: labels.map(str::to_owned),
            ..watcher::Config::default().timeout(seconds)
        };
        let open = move |client: Client| -> EventStream<C> {
            watcher(Api::<W>::all(client), config.clone())
                .map(move |event| event.map(|event| map_event(event, decode)))
                .boxed()
        };
        Self {
            name,
            cache: Cache::default(),
            subscribers: RwLock::default(),
            open: Box::new(open),
            keep,
        }
    }

    /// Adds someone who wants to know of changes, before the kind is handed to a fleet: earlier
    /// changes are not told again.
    pub fn subscribe(&self, subscriber: impl Fn(&Arc<Fleet>, &Delta<C>) + Send + Sync + 'static) {
        let mut subscribers = self.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        subscribers.push(Box::new(subscriber));
    }

    /// One object out of the cache; an empty namespace for cluster-scoped kinds.
    #[must_use]
    pub fn get(&self, cluster: &Cluster, namespace: &str, name: &str) -> Option<Arc<C>> {
        self.cache.get(&cluster.scope(), namespace, name)
    }

    /// Whether there is such an object in the cache, even if it could not be decoded.
    #[must_use]
    pub fn is_known(&self, cluster: &Cluster, namespace: &str, name: &str) -> bool {
        self.cache.contains(&cluster.scope(), namespace, name)
    }

    /// All readable objects of a cluster out of the cache.
    #[must_use]
    pub fn list(&self, cluster: &Cluster) -> Vec<Arc<C>> {
        self.cache.list(&cluster.scope())
    }

    /// All readable objects of one namespace of a cluster out of the cache.
    #[must_use]
    pub fn list_namespace(&self, cluster: &Cluster, namespace: &str) -> Vec<Arc<C>> {
        self.cache.list_namespace(&cluster.scope(), namespace)
    }

    /// All readable objects of a cluster as seen through one endpoint, whether it is served or not.
    #[must_use]
    pub fn list_in(&self, scope: &Scope) -> Vec<Arc<C>> {
        self.cache.list(scope)
    }

    /// The clusters of which an object is known through an endpoint, whether they are served or not.
    #[must_use]
    pub fn clusters(&self, endpoint: EndpointId) -> Vec<ClusterId> {
        self.cache.clusters(endpoint)
    }

    /// Whether there is such an object in the cache, and it could not be decoded.
    #[must_use]
    pub fn is_unreadable(&self, scope: &Scope, namespace: &str, name: &str) -> bool {
        self.cache.contains(scope, namespace, name)
            && self.cache.get(scope, namespace, name).is_none()
    }

    /// The keys of all readable objects of a cluster.
    #[must_use]
    pub fn keys(&self, cluster: &Cluster) -> Vec<ObjKey> {
        self.list(cluster).iter().map(|object| ObjKey::of(&cluster.id, object.meta())).collect()
    }

    /// Reads an object from the server, for what a cache cannot answer: whether an object that is
    /// in our way is ours, and contents that are not cached.
    pub async fn get_live(
        &self,
        cluster: &Cluster,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, CallError> {
        get_unwatched(cluster, namespace, name).await
    }

    /// Whether the server knows for certain that there is no such object. It does not where it does not
    /// serve the kind.
    pub async fn is_gone(
        &self,
        cluster: &Cluster,
        namespace: &str,
        name: &str,
    ) -> Result<bool, CallError> {
        match self.get_live(cluster, namespace, name).await {
            Ok(live) => Ok(live.is_none()),
            Err(CallError { cause: Cause::Unserved, .. }) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Creates an object. One that exists already is [`Cause::Exists`].
    pub async fn create(&self, cluster: &Cluster, object: &K) -> Result<Arc<C>, CallError> {
        let key = ObjKey::of(&cluster.id, object.meta());
        let request = body(object, Action::Create, &key, K::kind(&()).as_ref())
            .map(|body| path::<K>(&key.namespace).create(&PostParams::default(), body))?;
        self.write(cluster, request, Action::Create, &key, None).await
    }

    /// Replaces an object by this one, which carries the resourceVersion that was seen.
    pub async fn replace(&self, cluster: &Cluster, object: &K) -> Result<Arc<C>, CallError> {
        let key = ObjKey::of(&cluster.id, object.meta());
        let request = body(object, Action::Replace, &key, K::kind(&()).as_ref()).map(|body| {
            path::<K>(&key.namespace).replace(&key.name, &PostParams::default(), body)
        })?;
        self.write(cluster, request, Action::Replace, &key, Some(object.meta())).await
    }

    /// Merges these fields into an object, unless it changed since `seen`.
    pub async fn patch(
        &self,
        cluster: &Cluster,
        seen: &ObjectMeta,
        mut fields: Value,
    ) -> Result<Arc<C>, CallError> {
        let key = ObjKey::of(&cluster.id, seen);
        fields["metadata"]["uid"] = json!(seen.uid);
        fields["metadata"]["resourceVersion"] = json!(seen.resource_version);
        let patch = kube::api::Patch::Merge(&fields);
        let request = path::<K>(&key.namespace).patch(&key.name, &PatchParams::default(), &patch);
        self.write(cluster, request, Action::Patch, &key, Some(seen)).await
    }

    /// Merges these fields into the status of an object, unless it changed since `seen`.
    pub async fn patch_status(
        &self,
        cluster: &Cluster,
        seen: &ObjectMeta,
        status: Value,
    ) -> Result<Arc<C>, CallError> {
        let key = ObjKey::of(&cluster.id, seen);
        let fields = json!({
            "metadata": { "uid": seen.uid, "resourceVersion": seen.resource_version },
            "status": status,
        });
        let patch = kube::api::Patch::Merge(&fields);
        let params = PatchParams::default();
        let request =
            path::<K>(&key.namespace).patch_subresource("status", &key.name, &params, &patch);
        self.write(cluster, request, Action::PatchStatus, &key, Some(seen)).await
    }

    /// Deletes exactly the object that was seen. One that is gone already is fine.
    pub async fn delete(&self, cluster: &Cluster, seen: &ObjectMeta) -> Result<(), CallError> {
        let uid = seen.uid.clone();
        self.delete_if(cluster, seen, Preconditions { uid, resource_version: None }).await
    }

    /// The same, unless the object has changed since: it may have got another purpose.
    pub async fn delete_unchanged(
        &self,
        cluster: &Cluster,
        seen: &ObjectMeta,
    ) -> Result<(), CallError> {
        let (uid, resource_version) = (seen.uid.clone(), seen.resource_version.clone());
        self.delete_if(cluster, seen, Preconditions { uid, resource_version }).await
    }

    async fn delete_if(
        &self,
        cluster: &Cluster,
        seen: &ObjectMeta,
        preconditions: Preconditions,
    ) -> Result<(), CallError> {
        let key = ObjKey::of(&cluster.id, seen);
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let request = path::<K>(&key.namespace).delete(&key.name, &params);
        match call::<K, Value>(cluster, request, Action::Delete, &key).await {
            Ok(_) | Err(CallError { cause: Cause::NotFound | Cause::Unserved, .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }

    async fn write(
        &self,
        cluster: &Cluster,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
        action: Action,
        key: &ObjKey,
        seen: Option<&ObjectMeta>,
    ) -> Result<Arc<C>, CallError> {
        let answer = call::<K, K>(cluster, request, action, key).await;
        if let (Err(CallError { cause: Cause::NotFound, .. }), Some(seen)) = (&answer, seen) {
            self.cache.vanished(&cluster.scope(), seen);
        }
        let mut object = answer?;
        prune(object.meta_mut());
        let scope = cluster.scope();
        let kept = (self.keep)(object.clone());
        self.cache.observe_write(&scope, kept);
        // The watch may have been faster; then the cache holds something newer already.
        let known = self.cache.get(&scope, &key.namespace, &key.name);
        Ok(known.unwrap_or_else(|| Arc::new((self.keep)(object))))
    }

    pub(super) fn tell(&self, fleet: &Arc<Fleet>, delta: &Delta<C>) {
        let subscribers = self.subscribers.read().unwrap_or_else(PoisonError::into_inner);
        for subscriber in subscribers.iter() {
            subscriber(fleet, delta);
        }
    }

    pub(super) fn scope(endpoint: &super::endpoint::Endpoint, meta: &ObjectMeta) -> Option<Scope> {
        let cluster = endpoint.cluster_of(meta)?;
        Some(Scope { endpoint: endpoint.id(), cluster })
    }
}

/// Creates an object of a kind that nobody watches, and returns the server's answer: access reviews
/// and Events.
pub async fn create_unwatched<K: Wire>(cluster: &Cluster, object: &K) -> Result<K, CallError> {
    let key = ObjKey::of(&cluster.id, object.meta());
    let request = body(object, Action::Create, &key, K::kind(&()).as_ref())
        .map(|body| path::<K>(&key.namespace).create(&PostParams::default(), body))?;
    call::<K, K>(cluster, request, Action::Create, &key).await
}

/// Reads an object from the server, of any kind. Where the kind is not served nothing is known of the
/// object, which is an error.
pub async fn get_unwatched<K: Wire>(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<Option<K>, CallError> {
    let key = ObjKey::new(&cluster.id, namespace, name);
    let request = path::<K>(namespace).get(name, &kube::api::GetParams::default());
    match call::<K, K>(cluster, request, Action::Get, &key).await {
        Ok(object) => Ok(Some(object)),
        Err(CallError { cause: Cause::NotFound, .. }) => Ok(None),
        Err(err) => Err(err),
    }
}

/// Reads the metadata of all objects of a cluster from the server. `labels` is a label selector.
pub async fn list_unwatched<K: Wire>(
    cluster: &Cluster,
    labels: &str,
) -> Result<Vec<PartialObjectMeta<K>>, CallError> {
    let key = ObjKey::new(&cluster.id, "", "");
    let request = path::<K>("").list_metadata(&ListParams::default().labels(labels));
    let list: ObjectList<PartialObjectMeta<K>> =
        call::<K, _>(cluster, request, Action::List, &key).await?;
    Ok(list.items)
}

fn path<K: Wire>(namespace: &str) -> Request {
    let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
    Request::new(K::url_path(&(), namespace))
}

fn body<K: Serialize>(
    object: &K,
    action: Action,
    key: &ObjKey,
    kind: &str,
) -> Result<Vec<u8>, CallError> {
    serde_json::to_vec(object).map_err(|err| CallError {
        action,
        kind: kind.to_owned(),
        key: key.clone(),
        cause: Cause::Other(Box::new(kube::Error::SerdeError(err))),
    })
}

/// Sends a request about a `K`, again after a short pause where the server or the network failed. Each of our
/// requests may be sent twice: reads change nothing, creates name their object, the others carry
/// preconditions.
async fn call<K: Wire, T: DeserializeOwned>(
    cluster: &Cluster,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    action: Action,
    key: &ObjKey,
) -> Result<T, CallError> {
    let fail =
        |cause| CallError { action, kind: K::kind(&()).into_owned(), key: key.clone(), cause };
    let request =
        request.map_err(|err| fail(Cause::Other(Box::new(kube::Error::BuildRequest(err)))))?;
    let mut pauses = [Duration::from_millis(100), Duration::from_millis(400)].into_iter();
    loop {
        let cause = match once::<T>(cluster.client(), request.clone()).await {
            Ok(value) => return Ok(value),
            Err(cause) => cause,
        };
        match pauses.next().filter(|_| worth_a_second_try(&cause)) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(fail(cause)),
        }
    }
}

/// The answer is decoded here and not by the client library, which logs a body that it cannot decode,
/// and the body may be a Secret.
async fn once<T: DeserializeOwned>(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<T, Cause> {
    match tokio::time::timeout(REQUEST_TIMEOUT, client.request_text(request)).await {
        Ok(Ok(text)) => serde_json::from_str(&text)
            .map_err(|err| Cause::Other(Box::new(kube::Error::SerdeError(err)))),
        Ok(Err(err)) => Err(Cause::from(err)),
        Err(_) => Err(Cause::Timeout(REQUEST_TIMEOUT)),
    }
}

fn worth_a_second_try(cause: &Cause) -> bool {
    match cause {
        Cause::Other(err) => match &**err {
            kube::Error::Api(status) => matches!(status.code, 500 | 502 | 503 | 504),
            kube::Error::HyperError(_) | kube::Error::Service(_) => true,
            _ => false,
        },
        _ => false,
    }
}

fn map_event<A, C>(
    event: watcher::Event<A>,
    decode: impl FnOnce(A) -> Decoded<C>,
) -> watcher::Event<Box<Decoded<C>>> {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    let boxed = Box::new;
    match event {
        Apply(object) => Apply(boxed(decode(object))),
        Delete(object) => Delete(boxed(decode(object))),
        Init => Init,
        InitApply(object) => InitApply(boxed(decode(object))),
        InitDone => InitDone,
    }
}
