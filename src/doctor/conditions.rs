//! What is said on the objects themselves: by the backend, and by the konnectors of consumers.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::finding::{Finding, Object, Severity};
use super::heartbeat::silence;
use super::in_the_way;
use super::look::Look;
use crate::api::conditions::{Condition, ConditionStatus, HEALTHY, READY};
use crate::api::v1alpha2::{BindableResourcesRequest, ClusterBinding, Phase};
use crate::runtime::fleet::Cluster;

/// What is wrong with the claims is found in the binding itself.
pub(super) const CLAIMS: &str = "PermissionClaimsAccepted";

/// The objects of a cluster that say that something is wrong.
pub(super) fn findings(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    // Nothing is done there any more, so nothing is wrong with what is left.
    if cluster.info.leaving {
        return Vec::new();
    }
    let kinds = &look.kinds;
    let of = |kind, meta: &ObjectMeta| {
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        Object::of(cluster, kind, namespace.unwrap_or_default(), name.unwrap_or_default())
    };
    let mut all = Vec::new();
    let mut say = |object: &Object, said: &[Condition]| {
        all.extend(false_ones(said).map(|condition| finding(look, cluster, object, condition)));
    };
    for object in kinds.clusters.list(cluster) {
        let said = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        say(&of("Cluster", &object.metadata), &without(said, CLAIMS));
    }
    for object in kinds.cluster_bindings.list(cluster) {
        let said = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        say(&of("ClusterBinding", &object.metadata), &without(said, HEALTHY));
    }
    for object in kinds.exports.list(cluster) {
        let said = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        say(&of("APIServiceExport", &object.metadata), said);
    }
    for object in kinds.export_requests.list(cluster) {
        let said = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        say(&of("APIServiceExportRequest", &object.metadata), said);
    }
    for object in kinds.service_namespaces.list(cluster) {
        let said = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        say(&of("APIServiceNamespace", &object.metadata), said);
    }
    for object in kinds.cluster_bindings.list(cluster) {
        all.extend(silent(look, cluster, of("ClusterBinding", &object.metadata), &object));
    }
    for object in kinds.requests.list(cluster) {
        let of = of("BindableResourcesRequest", &object.metadata);
        all.extend(refused(look, cluster, of, &object));
    }
    all
}

/// What is wrong, without the summary of it.
pub(super) fn false_ones(conditions: &[Condition]) -> impl Iterator<Item = &Condition> {
    let wrong = |one: &&Condition| one.status == ConditionStatus::False && one.type_ != READY;
    conditions.iter().filter(wrong)
}

fn without(conditions: &[Condition], type_: &str) -> Vec<Condition> {
    conditions.iter().filter(|one| one.type_ != type_).cloned().collect()
}

fn finding(look: &Look, cluster: &Cluster, object: &Object, condition: &Condition) -> Finding {
    let message = condition.message.clone().unwrap_or_default();
    let finding = Finding {
        severity: Severity::of(condition),
        reason: condition.reason.clone().unwrap_or_else(|| condition.type_.clone()),
        object: object.clone(),
        ..Finding::default()
    };
    let finding = if object.kind == "APIServiceExportRequest" && is_final(look, cluster, object) {
        finding.repaired_by(delete(look, cluster, "apiserviceexportrequest", object))
    } else {
        match in_the_way::removal(look, cluster, object, &message) {
            Some((command, true)) => finding.ended_by(Some(command)),
            found => finding.repaired_by(found.map(|(command, _)| command)),
        }
    };
    Finding { message, ..finding }
}

/// A consumer that does not report.
fn silent(
    look: &Look,
    cluster: &Cluster,
    object: Object,
    binding: &ClusterBinding,
) -> Option<Finding> {
    let silence = silence(binding, Timestamp::now())?;
    let namespace = object.namespace.clone();
    let gone = silence.for_good && look.kinds.contract(cluster, &namespace).is_some();
    let end = ("namespace", "", namespace.as_str());
    let found = Finding {
        severity: silence.severity,
        reason: silence.reason,
        object,
        message: silence.message,
        ..Finding::default()
    };
    Some(found.ended_by(gone.then(|| look.kubectl(&cluster.id, "delete", end, &[])).flatten()))
}

/// A request that does not succeed.
fn refused(
    look: &Look,
    cluster: &Cluster,
    object: Object,
    request: &BindableResourcesRequest,
) -> Option<Finding> {
    let status = request.status.as_ref()?;
    let said = status.conditions.iter().find(|one| one.type_ == READY)?;
    (said.status == "False").then(|| {
        let failed = status.phase == Phase::Failed;
        let kind = "bindableresourcesrequest";
        let repair = failed.then(|| delete(look, cluster, kind, &object)).flatten();
        let (reason, message) = (said.reason.clone(), said.message.clone());
        Finding { reason, object, message, ..Finding::default() }.repaired_by(repair)
    })
}

impl Severity {
    /// How bad it is what a condition says.
    pub(super) fn of(condition: &Condition) -> Self {
        use crate::api::conditions::Severity as Said;
        match condition.severity {
            Some(Said::Info) => Self::Info,
            Some(Said::Warning) => Self::Warning,
            _ => Self::Error,
        }
    }
}

fn is_final(look: &Look, cluster: &Cluster, object: &Object) -> bool {
    let request = look.kinds.export_requests.get(cluster, &object.namespace, &object.name);
    request
        .and_then(|request| request.status.clone())
        .is_some_and(|status| status.phase == Phase::Failed)
}

fn delete(look: &Look, cluster: &Cluster, kind: &str, object: &Object) -> Option<String> {
    look.kubectl(&cluster.id, "delete", (kind, &object.namespace, &object.name), &[])
}
