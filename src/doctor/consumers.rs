//! Consumers that are not served, of whom nobody knows whose they are, or who reach too far.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use super::conditions::false_ones;
use super::finding::{Finding, Object, Severity};
use super::look::Look;
use super::reason::Reason;
use crate::api::keys;
use crate::api::v1alpha2::{ApiServiceExport, Scope};
use crate::consumer::contract::{annotation, identity_of};
use crate::consumer::rights::rights;
use crate::rights::Shared;
use crate::runtime::fleet::Cluster;

/// What is wrong with the consumers of a cluster.
pub(super) fn findings(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    if cluster.info.leaving {
        return Vec::new();
    }
    let mut all = Vec::new();
    for namespace in look.kinds.namespaces.list(cluster) {
        let found = unbound(look, cluster, &namespace.metadata);
        all.extend(found.or_else(|| unrecorded(look, cluster, &namespace.metadata)));
    }
    all.extend(shared(look, cluster));
    all
}

/// A contract namespace of which the heart is gone. It may have been lost with all of our objects, when the API was
/// unbound: then the consumer only has to bind again, so no command is offered that would delete what it has.
fn unbound(look: &Look, cluster: &Cluster, meta: &ObjectMeta) -> Option<Finding> {
    let name = meta.name.as_deref().unwrap_or_default();
    let is_lost = look.shows_all(cluster)
        && identity_of(meta).is_some()
        && look.kinds.is_unbound(cluster, name);
    if !is_lost {
        return None;
    }
    let is_contract = look.kinds.contract(cluster, name).is_some();
    let (severity, whose) = if is_contract {
        (Severity::Error, "this contract namespace has no ClusterBinding")
    } else {
        // Anybody can set the annotation.
        (
            Severity::Warning,
            "this namespace carries the identity of a consumer, as v0.8.1 marks contract namespaces, and has no ClusterBinding",
        )
    };
    let message = format!(
        "{whose}, so nobody is served by it. When its consumer binds again it gets back what it has here; to end it instead, \
         with all of its data, delete the namespace"
    );
    let object = Object::of(cluster, "Namespace", "", name);
    Some(Finding::new(severity, Reason::ContractWithoutBinding, object, message))
}

/// A contract namespace of which nobody knows who bound it. Whoever is named gets the credential of the consumer, so that is
/// for an admin to say.
fn unrecorded(look: &Look, cluster: &Cluster, meta: &ObjectMeta) -> Option<Finding> {
    let name = meta.name.as_deref().unwrap_or_default();
    look.kinds.contract(cluster, name)?;
    let known = [keys::ANNOTATION_BOUND_BY, keys::ANNOTATION_TRANSFER_TO];
    let is_known = known.iter().any(|key| annotation(meta, key).is_some());
    (!is_known).then(|| {
        let message = format!(
            "v0.8.1 did not record who bound this consumer, so nobody may bind it again until an admin says whose it is: annotate \
             the namespace with {key}=namespace:<namespace of its requests>, or for a user of the HTTP API with \
             {key}=user:<issuer>#<subject>; who is named gets the credential of this consumer",
            key = keys::ANNOTATION_TRANSFER_TO
        );
        let object = Object::of(cluster, "Namespace", "", name);
        Finding::new(Severity::Info, Reason::NobodyRecorded, object, message)
    })
}

/// Exports that only the first consumer of a cluster may have, and that a later one has, as v0.8.1 gives them to all. A
/// running backend says so in a condition of the export.
fn shared(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    let rights_of = look.export_rights();
    let shared = |export: &ApiServiceExport| {
        let contract = look.kinds.contract(cluster, export.metadata.namespace.as_deref()?)?;
        // Without any BoundSchema that this backend made, at least what would hold for a namespaced resource.
        let known = rights_of.of(cluster, export);
        let rights = known.or_else(|| rights(&export.spec, |_| Some(Scope::Namespaced)))?;
        rights_of.check_shared(cluster, &contract, &export.spec, &rights).err()
    };
    let is_said = |export: &ApiServiceExport| {
        false_ones(export.conditions()).any(|one| one.reason.as_deref() == Some(Shared::REASON))
    };
    let exports = look.kinds.exports.list(cluster).into_iter();
    let found = exports.filter(|export| !is_said(export)).filter_map(|export| {
        let message = shared(&export)?.to_string();
        let namespace = export.namespace().unwrap_or_default();
        let object = Object::of(cluster, "APIServiceExport", &namespace, &export.name_any());
        Some(Finding::new(Severity::Error, Reason::SharedClusterScope, object, message))
    });
    found.collect()
}
