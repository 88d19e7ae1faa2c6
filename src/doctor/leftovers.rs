//! What is of no use any more: ours without an owner, and what v0.8.1 left.
//!
//! That something is not seen is no proof that it is gone: where a kind is not served, or a consumer has lost its
//! `ClusterBinding` and with it all of our objects at once, a controller deletes nothing, and nothing is said here.

use std::cell::LazyCell;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::finding::{Finding, Object, Severity};
use super::granted::ungranted;
use super::lists::Listed;
use super::look::Look;
use super::reason::Reason;
use crate::api::keys;
use crate::api::v1alpha2::Phase;
use crate::consumer::bound_schema;
use crate::consumer::contract::{Contract, annotation};
use crate::consumer::ours;
use crate::consumer::rights::ExportName;
use crate::consumer::service_namespace::{is_deletable, made_for};
use crate::controllers::reads_schemas_of_others;
use crate::runtime::fleet::Cluster;

/// The leftovers in a cluster.
pub(super) fn findings(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    if cluster.info.leaving {
        return Vec::new();
    }
    let needed = LazyCell::new(|| ungranted(look, cluster));
    let needed = || needed.clone();
    let unused = unused(look, cluster);
    let rights = look.rights_in(cluster);
    let mut all: Vec<Finding> =
        rights.filter_map(|listed| right(look, cluster, listed, &unused, needed)).collect();
    if look.shows_all(cluster) {
        all.extend(schemas(look, cluster));
        all.extend(namespaces(look, cluster));
    }
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
    /// Another one of v0.8.1 that is of no use.
    Unused,
}

/// What a role or binding is, where `exists` knows the exports and `unused` the names that the flags do without.
fn judge(meta: &ObjectMeta, exists: impl Fn(&ExportName) -> bool, unused: &[&str]) -> Right {
    if ours::is_labelled(meta) {
        return match ExportName::of(meta) {
            Some(export) if !exists(&export) => Right::Orphaned,
            _ => Right::Fine,
        };
    }
    let name = meta.name.as_deref().unwrap_or_default();
    if name == keys::LEGACY_EXPORTS_ROLE {
        return Right::Shared;
    }
    if unused.contains(&name) {
        return Right::Unused;
    }
    let labels = meta.labels.as_ref();
    match labels.and_then(|labels| labels.get(keys::LABEL_AGGREGATE_TO_PARENT)) {
        Some(_) => Right::Aggregated,
        None => Right::Fine,
    }
}

/// Whether what belongs to an export may be in use: it is there, or on its way, or nobody can tell.
fn may_be_used(look: &Look, cluster: &Cluster, export: &ExportName) -> bool {
    let ExportName { namespace, name } = export;
    let request = look.kinds.export_requests.get(cluster, namespace, name);
    let is_asked_for = match request {
        Some(request) => request.status.as_ref().is_none_or(|status| !is_final(&status.phase)),
        None => look.kinds.export_requests.is_known(cluster, namespace, name),
    };
    is_asked_for
        || look.kinds.exports.is_known(cluster, namespace, name)
        || look.kinds.is_unbound(cluster, namespace)
        || !look.shows_all(cluster)
}

fn is_final(phase: &Phase) -> bool {
    matches!(phase, Phase::Succeeded | Phase::Failed)
}

/// The names of roles of v0.8.1 that nothing needs in a cluster with these flags. A running backend takes those over that
/// it needs.
fn unused(look: &Look, cluster: &Cluster) -> Vec<&'static str> {
    let config = &look.config;
    let reads = config.offers_bindings()
        && reads_schemas_of_others(&look.kinds, cluster, &config.apibinding_ignore_prefixes);
    let nobody_binds =
        config.oidc_allowed_groups.is_empty() && config.oidc_allowed_users.is_empty();
    let names = [(keys::OIDC_USER_ROLE, nobody_binds), (keys::SCHEMA_READER_ROLE, !reads)];
    names.into_iter().filter(|(_, unused)| *unused).map(|(name, _)| name).collect()
}

fn right(
    look: &Look,
    cluster: &Cluster,
    listed: &Listed,
    unused: &[&str],
    needed: impl Fn() -> Option<String>,
) -> Option<Finding> {
    let exists = |export: &ExportName| may_be_used(look, cluster, export);
    let (severity, reason, message) = match judge(&listed.metadata, exists, unused) {
        Right::Fine => return None,
        Right::Orphaned => (
            Severity::Warning,
            Reason::OrphanedRights,
            "the export that it was made for is gone; a running backend removes it by itself",
        ),
        Right::Shared => (
            Severity::Error,
            Reason::SharedExportRole,
            "v0.8.1 left it: whoever it binds reaches the resources of all exports of this workspace",
        ),
        Right::Aggregated => (
            Severity::Warning,
            Reason::AggregatedRole,
            "v0.8.1 left it, to be part of the role that all consumers share",
        ),
        Right::Unused => (
            Severity::Warning,
            Reason::LegacyRole,
            "v0.8.1 left it, and with these flags nobody needs here what it grants",
        ),
    };
    let name = listed.metadata.name.as_deref().unwrap_or_default();
    let namespace = listed.metadata.namespace.as_deref().unwrap_or_default();
    let kind = listed.kind.to_lowercase();
    let object = Object::of(cluster, listed.kind, namespace, name);
    let repair = look.kubectl(&cluster.id, "delete", (&kind, namespace, name), &[]);
    if matches!(reason, Reason::OrphanedRights | Reason::LegacyRole) {
        return Some(Finding::new(severity, reason, object, message).repaired_by(repair));
    }
    Some(match needed() {
        None => {
            let message = format!("{message}. Each export has rights of its own by now");
            Finding::new(severity, reason, object, message).repaired_by(repair)
        }
        Some(why) => {
            let message = format!("{message}. It must stay for now, because {why}");
            Finding::new(severity, reason, object, message)
        }
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
        let requests = &look.kinds.export_requests;
        let used = may_be_used(look, cluster, &export)
            || requests.is_known(cluster, &export.namespace, &export.name);
        if !used {
            let object = Object::of(cluster, "BoundSchema", namespace, name);
            let message = "neither the export nor the request that it was made for is there";
            let repair = look.kubectl(&cluster.id, "delete", ("boundschema", namespace, name), &[]);
            let reason = Reason::OrphanedBoundSchema;
            let found = Finding::new(Severity::Warning, reason, object, message);
            all.push(found.repaired_by(repair));
        }
    }
    all
}

fn namespaces(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    let mut all = Vec::new();
    let serves = look.kinds.clusters.get(cluster, "", keys::CLUSTER);
    let serves = serves.is_some_and(|own| own.metadata.deletion_timestamp.is_none());
    for namespace in look.kinds.namespaces.list(cluster) {
        let meta = &namespace.metadata;
        let Some((contract, wanted)) = made_for(meta) else { continue };
        if look.kinds.service_namespaces.is_known(cluster, contract, wanted) {
            continue;
        }
        let of = match look.kinds.contract(cluster, contract) {
            Some(found) => Of::There(found),
            None if look.kinds.namespaces.is_known(cluster, "", contract) || !serves => Of::Unclear,
            None => Of::Gone,
        };
        let name = meta.name.as_deref().unwrap_or_default();
        let object = Object::of(cluster, "Namespace", "", name);
        let gone =
            format!("APIServiceNamespace {contract}/{wanted}, for which it was made, is gone");
        let (message, end) = match fate(meta, &of) {
            Fate::Stays => continue,
            Fate::Goes => (format!("{gone}; a running backend removes it"), true),
            Fate::Unmarked => (
                format!(
                    "{gone}. v0.8.1 made it, so nobody removes it: look at what is in it, and delete it"
                ),
                false,
            ),
        };
        let delete = look.kubectl(&cluster.id, "delete", ("namespace", "", name), &[]);
        let found = Finding::new(Severity::Warning, Reason::OrphanedNamespace, object, message);
        all.push(found.ended_by(delete.filter(|_| end)));
    }
    all
}

/// The contract of a service namespace.
#[derive(Debug)]
enum Of {
    There(Contract),
    Gone,
    /// Nobody can tell.
    Unclear,
}

/// What becomes of a service namespace of which the `APIServiceNamespace` is gone.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is kept for its consumer, or nobody can tell.
    Stays,
    /// A running backend deletes it.
    Goes,
    /// It was not marked, so that nobody does.
    Unmarked,
}

fn fate(meta: &ObjectMeta, of: &Of) -> Fate {
    let says = |key, uid: Option<&str>| uid.is_some() && annotation(meta, key) == uid;
    let meant = match of {
        Of::Unclear => return Fate::Stays,
        // Else all of our objects of that consumer were lost at once.
        Of::There(contract) => contract.binding.as_deref(),
        Of::Gone => None,
    };
    if meta.deletion_timestamp.is_some() {
        return Fate::Stays;
    }
    if !is_deletable(meta) {
        let lost = matches!(of, Of::There(contract) if contract.binding.is_none());
        return if lost { Fate::Stays } else { Fate::Unmarked };
    }
    match of {
        // One of an earlier contract of the same name is nobody's any more.
        Of::There(contract) if says(keys::ANNOTATION_CONTRACT_UID, Some(&contract.uid)) => {
            if says(keys::ANNOTATION_BINDING_UID, meant) { Fate::Goes } else { Fate::Stays }
        }
        _ => Fate::Goes,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
            (meta("kube-bind-oidc-user", &[], None), Right::Unused),
            (meta("kube-bind-oidc-user", &ours, None), Right::Fine),
            (meta("somebody", &[], None), Right::Fine),
        ] {
            assert_eq!(judge(&meta, exists, &[keys::OIDC_USER_ROLE]), expected, "{meta:?}");
        }
    }

    #[test]
    fn a_service_namespace_goes_only_where_a_controller_would_delete_it() {
        let marks = |contract: &str, binding: &str| -> ObjectMeta {
            serde_json::from_value(json!({ "labels": { keys::LABEL_MANAGED: "true" }, "annotations": {
                keys::ANNOTATION_SERVICE_NAMESPACE: "ns/town", keys::ANNOTATION_OWNER_UID: "owner",
                keys::ANNOTATION_CONTRACT_UID: contract, keys::ANNOTATION_BINDING_UID: binding,
            }}))
            .unwrap()
        };
        let there = |binding: Option<&str>| {
            Of::There(Contract {
                namespace: "ns".into(),
                uid: "contract".into(),
                binding: binding.map(str::to_owned),
                deleting: false,
            })
        };
        let ours = marks("contract", "binding");
        let old: ObjectMeta = serde_json::from_value(json!({ "annotations": {
            keys::ANNOTATION_SERVICE_NAMESPACE: "ns/town",
        }}))
        .unwrap();
        for (meta, of, expected) in [
            (&ours, there(Some("binding")), Fate::Goes),
            (&ours, there(Some("bound anew")), Fate::Stays),
            (&ours, there(None), Fate::Stays),
            (&ours, Of::Gone, Fate::Goes),
            (&ours, Of::Unclear, Fate::Stays),
            (&marks("earlier contract", "binding"), there(Some("bound anew")), Fate::Goes),
            (&old, there(Some("binding")), Fate::Unmarked),
            (&old, there(None), Fate::Stays),
            (&old, Of::Unclear, Fate::Stays),
        ] {
            assert_eq!(fate(meta, &of), expected, "{of:?}");
        }
    }
}
