//! What is of no use any more: ours without an owner, and what v0.8.1 left.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::finding::{Finding, Object, Severity};
use super::look::{Listed, Look};
use crate::api::keys;
use crate::consumer::bound_schema;
use crate::consumer::ours;
use crate::consumer::rights::ExportName;
use crate::consumer::service_namespace::made_for;
use crate::runtime::fleet::Cluster;

/// The leftovers in a cluster.
pub(super) fn findings(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    if cluster.info.leaving {
        return Vec::new();
    }
    let mut all: Vec<Finding> =
        look.rights_in(cluster).filter_map(|listed| right(look, cluster, listed)).collect();
    all.extend(schemas(look, cluster));
    all.extend(namespaces(look, cluster));
    all
}

/// What a role or binding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// In use, or none of our business.
    Fine,
    /// Ours, for an export that is gone.
    Orphaned,
    /// The role of v0.8.1 that all consumers share.
    Shared,
    /// A part of that.
    Aggregated,
}

fn judge(meta: &ObjectMeta, exists: impl Fn(&ExportName) -> bool) -> Right {
    if ours::is_labelled(meta) {
        return match ExportName::of(meta) {
            Some(export) if !exists(&export) => Right::Orphaned,
            _ => Right::Fine,
        };
    }
    if meta.name.as_deref() == Some(keys::LEGACY_EXPORTS_ROLE) {
        return Right::Shared;
    }
    let labels = meta.labels.as_ref();
    match labels.and_then(|labels| labels.get(keys::LABEL_AGGREGATE_TO_PARENT)) {
        Some(_) => Right::Aggregated,
        None => Right::Fine,
    }
}

fn right(look: &Look, cluster: &Cluster, listed: &Listed) -> Option<Finding> {
    let exists =
        |export: &ExportName| look.kinds.exports.is_known(cluster, &export.namespace, &export.name);
    let (severity, reason, message) = match judge(&listed.metadata, exists) {
        Right::Fine => return None,
        Right::Orphaned => (
            Severity::Warning,
            "OrphanedRights",
            "the export that it was made for is gone; a running backend removes it by itself",
        ),
        Right::Shared => (
            Severity::Error,
            "SharedExportRole",
            "v0.8.1 left it: whoever it binds reaches the resources of all exports of this workspace. Each consumer that is \
             served has rights of its own by now",
        ),
        Right::Aggregated => (
            Severity::Warning,
            "AggregatedRole",
            "v0.8.1 left it, to be part of the role that all consumers share; each consumer that is served has rights of its \
             own by now",
        ),
    };
    let name = listed.metadata.name.as_deref().unwrap_or_default();
    let namespace = listed.metadata.namespace.as_deref().unwrap_or_default();
    let kind = listed.kind.to_lowercase();
    Some(Finding {
        severity,
        reason: reason.to_owned(),
        object: Object::of(cluster, listed.kind, namespace, name),
        message: message.to_owned(),
        repair: look.kubectl(cluster, "delete", (&kind, namespace, name), &[]),
    })
}

fn schemas(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    let mut all = Vec::new();
    for schema in look.kinds.bound_schemas.list(cluster) {
        let meta = &schema.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let Some(export) = ExportName::of(meta).filter(|_| bound_schema::is_ours(meta)) else {
            continue;
        };
        let kinds = &look.kinds;
        let used = kinds.exports.is_known(cluster, &export.namespace, &export.name)
            || kinds.export_requests.is_known(cluster, &export.namespace, &export.name);
        if !used {
            all.push(Finding {
                severity: Severity::Warning,
                reason: "OrphanedBoundSchema".to_owned(),
                object: Object::of(cluster, "BoundSchema", namespace, name),
                message: "neither the export nor the request that it was made for is there"
                    .to_owned(),
                repair: look.kubectl(cluster, "delete", ("boundschema", namespace, name), &[]),
            });
        }
    }
    all
}

fn namespaces(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    let mut all = Vec::new();
    for namespace in look.kinds.namespaces.list(cluster) {
        let meta = &namespace.metadata;
        let Some((contract, wanted)) = made_for(meta) else { continue };
        if look.kinds.service_namespaces.is_known(cluster, contract, wanted) {
            continue;
        }
        let name = meta.name.as_deref().unwrap_or_default();
        all.push(Finding {
            severity: Severity::Warning,
            reason: "OrphanedNamespace".to_owned(),
            object: Object::of(cluster, "Namespace", "", name),
            message: format!(
                "APIServiceNamespace {contract}/{wanted}, for which it was made, is gone. A running backend removes it where that \
                 was meant; look at what is in it first"
            ),
            repair: look.kubectl(cluster, "delete", ("namespace", "", name), &[]),
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_judged_by_their_marks() {
        let meta = |name: &str, labels: &[(&str, &str)], export: Option<&str>| ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
            annotations: export
                .map(|export| [(keys::ANNOTATION_EXPORT.to_owned(), export.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let ours = [(keys::LABEL_MANAGED, "true")];
        let exists = |export: &ExportName| export.name == "cow";
        for (meta, expected) in [
            (meta("a", &ours, Some("ns/cow")), Right::Fine),
            (meta("a", &ours, Some("ns/gone")), Right::Orphaned),
            (meta("kube-binder", &ours, None), Right::Fine),
            (meta("kube-binder-exports", &[], None), Right::Shared),
            (
                meta(
                    "kube-binder-resources-ns-cow",
                    &[(keys::LABEL_AGGREGATE_TO_PARENT, "true")],
                    None,
                ),
                Right::Aggregated,
            ),
            (meta("somebody", &[], None), Right::Fine),
        ] {
            assert_eq!(judge(&meta, exists), expected, "{meta:?}");
        }
    }
}
