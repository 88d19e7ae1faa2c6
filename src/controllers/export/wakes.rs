//! Which change of what asks for which export.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Resource;

use crate::api::v1alpha2::ApiServiceExport;
use crate::consumer::contract::identity_of;
use crate::consumer::rights::ExportName;
use crate::controllers::export_request::phase_of;
use crate::kinds::Kinds;
use crate::rights::Shared;
use crate::runtime::cluster::ObjKey;
use crate::runtime::fleet::Cluster;
use crate::runtime::kind::{Kind, Wire};
use crate::runtime::queue::Queue;

/// Asks for an export when something of it changes.
pub(in crate::controllers) fn subscribe(kinds: &Arc<Kinds>, queue: &Arc<Queue>) {
    made_for(&kinds.roles, queue);
    made_for(&kinds.role_bindings, queue);
    made_for(&kinds.cluster_roles, queue);
    made_for(&kinds.cluster_role_bindings, queue);
    // The resources of a BoundSchema's export name it, whoever made it.
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.bound_schemas.subscribe(move |fleet, delta| {
        let Some(object) = delta.object() else { return };
        let meta = &object.metadata;
        if let Some(export) = ExportName::of(meta) {
            q.add(ObjKey::new(&delta.scope.cluster, &export.namespace, &export.name));
        } else if let Some(cluster) = fleet.cluster(&delta.scope.cluster) {
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let name = meta.name.as_deref().unwrap_or_default();
            wake(&k, &q, &cluster, Some(namespace), |export| has(export, name));
        }
    });
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.sources.subscribe(move |fleet, scope, resource| {
        if let Some(cluster) = fleet.cluster(&scope.cluster) {
            wake(&k, &q, &cluster, None, |export| has(export, resource));
        }
    });
    // A service namespace that came up while the export was made has its roles from one of the two.
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.service_namespaces.subscribe(move |fleet, delta| {
        let Some(object) = &delta.new else { return };
        if let Some(cluster) = fleet.cluster(&delta.scope.cluster) {
            wake(&k, &q, &cluster, object.metadata.namespace.as_deref(), |_| true);
        }
    });
    // An export is nobody's without its contract namespace; without a ClusterBinding nothing can be said
    // of what is missing, until the namespace goes too.
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.cluster_bindings.subscribe(move |fleet, delta| {
        let (None, Some(object)) = (&delta.old, &delta.new) else { return };
        if let Some(cluster) = fleet.cluster(&delta.scope.cluster) {
            wake_all(&k, &q, &cluster, object.metadata.namespace.as_deref());
        }
    });
    let (k, q) = (Arc::clone(kinds), Arc::clone(queue));
    kinds.namespaces.subscribe(move |fleet, delta| {
        let came_or_went = delta.old.is_some() != delta.new.is_some();
        let Some(object) = delta.object().filter(|_| came_or_went) else { return };
        let is_contract = identity_of(&object.metadata).is_some();
        if is_contract && let Some(cluster) = fleet.cluster(&delta.scope.cluster) {
            wake_all(&k, &q, &cluster, object.metadata.name.as_deref());
            // Another consumer may be the first of its cluster now.
            wake(&k, &q, &cluster, None, is_shared);
        }
    });
    // An export of the same name may have left something behind that the request needed.
    let q = Arc::clone(queue);
    kinds.export_requests.subscribe(move |_, delta| {
        let ended = delta.new.as_ref().is_none_or(|request| {
            phase_of(request).is_final() || request.metadata.deletion_timestamp.is_some()
        });
        if let Some(request) = delta.object().filter(|_| ended) {
            q.add(ObjKey::of(&delta.scope.cluster, &request.metadata));
        }
    });
}

/// Asks for the export that an object was made for.
fn made_for<K: Wire>(kind: &Kind<K>, queue: &Arc<Queue>) {
    let queue = Arc::clone(queue);
    kind.subscribe(move |_, delta| {
        let export = delta.object().and_then(|object| ExportName::of((**object).meta()));
        if let Some(export) = export {
            queue.add(ObjKey::new(&delta.scope.cluster, &export.namespace, &export.name));
        }
    });
}

/// Whether it was said of an export that it is for the first consumer of a cluster only.
fn is_shared(export: &ApiServiceExport) -> bool {
    export.conditions().iter().any(|condition| condition.reason.as_deref() == Some(Shared::REASON))
}

fn has(export: &ApiServiceExport, resource: &str) -> bool {
    export.spec.resources.iter().any(|known| known.group_resource().to_string() == resource)
}

fn wake(
    kinds: &Kinds,
    queue: &Queue,
    cluster: &Cluster,
    namespace: Option<&str>,
    concerns: impl Fn(&ApiServiceExport) -> bool,
) {
    let exports = match namespace {
        Some(namespace) => kinds.exports.list_namespace(cluster, namespace),
        None => kinds.exports.list(cluster),
    };
    for export in exports.iter().filter(|export| concerns(export)) {
        queue.add(ObjKey::of(&cluster.id, &export.metadata));
    }
}

/// Asks for all exports of a contract namespace, and for those of which only something is left.
fn wake_all(kinds: &Kinds, queue: &Queue, cluster: &Cluster, contract: Option<&str>) {
    for export in exports_in(kinds, cluster, contract) {
        queue.add(ObjKey::new(&cluster.id, &export.namespace, &export.name));
    }
}

/// The exports of a cluster, and those of which only something is left.
pub(in crate::controllers) fn keys_in(kinds: &Kinds, cluster: &Cluster) -> Vec<ObjKey> {
    let all = exports_in(kinds, cluster, None);
    all.iter().map(|export| ObjKey::new(&cluster.id, &export.namespace, &export.name)).collect()
}

/// The same, of one contract namespace or of all.
fn exports_in(kinds: &Kinds, cluster: &Cluster, contract: Option<&str>) -> BTreeSet<ExportName> {
    fn left<'a, K: Resource + 'a>(
        all: &'a [Arc<K>],
        contract: Option<&'a str>,
    ) -> impl Iterator<Item = ExportName> + 'a {
        all.iter().filter_map(move |object| ExportName::of_contract((**object).meta(), contract))
    }
    let own = match contract {
        Some(contract) => kinds.exports.list_namespace(cluster, contract),
        None => kinds.exports.list(cluster),
    };
    let mut names: BTreeSet<ExportName> = own
        .iter()
        .map(|export| ObjKey::of(&cluster.id, &export.metadata))
        .map(|key| ExportName::new(&key.namespace, &key.name))
        .collect();
    names.extend(left(&kinds.roles.list(cluster), contract));
    names.extend(left(&kinds.role_bindings.list(cluster), contract));
    names.extend(left(&kinds.cluster_roles.list(cluster), contract));
    names.extend(left(&kinds.cluster_role_bindings.list(cluster), contract));
    names.extend(left(&kinds.bound_schemas.list(cluster), contract));
    names
}
