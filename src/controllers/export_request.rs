//! `APIServiceExportRequest`: what a consumer asks for becomes an export.
//!
//! Watches: requests; exports, `BoundSchema`s, source schemas and contract namespaces, which move
//! pending requests. Writes: `BoundSchema`s, then roles, then the `APIServiceExport`, then the owners of
//! the `BoundSchema`s and the `APIServiceNamespace`s that were asked for, then the request's status;
//! deletes a request some time after it succeeded. Promises: the konnector never sees an export before
//! its schemas and rights; a request that ended is never taken up again; one that waits goes on by
//! itself when what it waits for comes.

mod make;
mod outcome;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Resource as _;
use serde_json::json;

pub(super) use self::outcome::Error;
use super::events::Events;
use crate::api::conditions::{self, Condition, EXPORTS_READY};
use crate::api::v1alpha2::{
    ApiServiceExportRequest, ApiServiceExportRequestStatus, Isolation, Phase, Scope,
};
use crate::consumer::contract::identity_of;
use crate::kinds::Kinds;
use crate::rights::{ExportRights, Shared};
use crate::runtime::cluster::ObjKey;
use crate::runtime::controller::Reconciler;
use crate::runtime::error::Retry;
use crate::runtime::fleet::Cluster;
use crate::runtime::queue::Queue;

/// How long a request stays after its export was ready: the CLI reads the result, and a second bind
/// under the same name must not find it (konnector.md section 8, 10 and 11).
const RETENTION: Duration = Duration::from_mins(10);

/// What the flags say about exports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportSettings {
    /// `--consumer-scope`.
    pub informer_scope: Scope,
    /// `--isolation`.
    pub isolation: Isolation,
}

/// Reconciles requests.
pub(super) struct Controller {
    pub(super) kinds: Arc<Kinds>,
    pub(super) rights: Arc<ExportRights>,
    pub(super) events: Arc<Events>,
    pub(super) settings: ExportSettings,
}

/// Asks for pending requests when something that they may wait for changes.
pub(super) fn subscribe(kinds: &Arc<Kinds>, queue: &Arc<Queue>) {
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.exports.subscribe(move |fleet, delta| {
        if let (Some(cluster), Some(object)) = (fleet.cluster(&delta.scope.cluster), delta.object())
        {
            wake(&k, &q, &cluster, object.metadata.namespace.as_deref());
        }
    });
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.bound_schemas.subscribe(move |fleet, delta| {
        if let (Some(cluster), Some(object)) = (fleet.cluster(&delta.scope.cluster), delta.object())
        {
            wake(&k, &q, &cluster, object.metadata.namespace.as_deref());
        }
    });
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.sources.subscribe(move |fleet, scope, resource| {
        if let Some(cluster) = fleet.cluster(&scope.cluster) {
            for request in k.export_requests.list(&cluster) {
                let mut wanted = request.spec.resources.iter();
                if wanted.any(|wanted| wanted.group_resource().to_string() == resource) {
                    ask(&q, &cluster, &request);
                }
            }
        }
    });
    // A contract that came or went: the next one may be the first of its cluster now.
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.namespaces.subscribe(move |fleet, delta| {
        let came_or_went = delta.old.is_some() != delta.new.is_some();
        let Some(object) = delta.object().filter(|_| came_or_went) else { return };
        if identity_of(&object.metadata).is_none() {
            return;
        }
        let Some(cluster) = fleet.cluster(&delta.scope.cluster) else { return };
        let contract = object.metadata.name.as_deref().unwrap_or_default();
        for request in k.export_requests.list(&cluster) {
            let here = request.metadata.namespace.as_deref() == Some(contract);
            if here || said_reason(&request) == Some(Shared::REASON) {
                ask(&q, &cluster, &request);
            }
        }
    });
}

/// Why a request waits, as its status says.
pub(super) fn said_reason(request: &ApiServiceExportRequest) -> Option<&str> {
    let status = request.status.as_ref()?;
    conditions::get(&status.conditions, EXPORTS_READY)?.reason.as_deref()
}

fn wake(kinds: &Kinds, queue: &Queue, cluster: &Cluster, namespace: Option<&str>) {
    for request in kinds.export_requests.list_namespace(cluster, namespace.unwrap_or_default()) {
        ask(queue, cluster, &request);
    }
}

/// Asks for a request unless it has ended.
fn ask(queue: &Queue, cluster: &Cluster, request: &ApiServiceExportRequest) {
    if !phase_of(request).is_final() {
        queue.add(ObjKey::of(&cluster.id, &request.metadata));
    }
}

/// How far a request has come.
pub(super) fn phase_of(request: &ApiServiceExportRequest) -> Phase {
    request.status.as_ref().map(|status| status.phase.clone()).unwrap_or_default()
}

impl Reconciler for Controller {
    type Error = Error;

    const NAME: &'static str = "apiserviceexportrequest";

    async fn reconcile(&self, cluster: &Cluster, key: &ObjKey) -> Result<Option<Duration>, Error> {
        if cluster.info.leaving {
            return Ok(None);
        }
        let Some(request) = self.kinds.export_requests.get(cluster, &key.namespace, &key.name)
        else {
            return Ok(None);
        };
        if request.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        match phase_of(&request) {
            Phase::Succeeded => return self.expire(cluster, &request).await,
            Phase::Failed => return Ok(None),
            Phase::Pending | Phase::Other(_) => {}
        }
        let result = self.export(cluster, key, &request).await;
        if let Err(err) = &result {
            self.say(cluster, &request, err).await?;
        } else {
            let mut status = request.status.clone().unwrap_or_default();
            status.phase = Phase::Succeeded;
            let now = Timestamp::now();
            conditions::set(&mut status.conditions, Condition::ok(EXPORTS_READY), now);
            conditions::summarize(&mut status.conditions, now);
            self.write_status(cluster, &request, &status).await?;
        }
        result.map(|()| Some(RETENTION))
    }

    fn retry(error: &Error) -> Retry {
        error.retry()
    }
}

impl Controller {
    /// Writes an outcome into the status, where the consumer looks, and an Event if someone has to act.
    async fn say(
        &self,
        cluster: &Cluster,
        request: &ApiServiceExportRequest,
        err: &Error,
    ) -> Result<(), Error> {
        let Some(row) = err.row() else {
            return Ok(());
        };
        let now = Timestamp::now();
        let mut status = request.status.clone().unwrap_or_default();
        let message = err.message();
        if row.is_final {
            status.phase = Phase::Failed;
            status.terminal_message = Some(message.clone());
        }
        let condition =
            Condition::failed(row.condition, conditions::Severity::Error, row.reason, &message);
        conditions::set(&mut status.conditions, condition, now);
        conditions::summarize(&mut status.conditions, now);
        let written = self.write_status(cluster, request, &status).await?;
        let needs_someone = !matches!(err.retry(), Retry::Conflict | Retry::Transient);
        if written && needs_someone {
            self.events.warn(cluster, &request.object_ref(&()), row.reason, &message).await;
        }
        Ok(())
    }

    /// Writes the status if it differs; tells whether it did.
    async fn write_status(
        &self,
        cluster: &Cluster,
        request: &ApiServiceExportRequest,
        status: &ApiServiceExportRequestStatus,
    ) -> Result<bool, Error> {
        if request.status.as_ref() == Some(status) {
            return Ok(false);
        }
        self.kinds.export_requests.patch_status(cluster, &request.metadata, json!(status)).await?;
        Ok(true)
    }

    /// Deletes a request that succeeded when its time is up.
    async fn expire(
        &self,
        cluster: &Cluster,
        request: &ApiServiceExportRequest,
    ) -> Result<Option<Duration>, Error> {
        let left = plan::time_left(request, RETENTION, Timestamp::now());
        if left.is_zero() {
            self.kinds.export_requests.delete(cluster, &request.metadata).await?;
            return Ok(None);
        }
        Ok(Some(left))
    }
}
