//! `APIServiceNamespace`: a consumer's namespace and what stands for it in the provider's cluster.
//!
//! Watches: `APIServiceNamespace`s; exports, `ClusterBinding` and contract namespace of their consumer;
//! service namespaces. Writes: the service namespace, the roles of all exports in it, then `status.namespace`;
//! a condition where there can be none; further owners, so that a namespace that several exports use
//! goes with the last. Deletes the service namespace when its `APIServiceNamespace` or its contract is
//! gone, and says so itself. Promises: rights come before `status.namespace`; a namespace that is not
//! ours is never marked, changed or deleted; no `APIServiceNamespace` is ever deleted; what a consumer
//! had is left to it when all of our objects were lost at once, as when the API is unbound.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::api::keys;
use crate::api::v1alpha2::{ApiServiceNamespace, ClusterBinding};
use crate::consumer::contract::{Contract, annotation, identity_of};
use crate::consumer::rights::ExportName;
use crate::consumer::service_namespace::{
    self as service, Plan, Refusal, Rules, Wanted, is_deletable, made_for,
};
use crate::gone::{Gone, Standing, UNPROVEN_AGAIN};
use crate::kinds::Kinds;
use crate::rights::{self, ExportRights};
use crate::runtime::cluster::ObjKey;
use crate::runtime::controller::Reconciler;
use crate::runtime::error::{CallError, Cause, Retry};
use crate::runtime::fleet::Cluster;
use crate::runtime::queue::Queue;

/// Reconciles `APIServiceNamespace`s.
pub(super) struct Controller {
    pub(super) kinds: Arc<Kinds>,
    pub(super) rights: Arc<ExportRights>,
    pub(super) gone: Arc<Gone>,
    pub(super) rules: Rules,
}

/// Asks for an `APIServiceNamespace` when what it depends on changes.
pub(super) fn subscribe(kinds: &Arc<Kinds>, queue: &Arc<Queue>) {
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.namespaces.subscribe(move |fleet, delta| {
        let Some(object) = delta.object() else { return };
        if let Some((contract, name)) = made_for(&object.metadata) {
            q.add(ObjKey::new(&delta.scope.cluster, contract, name));
        }
        if delta.new.is_none()
            && let Some(cluster) = fleet.cluster(&delta.scope.cluster)
        {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let mut keys = waiting_for(&k, &cluster, name);
            if identity_of(&object.metadata).is_some() {
                keys.extend(marked(&k, &cluster, Some(name)));
            }
            for key in keys {
                q.add(key);
            }
        }
    });
    // A namespace is marked with the binding, which may be seen later than the rest.
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.cluster_bindings.subscribe(move |fleet, delta| {
        let uid = |binding: &Arc<ClusterBinding>| binding.metadata.uid.clone();
        let changed = delta.old.as_ref().and_then(uid) != delta.new.as_ref().and_then(uid);
        let Some(object) = delta.new.as_ref().filter(|_| changed) else { return };
        let Some(cluster) = fleet.cluster(&delta.scope.cluster) else { return };
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        for object in k.service_namespaces.list_namespace(&cluster, namespace) {
            q.add(ObjKey::of(&cluster.id, &object.metadata));
        }
        for key in marked(&k, &cluster, Some(namespace)) {
            q.add(key);
        }
    });
    // All exports of a consumer own its namespaces, and have roles in them.
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.exports.subscribe(move |fleet, delta| {
        let deleting = |export: &Arc<crate::api::v1alpha2::ApiServiceExport>| {
            export.metadata.deletion_timestamp.is_some()
        };
        let changed = delta.old.as_ref().map(deleting) != delta.new.as_ref().map(deleting);
        let Some(object) = delta.object().filter(|_| changed) else { return };
        let Some(cluster) = fleet.cluster(&delta.scope.cluster) else { return };
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        for object in k.service_namespaces.list_namespace(&cluster, namespace) {
            q.add(ObjKey::of(&cluster.id, &object.metadata));
        }
    });
}

/// The keys that service namespaces were made for, of one contract or of all.
fn marked(kinds: &Kinds, cluster: &Cluster, contract: Option<&str>) -> Vec<ObjKey> {
    let all = kinds.namespaces.list(cluster);
    let marks = all.iter().filter_map(|object| made_for(&object.metadata));
    marks
        .filter(|(of, _)| contract.is_none_or(|contract| contract == *of))
        .map(|(of, name)| ObjKey::new(&cluster.id, of, name))
        .collect()
}

/// Who may have been refused a namespace because it existed.
fn waiting_for(kinds: &Kinds, cluster: &Cluster, namespace: &str) -> Vec<ObjKey> {
    let all = kinds.service_namespaces.list(cluster);
    let waits = all.iter().filter(|object| {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        namespace.ends_with(name) && object.status.as_ref().is_some_and(plan::is_refused)
    });
    waits.map(|object| ObjKey::of(&cluster.id, &object.metadata)).collect()
}

/// The `APIServiceNamespace`s of a cluster, and those of which only a service namespace is left.
pub(super) fn keys_in(kinds: &Kinds, cluster: &Cluster) -> Vec<ObjKey> {
    let mut keys = kinds.service_namespaces.keys(cluster);
    keys.extend(marked(kinds, cluster, None));
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A request failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The rights could not be put in place.
    #[error(transparent)]
    Rights(#[from] rights::Error),
    /// There can be no service namespace.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is nobody's.
    #[error(
        "this namespace is no contract namespace of this backend; make the APIServiceNamespace in the \
         namespace that the kubeconfig of the consumer names"
    )]
    NoContract,
    /// It is somebody's, which is not seen yet.
    #[error("the contract namespace is not seen yet")]
    Unseen,
}

impl Error {
    /// The reason of the condition; none for what passes within a moment.
    fn reason(&self) -> Option<&'static str> {
        if self.retry() == Retry::Conflict {
            return None;
        }
        Some(match self {
            Self::Call(CallError { cause: Cause::Forbidden(_), .. }) => "Forbidden",
            Self::Call(_) => "RequestFailed",
            Self::Rights(err) => err.reason(),
            Self::Refused(refusal) => refusal.reason(),
            Self::NoContract => "NoContractNamespace",
            Self::Unseen => return None,
        })
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Call(err) => err.retry(),
            Self::Rights(err) => err.retry(),
            Self::Refused(Refusal::Deleting(_)) => Retry::Transient,
            Self::Refused(_) | Self::NoContract => Retry::Denied,
            Self::Unseen => Retry::Conflict,
        }
    }
}

impl Reconciler for Controller {
    type Error = Error;

    const NAME: &'static str = "apiservicenamespace";

    async fn reconcile(&self, cluster: &Cluster, key: &ObjKey) -> Result<Option<Duration>, Error> {
        if cluster.info.leaving {
            return Ok(None);
        }
        let found = self.kinds.service_namespaces.get(cluster, &key.namespace, &key.name);
        let Some(object) = found else {
            return Ok(self.clean_up(cluster, key).await?);
        };
        self.gone.forget(key);
        if object.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let contract = self.kinds.contract(cluster, &key.namespace);
        if contract.as_ref().is_some_and(|contract| contract.deleting) {
            return Ok(None);
        }
        let result = match contract {
            Some(contract) => self.provide(cluster, &contract, &object).await,
            None => Err(match self.kinds.contract_live(cluster, &key.namespace).await {
                Ok(Some(_)) => Error::Unseen,
                Ok(None) => Error::NoContract,
                Err(err) => err.into(),
            }),
        };
        let said = match &result {
            Ok(name) => plan::provided(&object, name, Timestamp::now()),
            Err(err) => err.reason().and_then(|reason| {
                plan::refused(&object, reason, &err.to_string(), Timestamp::now())
            }),
        };
        if let Some(status) = said {
            let kind = &self.kinds.service_namespaces;
            // Owners may have been added since.
            let seen = kind.get(cluster, &key.namespace, &key.name).unwrap_or(object);
            kind.patch_status(cluster, &seen.metadata, json!(status)).await?;
        }
        result.map(|_| None)
    }

    fn retry(error: &Error) -> Retry {
        error.retry()
    }
}

impl Controller {
    /// Brings the service namespace and the rights in it in line; its name comes back.
    async fn provide(
        &self,
        cluster: &Cluster,
        contract: &Contract,
        object: &ApiServiceNamespace,
    ) -> Result<String, Error> {
        let kinds = &self.kinds;
        let mut exports = kinds.exports.list_namespace(cluster, &contract.namespace);
        exports.retain(|export| export.metadata.deletion_timestamp.is_none());
        if let Some(owners) = plan::further_owners(&object.metadata, &exports) {
            let fields = json!({ "metadata": { "ownerReferences": owners } });
            kinds.service_namespaces.patch(cluster, &object.metadata, fields).await?;
        }
        let known = object.status.as_ref().and_then(|status| status.namespace.as_deref());
        let wanted = Wanted {
            name: object.metadata.name.as_deref().unwrap_or_default(),
            uid: object.metadata.uid.as_deref().unwrap_or_default(),
            known,
        };
        let name = service::name(&self.rules, &contract.namespace, &wanted);
        let is_ours = self.namespace(cluster, contract, &wanted, &name).await?;
        for export in exports {
            let Some(rights) = self.rights.of(cluster, &export) else { continue };
            if is_ours {
                let export = export.metadata.name.as_deref().unwrap_or_default();
                let export = ExportName::new(&contract.namespace, export);
                self.rights.put_in(cluster, &name, &export, &rights.service).await?;
            } else if !rights.service.is_empty() {
                // Made under other flags: its konnector needs a role there, and would wait for it.
                return Err(Refusal::Taken(name).into());
            }
        }
        Ok(name)
    }

    /// Makes sure that the namespace exists; tells whether it is ours.
    async fn namespace(
        &self,
        cluster: &Cluster,
        contract: &Contract,
        wanted: &Wanted<'_>,
        name: &str,
    ) -> Result<bool, Error> {
        let kind = &self.kinds.namespaces;
        let cached = kind.get(cluster, "", name);
        let mut target: Option<ObjectMeta> = cached.map(|object| object.metadata.clone());
        let is_contract = self.kinds.contract(cluster, name).is_some();
        // Twice at most: the second time with the live object that was in the way of the first.
        for second in [false, true] {
            let plan =
                service::plan(&self.rules, contract, wanted, name, target.as_ref(), is_contract);
            if let (Err(Refusal::Deleting(_)), Some(stale)) = (&plan, &target) {
                self.delete_stale(cluster, contract, stale).await?;
            }
            match plan? {
                Plan::Use => return Ok(true),
                Plan::Borrow => return Ok(false),
                Plan::Adopt(fields) => {
                    kind.patch(cluster, &target.unwrap_or_default(), fields).await?;
                    return Ok(true);
                }
                Plan::Create(object) => match kind.create(cluster, &object).await {
                    Ok(_) => return Ok(true),
                    Err(CallError { cause: Cause::Exists, .. }) if !second => {
                        let live = kind.get_live(cluster, "", name).await?;
                        target = live.map(|live| live.metadata);
                    }
                    Err(err) => return Err(err.into()),
                },
            }
        }
        Err(Refusal::Taken(name.to_owned()).into())
    }

    /// Deletes what an earlier contract of the same name left: it is nobody's any more.
    async fn delete_stale(
        &self,
        cluster: &Cluster,
        contract: &Contract,
        stale: &ObjectMeta,
    ) -> Result<(), CallError> {
        let uid = annotation(stale, keys::ANNOTATION_CONTRACT_UID);
        if stale.deletion_timestamp.is_some() || !is_deletable(stale) || uid == Some(&contract.uid)
        {
            return Ok(());
        }
        if self.gone.contract(cluster, &contract.namespace, uid).await? == Standing::Gone {
            self.kinds.namespaces.delete(cluster, stale).await?;
        }
        Ok(())
    }

    /// Deletes service namespaces of which the `APIServiceNamespace` is gone.
    async fn clean_up(
        &self,
        cluster: &Cluster,
        key: &ObjKey,
    ) -> Result<Option<Duration>, CallError> {
        let mut left = self.kinds.namespaces.list(cluster);
        left.retain(|object| {
            made_for(&object.metadata) == Some((&key.namespace, &key.name))
                && is_deletable(&object.metadata)
                && object.metadata.deletion_timestamp.is_none()
        });
        if left.is_empty() || self.kinds.is_unbound(cluster, &key.namespace) {
            self.gone.forget(key);
            return Ok(None);
        }
        if let Some(pause) = self.gone.wait(key) {
            return Ok(Some(pause));
        }
        let kind = &self.kinds.service_namespaces;
        if !kind.is_gone(cluster, &key.namespace, &key.name).await? {
            return Ok(Some(UNPROVEN_AGAIN));
        }
        for object in left {
            let meta = &object.metadata;
            let contract = annotation(meta, keys::ANNOTATION_CONTRACT_UID);
            let bound = annotation(meta, keys::ANNOTATION_BINDING_UID);
            match self.gone.contract(cluster, &key.namespace, contract).await? {
                Standing::Unproven => return Ok(Some(UNPROVEN_AGAIN)),
                // The APIServiceNamespace was lost with all the rest; it stays until the consumer asks
                // for it again, or the contract goes.
                Standing::There(binding) if bound != Some(&binding) => {}
                Standing::There(_) | Standing::Gone => {
                    self.kinds.namespaces.delete(cluster, meta).await?;
                }
            }
        }
        self.gone.forget(key);
        Ok(None)
    }
}
