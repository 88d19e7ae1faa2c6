//! Whether the consumers of a cluster have the rights that this backend gives to each, so that they need none of v0.8.1's.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::ResourceExt as _;

use super::look::Look;
use crate::api::conditions::{RIGHTS_GRANTED, get};
use crate::api::v1alpha2::ApiServiceExport;
use crate::consumer::rights::{ExportName, cluster_wide, in_namespace};
use crate::rights::grants;
use crate::runtime::fleet::Cluster;

/// Why a consumer still needs what v0.8.1 gave to all, and what to do first; none where each export has its own rights.
pub(super) fn ungranted(look: &Look, cluster: &Cluster) -> Option<String> {
    if !look.shows_all(cluster) {
        return Some("not all of this workspace can be seen; look again when it can".to_owned());
    }
    let id = cluster.endpoint.id();
    let bad = look.sources.iter().flat_map(|source| source.unreadable(id));
    if let Some(bad) = bad.into_iter().find(|bad| bad.cluster == cluster.id) {
        return Some(format!("{} cannot be read; correct it first", bad.in_cluster()));
    }
    look.kinds.exports.list(cluster).into_iter().find_map(|export| {
        if has_own_rights(look, cluster, &export) {
            return None;
        }
        let name = format!("{}/{}", export.namespace().unwrap_or_default(), export.name_any());
        let said = get(export.conditions(), RIGHTS_GRANTED).filter(|said| !said.is_true());
        Some(match said.and_then(|said| said.message.as_deref()) {
            Some(why) => {
                format!("APIServiceExport {name} cannot get rights of its own yet: {why}")
            }
            None => format!(
                "APIServiceExport {name} has no rights of its own yet; start the backend, and look again"
            ),
        })
    })
}

fn has_own_rights(look: &Look, cluster: &Cluster, export: &ApiServiceExport) -> bool {
    let namespace = export.namespace().unwrap_or_default();
    let name = ExportName::new(&namespace, &export.name_any());
    let contract = look.kinds.contract(cluster, &namespace);
    let rights = look.export_rights().of(cluster, export);
    let (Some(contract), Some(rights)) = (contract, rights) else {
        return false;
    };
    let kinds = &look.kinds;
    let in_cluster = {
        let (role, binding) = cluster_wide(&name, &contract, &rights.cluster);
        rights.cluster.is_empty()
            || (grants(&kinds.cluster_roles, cluster, &role)
                && grants(&kinds.cluster_role_bindings, cluster, &binding))
    };
    let in_one = |namespace: &str, rules: &[PolicyRule]| {
        let (role, binding) = in_namespace(&name, namespace, rules);
        rules.is_empty()
            || (grants(&kinds.roles, cluster, &role)
                && grants(&kinds.role_bindings, cluster, &binding))
    };
    let given = kinds.service_namespaces.list_namespace(cluster, &namespace);
    let mut given = given.iter().filter_map(|object| object.status.as_ref()?.namespace.clone());
    in_cluster
        && in_one(&namespace, &rights.contract)
        && given.all(|service| in_one(&service, &rights.service))
}
