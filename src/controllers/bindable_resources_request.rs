//! `BindableResourcesRequest`: a bind as an object, for those who run without the web front end.
//!
//! Watches: requests; contract namespaces and Secrets, which move pending requests. Writes: through
//! [`crate::onboarding`] what a consumer gets, the response Secret beside the request, the request's
//! status, and deletes a finished request when its time is up. Promises: `Succeeded` and `Failed`
//! are final; everything else heals by itself when its cause goes; no Secret that is not this
//! request's own is ever written.

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

use super::events::Events;
use crate::api::conditions::{ConditionStatus, READY, set_standard, whole_seconds};
use crate::api::duration::GoDuration;
use crate::api::keys;
use crate::api::v1alpha2::{
    BindableResourcesRequest, BindableResourcesRequestStatus, Phase, SecretKeyRef,
};
use crate::consumer::names;
use crate::consumer::onboarding::{Binder, Consumer, identity_of, metadata};
use crate::consumer::response::binding_resource_response;
use crate::kinds::{Kinds, digest_of};
use crate::onboarding::{self, Access, Onboarding, Progress};
use crate::runtime::cluster::ObjKey;
use crate::runtime::controller::Reconciler;
use crate::runtime::error::{CallError, Cause, Retry, shortened};
use crate::runtime::fleet::{Cluster, Fleet};
use crate::runtime::queue::Queue;

/// Reconciles requests.
pub(super) struct Controller {
    pub(super) kinds: Arc<Kinds>,
    pub(super) onboarding: Arc<Onboarding>,
    pub(super) events: Arc<Events>,
}

/// Asks for pending requests of an identity when its namespace or a Secret in that changes.
pub(super) fn subscribe(kinds: &Arc<Kinds>, queue: &Arc<Queue>) {
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.namespaces.subscribe(move |fleet, delta| {
        let identity = delta
            .object()
            .and_then(|namespace| identity_of(&namespace.metadata));
        if let Some(identity) = identity {
            wake(&k, &q, fleet, &delta.scope.cluster, identity);
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
            wake(&k, &q, fleet, &cluster.id, identity);
        }
    });
}

fn wake(
    kinds: &Kinds,
    queue: &Queue,
    fleet: &Arc<Fleet>,
    cluster: &crate::runtime::cluster::ClusterId,
    identity: &str,
) {
    // Without a handle the cluster is not served yet, and its engagement asks for everything.
    let Some(cluster) = fleet.cluster(cluster) else {
        return;
    };
    for request in kinds.requests.list(&cluster) {
        let same = request.spec.cluster_identity.identity.as_deref() == Some(identity);
        if same && !phase_of(&request).is_final() {
            queue.add(ObjKey::of(&cluster.id, &request.metadata));
        }
    }
}

fn phase_of(request: &BindableResourcesRequest) -> Phase {
    request
        .status
        .as_ref()
        .map(|status| status.phase.clone())
        .unwrap_or_default()
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
            Self::Secret(_) | Self::ForeignSecret(_) => Some("SecretCreationFailed"),
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
            Error::Invalid(_) | Error::NoTemplate(_) => Retry::Terminal,
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
        let identity = request
            .spec
            .cluster_identity
            .identity
            .as_deref()
            .unwrap_or_default();
        check(request)?;
        let template = request
            .spec
            .template_ref
            .as_ref()
            .map(|template| template.name.as_str());
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
            Progress::Waiting(pause) => return Ok(Bind::Waiting(pause)),
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
        live.map(|_| ())
            .ok_or_else(|| Error::NoTemplate(name.to_owned()))
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
        let response = binding_resource_response(&access.kubeconfig);
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
                ..metadata(namespace, &place.name)
            },
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([(place.key.clone(), data())])),
            ..Secret::default()
        };
        match kind.create(cluster, &secret).await {
            Ok(_) => return Ok(()),
            Err(CallError {
                cause: Cause::Exists,
                ..
            }) => {}
            Err(err) => return Err(Error::Secret(err)),
        }
        let live = kind
            .get_live(cluster, namespace, &place.name)
            .await
            .map_err(Error::Secret)?;
        let Some(live) = live.filter(|live| owns(request, &live.metadata)) else {
            return Err(Error::ForeignSecret(place.name.clone()));
        };
        let fields = json!({ "data": { place.key.as_str(): data() } });
        kind.patch(cluster, &live.metadata, fields)
            .await
            .map_err(Error::Secret)?;
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
        let mut status = request.status.clone().unwrap_or_default();
        if matches!(err, Error::NoTemplate(_)) {
            status.phase = Phase::Failed;
            status.completion_time = Some(whole_seconds(Timestamp::now()));
        }
        let message = shortened(err.to_string());
        let now = Timestamp::now();
        set_standard(
            &mut status.conditions,
            READY,
            &ConditionStatus::False,
            reason,
            &message,
            now,
        );
        if self.write_status(cluster, request, &status).await? && err.needs_someone() {
            self.events
                .warn(cluster, &request.object_ref(&()), reason, &message)
                .await;
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
        self.kinds
            .requests
            .patch_status(cluster, &request.metadata, json!(status))
            .await?;
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
            self.kinds
                .requests
                .delete(cluster, &request.metadata)
                .await?;
            return Ok(None);
        }
        Ok(Some(left))
    }
}

/// Refuses what cannot work, before anything is asked of the server: names become parts of paths.
fn check(request: &BindableResourcesRequest) -> Result<(), Error> {
    let spec = &request.spec;
    let identity = spec
        .cluster_identity
        .identity
        .as_deref()
        .unwrap_or_default();
    names::check_identity(identity)
        .map_err(|err| Error::Invalid(format!("spec.clusterIdentity.identity: {err}")))?;
    let template = spec
        .template_ref
        .as_ref()
        .map(|template| template.name.as_str());
    let secret = spec.kubeconfig_secret_ref.as_ref();
    for (field, name) in [
        (
            "spec.templateRef.name",
            template.filter(|name| !name.is_empty()),
        ),
        (
            "spec.kubeconfigSecretRef.name",
            secret.map(|secret| secret.name.as_str()),
        ),
    ] {
        if name.is_some_and(|name| !names::is_dns_subdomain(name)) {
            return Err(Error::Invalid(format!(
                "{field}: {:?} is not an object name; use lower-case letters, digits, '-' and '.'",
                name.unwrap_or_default()
            )));
        }
    }
    let key = secret.map_or("", |secret| secret.key.as_str());
    if !key
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        || key.len() > 253
    {
        return Err(Error::Invalid(
            "spec.kubeconfigSecretRef.key: use letters, digits, '-', '_' and '.'".to_owned(),
        ));
    }
    ttl(request).map(drop)
}

fn owns(request: &BindableResourcesRequest, meta: &ObjectMeta) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .any(|o| o.controller == Some(true) && Some(&o.uid) == request.metadata.uid.as_ref())
}

/// Where the response goes (objects.md section 10).
fn secret_ref(request: &BindableResourcesRequest) -> SecretKeyRef {
    match &request.spec.kubeconfig_secret_ref {
        Some(named) if named.key.is_empty() => SecretKeyRef {
            name: named.name.clone(),
            key: keys::KUBECONFIG_KEY.to_owned(),
        },
        Some(named) => named.clone(),
        None => SecretKeyRef {
            name: names::response_secret(request.metadata.name.as_deref().unwrap_or_default()),
            key: keys::BINDING_RESPONSE_KEY.to_owned(),
        },
    }
}

/// How long the request lives after it finished.
fn ttl(request: &BindableResourcesRequest) -> Result<Option<Duration>, Error> {
    let Some(text) = request.spec.ttl_after_finished.as_deref() else {
        return Ok(None);
    };
    if let Ok(ttl) = GoDuration::parse_non_negative(text) {
        return Ok(Some(ttl.to_std()));
    }
    // Anybody's text, of any length; the advice after it has to be seen.
    let text: String = text.chars().take(40).collect();
    Err(Error::Invalid(format!(
        "spec.ttlAfterFinished: {text:?} is not a duration; write a number and a unit, such as 10m \
         or 1h30m"
    )))
}

/// What is left of a finished request's life; none if it has no end.
fn time_left(request: &BindableResourcesRequest, now: Timestamp) -> Option<Duration> {
    let ttl = ttl(request).ok().flatten()?;
    let completed = request.status.as_ref()?.completion_time.as_ref()?.0;
    // A completion time in the future (a clock that was off) only makes the request live longer.
    let lived = now.duration_since(completed);
    let ahead = Duration::try_from(-lived).unwrap_or_default();
    let lived = Duration::try_from(lived).unwrap_or_default();
    Some(ttl.saturating_add(ahead).saturating_sub(lived))
}

fn succeeded(
    request: &BindableResourcesRequest,
    access: &Access,
    secret: &SecretKeyRef,
    now: Timestamp,
) -> BindableResourcesRequestStatus {
    let mut status = request.status.clone().unwrap_or_default();
    status.phase = Phase::Succeeded;
    status.namespace = Some(access.namespace.clone());
    status.kubeconfig_secret_ref = Some(secret.clone());
    status.completion_time = Some(whole_seconds(now));
    let message = format!("Binding response secret {:?} is ready", secret.name);
    set_standard(
        &mut status.conditions,
        READY,
        &ConditionStatus::True,
        "SecretReady",
        &message,
        now,
    );
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha2::BindableResourcesRequestSpec;

    fn request(ttl: Option<&str>, completed: Option<i64>) -> BindableResourcesRequest {
        let spec = BindableResourcesRequestSpec {
            ttl_after_finished: ttl.map(str::to_owned),
            ..BindableResourcesRequestSpec::default()
        };
        let mut request = BindableResourcesRequest::new("bind", spec);
        request.status = completed.map(|second| BindableResourcesRequestStatus {
            completion_time: Some(whole_seconds(Timestamp::from_second(second).unwrap())),
            ..BindableResourcesRequestStatus::default()
        });
        request
    }

    #[test]
    fn a_finished_request_lives_for_its_ttl_and_for_ever_without_one() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (ttl, now, expected) in [
            (Some("10s"), 100, Some(10)),
            (Some("10s"), 104, Some(6)),
            (Some("10s"), 110, Some(0)),
            (Some("10s"), 999, Some(0)),
            (Some("10s"), 70, Some(40)),
            (None, 999, None),
        ] {
            let left = time_left(&request(ttl, Some(100)), at(now));
            assert_eq!(
                left.map(|left| left.as_secs()),
                expected,
                "{ttl:?} at {now}"
            );
        }
    }

    #[test]
    fn a_ttl_that_is_no_duration_is_refused_saying_what_one_looks_like() {
        let err = ttl(&request(Some("banana"), None)).unwrap_err();
        assert_eq!(
            err.to_string(),
            "spec.ttlAfterFinished: \"banana\" is not a duration; write a number and a unit, such \
             as 10m or 1h30m"
        );
    }

    #[test]
    fn names_that_are_no_object_names_are_refused_before_anything_is_asked() {
        let mut good = request(Some("10m"), None);
        good.spec.cluster_identity.identity = Some("me".into());
        assert!(check(&good).is_ok());
        let place = |name: &str, key: &str| {
            Some(SecretKeyRef {
                name: name.into(),
                key: key.into(),
            })
        };
        let mut template = good.clone();
        template.spec.template_ref = Some("real?x=,other".into());
        let mut secret = good.clone();
        secret.spec.kubeconfig_secret_ref = place("../x", "k");
        let mut key = good.clone();
        key.spec.kubeconfig_secret_ref = place("x", "a/b");
        let mut identity = good.clone();
        identity.spec.cluster_identity.identity = None;
        for bad in [template, secret, key, identity] {
            assert!(matches!(check(&bad), Err(Error::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn the_response_goes_where_the_request_says_or_to_the_names_of_the_contract() {
        let mut request = request(None, None);
        let place = |name: &str, key: &str| SecretKeyRef {
            name: name.into(),
            key: key.into(),
        };
        assert_eq!(
            secret_ref(&request),
            place("bind-binding-response", "binding-response")
        );
        request.spec.kubeconfig_secret_ref = Some(place("mine", ""));
        assert_eq!(secret_ref(&request), place("mine", "kubeconfig"));
        request.spec.kubeconfig_secret_ref = Some(place("mine", "k"));
        assert_eq!(secret_ref(&request), place("mine", "k"));
    }
}
