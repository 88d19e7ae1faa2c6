//! `BindableResourcesRequest`: a bind as an object, for those who run without the web front end.
//!
//! Watches: requests; contract namespaces and Secrets, which move pending requests. Writes: through
//! [`crate::onboarding`] what a consumer gets, the response Secret beside the request, the request's
//! status, and deletes a finished request when its time is up. Promises: `Succeeded` and `Failed`
//! are final; everything else heals by itself when its cause goes; no Secret that is not this
//! request's own is ever written.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use secrecy::ExposeSecret as _;
use serde_json::json;

use self::plan::{check, owns, secret_ref, succeeded, time_left, ttl};
use super::events::Events;
use crate::api::conditions::{ConditionStatus, READY, set_standard, whole_seconds};
use crate::api::v1alpha2::{
    BindableResourcesRequest, BindableResourcesRequestStatus, Phase, SecretKeyRef,
};
use crate::consumer::contract::identity_of;
use crate::consumer::onboarding::{Binder, Consumer};
use crate::consumer::ours;
use crate::consumer::response::binding_resource_response;
use crate::kinds::{Kinds, digest_of};
use crate::onboarding::{self, Access, Onboarding, Progress};
use crate::runtime::cluster::ObjKey;
use crate::runtime::controller::Reconciler;
use crate::runtime::error::{CallError, Cause, Retry, shortened};
use crate::runtime::fleet::Cluster;
use crate::runtime::queue::Queue;

/// Reconciles requests.
pub(super) struct Controller {
    pub(super) kinds: Arc<Kinds>,
    pub(super) onboarding: Arc<Onboarding>,
    pub(super) events: Arc<Events>,
}

/// Asks for pending requests of an identity when its namespace or a Secret in that changes.
pub(super) fn subscribe(kinds: &Arc<Kinds>, queue: &Arc<Queue>) {
    // Without a handle a cluster is not served yet, and its engagement asks for everything.
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.namespaces.subscribe(move |fleet, delta| {
        let identity = delta.object().and_then(|namespace| identity_of(&namespace.metadata));
        if let Some(identity) = identity
            && let Some(cluster) = fleet.cluster(&delta.scope.cluster)
        {
            wake(&k, &q, &cluster, identity);
        }
    });
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.secrets.subscribe(move |fleet, delta| {
        let Some(secret) = delta.object() else { return };
        let Some(cluster) = fleet.cluster(&delta.scope.cluster) else {
            return;
        };
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        let namespace = k.namespaces.get(&cluster, "", namespace);
        if let Some(identity) = namespace.as_ref().and_then(|ns| identity_of(&ns.metadata)) {
            wake(&k, &q, &cluster, identity);
        }
    });
}

fn wake(kinds: &Kinds, queue: &Queue, cluster: &Cluster, identity: &str) {
    for request in kinds.requests.list(cluster) {
        let same = request.spec.cluster_identity.identity.as_deref() == Some(identity);
        if same && !phase_of(&request).is_final() {
            queue.add(ObjKey::of(&cluster.id, &request.metadata));
        }
    }
}

fn phase_of(request: &BindableResourcesRequest) -> Phase {
    request.status.as_ref().map(|status| status.phase.clone()).unwrap_or_default()
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The request itself cannot work; only an edit helps.
    #[error("{0}")]
    Invalid(String),
    /// The named template does not exist. Final by contract (objects.md section 10).
    #[error("APIServiceExportTemplate {0:?} not found")]
    NoTemplate(String),
    /// The consumer could not be onboarded.
    #[error("Failed to handle resources: {0}")]
    Onboarding(#[from] onboarding::Error),
    /// The response could not be put together.
    #[error("Failed to create/update secret: the response has no JSON form: {0}")]
    Response(#[from] serde_json::Error),
    /// The response could not be written.
    #[error("Failed to create/update secret: {0}")]
    Secret(#[source] CallError),
    /// The response Secret's name is taken.
    #[error(
        "Failed to create/update secret: Secret {0:?} exists and does not belong to this request; \
         name another one in spec.kubeconfigSecretRef or delete it"
    )]
    ForeignSecret(String),
    /// A request about the request itself failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Error {
    /// The reason of the condition `Ready`; none where the request itself could not be read or written.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Invalid(_) => Some("InvalidRequest"),
            Self::NoTemplate(_) => Some("TemplateNotFound"),
            Self::Onboarding(err) => Some(err.reason().unwrap_or("HandleResourcesFailed")),
            Self::Secret(_) | Self::ForeignSecret(_) | Self::Response(_) => {
                Some("SecretCreationFailed")
            }
            Self::Call(_) => None,
        }
    }

    /// Whether someone has to act before this heals.
    fn needs_someone(&self) -> bool {
        !matches!(Controller::retry(self), Retry::Conflict | Retry::Transient)
    }
}

/// How far a bind has come.
enum Bind {
    /// Something is on its way; look again after this even if nobody tells.
    Waiting(Duration),
    /// The response is in the Secret.
    Done(Access, SecretKeyRef),
}

impl Reconciler for Controller {
    type Error = Error;

    const NAME: &'static str = "bindableresourcesrequest";

    async fn reconcile(&self, cluster: &Cluster, key: &ObjKey) -> Result<Option<Duration>, Error> {
        if cluster.info.leaving {
            return Ok(None);
        }
        let Some(request) = self.kinds.requests.get(cluster, &key.namespace, &key.name) else {
            return Ok(None);
        };
        if request.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        if phase_of(&request).is_final() {
            return self.expire(cluster, &request).await;
        }
        let result = self.bind(cluster, &request).await;
        match result {
            Ok(Bind::Waiting(pause)) => Ok(Some(pause)),
            Ok(Bind::Done(access, secret)) => {
                let status = succeeded(&request, &access, &secret, Timestamp::now());
                self.write_status(cluster, &request, &status).await?;
                Ok(ttl(&request).ok().flatten())
            }
            Err(err) => {
                self.say(cluster, &request, &err).await?;
                Err(err)
            }
        }
    }

    fn retry(error: &Error) -> Retry {
        match error {
            Error::Invalid(_) | Error::NoTemplate(_) | Error::Response(_) => Retry::Terminal,
            Error::Onboarding(err) => err.retry(),
            Error::Secret(err) | Error::Call(err) => err.retry(),
            Error::ForeignSecret(_) => Retry::Denied,
        }
    }
}

impl Controller {
    /// Onboards the consumer and writes the response.
    async fn bind(
        &self,
        cluster: &Cluster,
        request: &BindableResourcesRequest,
    ) -> Result<Bind, Error> {
        let identity = request.spec.cluster_identity.identity.as_deref().unwrap_or_default();
        check(request)?;
        let template = request.spec.template_ref.as_ref().map(|template| template.name.as_str());
        let template = template.filter(|name| !name.is_empty());
        if let Some(name) = template {
            self.template(cluster, name).await?;
        }
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let pretty_name = request.spec.cluster_identity.pretty_name.as_deref();
        let consumer = Consumer {
            identity,
            author: &request.spec.author,
            pretty_name: pretty_name.filter(|name| !name.is_empty()).unwrap_or(name),
            binder: &Binder::namespace(namespace),
            template,
        };
        let access = match self.onboarding.advance(cluster, &consumer).await? {
            Progress::Waiting { again, .. } => return Ok(Bind::Waiting(again)),
            Progress::Ready(access) => access,
        };
        let secret = secret_ref(request);
        self.respond(cluster, request, &access, &secret).await?;
        Ok(Bind::Done(access, secret))
    }

    async fn template(&self, cluster: &Cluster, name: &str) -> Result<(), Error> {
        if self.kinds.templates.get(cluster, "", name).is_some() {
            return Ok(());
        }
        // The answer is final, so it is not given from a cache.
        let live = self.kinds.templates.get_live(cluster, "", name).await?;
        live.map(|_| ()).ok_or_else(|| Error::NoTemplate(name.to_owned()))
    }

    async fn respond(
        &self,
        cluster: &Cluster,
        request: &BindableResourcesRequest,
        access: &Access,
        place: &SecretKeyRef,
    ) -> Result<(), Error> {
        let kind = &self.kinds.secrets;
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        let response = binding_resource_response(&access.kubeconfig)?;
        let bytes = response.expose_secret().as_bytes();
        let known = kind.get(cluster, namespace, &place.name);
        if known.is_some_and(|secret| {
            owns(request, &secret.metadata)
                && secret.digests.get(&place.key) == Some(&digest_of(bytes))
        }) {
            return Ok(());
        }
        let owner = request.controller_owner_ref(&());
        let data = || ByteString(bytes.to_vec());
        let secret = Secret {
            metadata: ObjectMeta {
                owner_references: owner.map(|owner: OwnerReference| vec![owner]),
                ..ours::metadata(&place.name, Some(namespace))
            },
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([(place.key.clone(), data())])),
            ..Secret::default()
        };
        match kind.create(cluster, &secret).await {
            Ok(_) => return Ok(()),
            Err(CallError { cause: Cause::Exists, .. }) => {}
            Err(err) => return Err(Error::Secret(err)),
        }
        let live = kind.get_live(cluster, namespace, &place.name).await.map_err(Error::Secret)?;
        let Some(live) = live.filter(|live| owns(request, &live.metadata)) else {
            return Err(Error::ForeignSecret(place.name.clone()));
        };
        let fields = json!({ "data": { place.key.as_str(): data() } });
        kind.patch(cluster, &live.metadata, fields).await.map_err(Error::Secret)?;
        Ok(())
    }

    /// Writes an error into the status, where the user looks, and an Event if someone has to act.
    async fn say(
        &self,
        cluster: &Cluster,
        request: &BindableResourcesRequest,
        err: &Error,
    ) -> Result<(), Error> {
        let Some(reason) = err.reason() else {
            return Ok(());
        };
        // What passes within a moment is not worth a write.
        if Self::retry(err) == Retry::Conflict {
            return Ok(());
        }
        let now = Timestamp::now();
        let mut status = request.status.clone().unwrap_or_default();
        if matches!(err, Error::NoTemplate(_)) {
            status.phase = Phase::Failed;
            status.completion_time = Some(whole_seconds(now));
        }
        let message = shortened(err.to_string());
        set_standard(&mut status.conditions, READY, &ConditionStatus::False, reason, &message, now);
        if self.write_status(cluster, request, &status).await? && err.needs_someone() {
            self.events.warn(cluster, &request.object_ref(&()), reason, &message).await;
        }
        Ok(())
    }

    /// Writes the status if it differs; tells whether it did.
    async fn write_status(
        &self,
        cluster: &Cluster,
        request: &BindableResourcesRequest,
        status: &BindableResourcesRequestStatus,
    ) -> Result<bool, Error> {
        if request.status.as_ref() == Some(status) {
            return Ok(false);
        }
        self.kinds.requests.patch_status(cluster, &request.metadata, json!(status)).await?;
        Ok(true)
    }

    /// Deletes a finished request when its time is up.
    async fn expire(
        &self,
        cluster: &Cluster,
        request: &BindableResourcesRequest,
    ) -> Result<Option<Duration>, Error> {
        let Some(left) = time_left(request, Timestamp::now()) else {
            return Ok(None);
        };
        if left.is_zero() {
            self.kinds.requests.delete(cluster, &request.metadata).await?;
            return Ok(None);
        }
        Ok(Some(left))
    }
}
