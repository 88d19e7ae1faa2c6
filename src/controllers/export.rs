//! `APIServiceExport`: keeps what belongs to an export in step with it.
//!
//! Watches: exports; their `BoundSchema`s and the source schemas; roles and bindings of ours; the
//! requests, `APIServiceNamespace`s, `ClusterBinding` and contract namespace of their consumer. Writes: `BoundSchema`s, first; then the export's hash annotation, by which
//! the konnector notices; roles and bindings; the conditions `ProviderInSync`, `SourceInSync`,
//! `RightsGranted` and `Isolated`, beside those of the konnector. Of an export that is gone: deletes its
//! roles, bindings and ownerless `BoundSchema`s. Promises: a schema changes only where the policy of the
//! request says so and only so far as a running konnector can follow; the annotation changes after the
//! schema; nothing is taken away, and no source said to be gone, because a cache lost sight of it.

mod schemas;
mod status;
mod wakes;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use self::schemas::{Held, REFUSED_AGAIN, Schemas};
use self::status::Exposure;
pub(super) use self::wakes::{keys_in, subscribe};
use crate::api::keys;
use crate::api::v1alpha2::{ApiServiceExport, BoundSchemaSpec};
use crate::consumer::bound_schema;
use crate::consumer::contract::{Contract, annotation};
use crate::consumer::rights::{ExportName, Rights, exposure};
use crate::consumer::schema;
use crate::gone::{Gone, Standing, UNPROVEN_AGAIN};
use crate::kinds::Kinds;
use crate::rights::{self, ExportRights, Shared};
use crate::runtime::cluster::ObjKey;
use crate::runtime::controller::Reconciler;
use crate::runtime::error::{CallError, Retry};
use crate::runtime::fleet::Cluster;

use super::export_request::{phase_of, said_reason};

/// Reconciles exports.
pub(super) struct Controller {
    kinds: Arc<Kinds>,
    rights: Arc<ExportRights>,
    gone: Arc<Gone>,
    schemas: Schemas,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A request failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The consumer's rights could not be put in place.
    #[error(transparent)]
    Rights(#[from] rights::Error),
}

/// What became of the rights of an export.
struct Granted {
    /// Whether what may be granted is in place.
    put: Result<(), rights::Error>,
    /// How far the consumer's credential reaches by that.
    exposure: Option<Exposure>,
    /// A part was not granted, since only the first consumer of the cluster may have it.
    withheld: Option<Shared>,
}

impl Granted {
    /// Of an export that needs nothing yet.
    const NOTHING: Self = Self { put: Ok(()), exposure: None, withheld: None };

    /// Why the consumer lacks something for good: reason and message of a condition.
    fn refused(&self) -> Option<(&'static str, String)> {
        match (&self.put, &self.withheld) {
            (Err(err), _) if err.retry() == Retry::Denied => Some((err.reason(), err.to_string())),
            (_, Some(shared)) => Some((Shared::REASON, shared.to_string())),
            _ => None,
        }
    }
}

impl Reconciler for Controller {
    type Error = Error;

    const NAME: &'static str = "apiserviceexport";

    async fn reconcile(&self, cluster: &Cluster, key: &ObjKey) -> Result<Option<Duration>, Error> {
        if cluster.info.leaving {
            return Ok(None);
        }
        let name = ExportName::new(&key.namespace, &key.name);
        let Some(export) = self.kinds.exports.get(cluster, &key.namespace, &key.name) else {
            return Ok(self.clean_up(cluster, key, &name).await?);
        };
        self.gone.forget(key);
        let contract = self.kinds.contract(cluster, &key.namespace);
        let Some(contract) = contract.filter(|contract| !contract.deleting) else {
            return Ok(None);
        };
        if export.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        // The request sees to the owners, as long as nothing is in its way.
        let request = self.kinds.export_requests.get(cluster, &key.namespace, &key.name);
        let goes_well = request.is_some_and(|request| said_reason(&request).is_none());
        let adopts = !(goes_well && self.is_asked_for(cluster, &name));
        let schemas = self.schemas.sync(cluster, &name, &export, adopts).await?;
        let export = self.annotate(cluster, export, &schemas).await?;
        let rights = self.rights.of(cluster, &export);
        let granted = match &rights {
            Some(rights) => self.grant(cluster, &contract, &export, &name, rights).await,
            None => Granted::NOTHING,
        };
        let (refused, exposure) = (granted.refused(), granted.exposure);
        let seen = status::Seen { schemas: &schemas, refused, exposure };
        if let Some(conditions) = status::plan(export.conditions(), &seen, Timestamp::now()) {
            let status = json!({ "conditions": conditions });
            self.kinds.exports.patch_status(cluster, &export.metadata, status).await?;
        }
        granted.put?;
        let refused = |state: &schemas::State| state.held.as_ref().is_some_and(Held::may_pass);
        Ok(schemas.iter().any(refused).then_some(REFUSED_AGAIN))
    }

    fn retry(error: &Error) -> Retry {
        match error {
            Error::Call(err) => err.retry(),
            Error::Rights(err) => err.retry(),
        }
    }
}

impl Controller {
    pub(super) fn new(kinds: Arc<Kinds>, rights: Arc<ExportRights>, gone: Arc<Gone>) -> Self {
        let schemas = Schemas::new(Arc::clone(&kinds));
        Self { kinds, rights, gone, schemas }
    }

    /// Grants what an export needs. Of what only the first consumer of a cluster may have, another one keeps what it has
    /// from us and gets no more: what v0.8.1 gave reaches no further because of us.
    async fn grant(
        &self,
        cluster: &Cluster,
        contract: &Contract,
        export: &ApiServiceExport,
        name: &ExportName,
        rights: &Rights,
    ) -> Granted {
        let shared = self.rights.check_shared(cluster, contract, &export.spec, rights).err();
        if shared.is_some() && !self.rights.has_cluster_wide(cluster, name) {
            let narrow = Rights { cluster: Vec::new(), ..rights.clone() };
            let put = self.rights.put(cluster, contract, name, &narrow).await;
            return Granted { put, exposure: None, withheld: shared };
        }
        let exposure = match shared {
            Some(Shared) => Some(Exposure::Unsafe),
            None => exposure(rights).map(Exposure::Known),
        };
        let put = self.rights.put(cluster, contract, name, rights).await;
        Granted { put, exposure, withheld: None }
    }

    /// Whether a request for this export is at work. One that is being deleted is not, for as long as
    /// its consumer may keep it from going.
    fn is_asked_for(&self, cluster: &Cluster, name: &ExportName) -> bool {
        let request = self.kinds.export_requests.get(cluster, &name.namespace, &name.name);
        request.is_some_and(|request| {
            request.metadata.deletion_timestamp.is_none() && !phase_of(&request).is_final()
        })
    }

    /// Tells the konnector that a schema changed, after it has (konnector.md section 3).
    async fn annotate(
        &self,
        cluster: &Cluster,
        export: Arc<ApiServiceExport>,
        schemas: &[schemas::State],
    ) -> Result<Arc<ApiServiceExport>, CallError> {
        let hashes: Option<Vec<&str>> =
            schemas.iter().map(|state| Some(state.facts.as_ref()?.hash.as_str())).collect();
        let Some(hashes) = hashes else {
            return Ok(export);
        };
        let known = |key| annotation(&export.metadata, key);
        let annotations = if let [hash] = hashes[..] {
            if known(keys::ANNOTATION_SOURCE_SPEC_HASH) == Some(hash) {
                return Ok(export);
            }
            json!({ keys::ANNOTATION_SOURCE_SPEC_HASH: hash })
        } else {
            let digest = bound_schema::digest(hashes);
            if known(keys::ANNOTATION_SCHEMAS_DIGEST) == Some(&digest) {
                return Ok(export);
            }
            let Some(specs) = self.read_specs(cluster, &export, schemas).await? else {
                return Ok(export);
            };
            json!({
                keys::ANNOTATION_SOURCE_SPEC_HASH: schema::hash(&specs),
                keys::ANNOTATION_SCHEMAS_DIGEST: digest,
            })
        };
        let fields = json!({ "metadata": { "annotations": annotations } });
        self.kinds.exports.patch(cluster, &export.metadata, fields).await
    }

    async fn read_specs(
        &self,
        cluster: &Cluster,
        export: &ApiServiceExport,
        schemas: &[schemas::State],
    ) -> Result<Option<Vec<BoundSchemaSpec>>, CallError> {
        let namespace = export.metadata.namespace.as_deref().unwrap_or_default();
        let mut specs = Vec::new();
        for state in schemas {
            let name = state.resource.to_string();
            let live = self.kinds.bound_schemas.get_live(cluster, namespace, &name).await?;
            let Some(live) = live else { return Ok(None) };
            specs.push(live.spec);
        }
        Ok(Some(specs))
    }

    /// Removes what an export left behind.
    async fn clean_up(
        &self,
        cluster: &Cluster,
        key: &ObjKey,
        name: &ExportName,
    ) -> Result<Option<Duration>, CallError> {
        self.schemas.forget(cluster, &name.namespace);
        // It is on its way: its roles come first.
        if self.is_asked_for(cluster, name) {
            self.gone.forget(key);
            return Ok(None);
        }
        let mut orphans = self.kinds.bound_schemas.list_namespace(cluster, &name.namespace);
        orphans.retain(|object| {
            ExportName::of(&object.metadata).as_ref() == Some(name)
                && object.metadata.owner_references.iter().flatten().next().is_none()
        });
        let nothing = orphans.is_empty() && !self.rights.has_leftovers(cluster, name);
        if nothing || self.kinds.is_unbound(cluster, &name.namespace) {
            self.gone.forget(key);
            return Ok(None);
        }
        if let Some(left) = self.gone.wait(key) {
            return Ok(Some(left));
        }
        if !self.kinds.exports.is_gone(cluster, &name.namespace, &name.name).await? {
            return Ok(Some(UNPROVEN_AGAIN));
        }
        let standing = self.gone.contract(cluster, &name.namespace, None).await?;
        if standing == Standing::Unproven {
            return Ok(Some(UNPROVEN_AGAIN));
        }
        if self.is_asked_for(cluster, name) {
            return Ok(None);
        }
        self.rights.remove(cluster, name).await?;
        for orphan in orphans {
            self.kinds.bound_schemas.delete_unchanged(cluster, &orphan.metadata).await?;
        }
        self.gone.forget(key);
        Ok(None)
    }
}
