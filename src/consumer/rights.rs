//! What an export lets its consumer do, and the objects that say so (contract objects.md 7,
//! konnector.md 1.3 and 1.4).
//!
//! Each export has roles of its own, bound to its consumer's service account only. Rights over the
//! whole cluster are given only for what the konnector does over the whole cluster: it lists and
//! watches there where a resource is cluster-scoped or its informers are, but it writes to a
//! namespaced resource in the service namespaces alone. Claims are the exception: with informers over
//! the whole cluster all verbs hold there, as the acceptance rows of konnector.md 7 ask for, and only
//! one consumer of a cluster gets that.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::contract::{Contract, annotation};
use super::ours;
use crate::api::keys;
use crate::api::v1alpha2::{
    ApiServiceExportSpec, GroupResource, Isolation, PermissionClaim, Scope,
};

const READ: &[&str] = &["get", "list", "watch"];
const ALL: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete"];

/// Which export something belongs to: its contract namespace and its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExportName {
    /// The contract namespace.
    pub namespace: String,
    /// The name of the export, of its request and of the consumer's binding.
    pub name: String,
}

impl ExportName {
    /// An export by its parts.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// What [`keys::ANNOTATION_EXPORT`] of an object says.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        Self::of_contract(meta, None)
    }

    /// The same, if it is of this contract namespace; of any without one.
    #[must_use]
    pub fn of_contract(meta: &ObjectMeta, contract: Option<&str>) -> Option<Self> {
        let (namespace, name) = annotation(meta, keys::ANNOTATION_EXPORT)?.split_once('/')?;
        contract.is_none_or(|contract| contract == namespace).then(|| Self::new(namespace, name))
    }

    /// The annotation's value.
    #[must_use]
    pub fn annotation(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Name of its `ClusterRole` and `ClusterRoleBinding`.
    #[must_use]
    pub fn cluster_role(&self) -> String {
        format!("{}{}-{}", keys::EXPORT_ROLE_PREFIX, self.namespace, self.name)
    }

    /// Name of its Roles and `RoleBinding`s.
    #[must_use]
    pub fn role(&self) -> String {
        format!("{}{}", keys::EXPORT_ROLE_PREFIX, self.name)
    }
}

/// Whether an object of ours belongs to an export of the consumer with this contract namespace.
#[must_use]
pub fn is_made_for_consumer(meta: &ObjectMeta, contract: &str) -> bool {
    ours::is_labelled(meta) && ExportName::of_contract(meta, Some(contract)).is_some()
}

/// The rules of an export, by where they hold; each list is sorted by `<resource>.<group>`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rights {
    /// In the whole cluster.
    pub cluster: Vec<PolicyRule>,
    /// In the contract namespace.
    pub contract: Vec<PolicyRule>,
    /// In each service namespace.
    pub service: Vec<PolicyRule>,
}

/// The rights that an export needs. `scope_of` gives `spec.scope` of the `BoundSchema` of a resource;
/// without it nothing can be said.
pub fn rights(
    spec: &ApiServiceExportSpec,
    scope_of: impl Fn(&GroupResource) -> Option<Scope>,
) -> Option<Rights> {
    let (mut cluster, mut contract, mut service) =
        (Rules::default(), Rules::default(), Rules::default());
    for resource in &spec.resources {
        let resource = resource.group_resource();
        match (scope_of(&resource)?, spec.informer_scope, spec.isolation) {
            // The consumer's cluster-scoped objects are namespaced ones in the contract namespace.
            (Scope::Cluster, _, Isolation::Namespaced) => {
                cluster.add(&resource, READ);
                contract.add(&resource, ALL);
            }
            // Without isolation the namespaces may be other people's, and no Role is put there.
            (Scope::Cluster, ..) | (Scope::Namespaced, Scope::Cluster, Isolation::None) => {
                cluster.add(&resource, ALL);
            }
            (Scope::Namespaced, Scope::Cluster, _) => {
                cluster.add(&resource, READ);
                service.add(&resource, ALL);
            }
            (Scope::Namespaced, Scope::Namespaced, _) => service.add(&resource, ALL),
        }
    }
    for claim in spec.permission_claims.iter().filter(|claim| is_claimable(claim)) {
        match spec.informer_scope {
            Scope::Cluster => cluster.add(&claim.group_resource(), ALL),
            Scope::Namespaced => service.add(&claim.group_resource(), ALL),
        }
    }
    Some(Rights { cluster: cluster.done(), contract: contract.done(), service: service.done() })
}

/// The only resources of a consumer that can be claimed, all of the core group.
pub const CLAIMABLE: [&str; 3] = ["configmaps", "secrets", "serviceaccounts"];

/// Whether the konnector syncs the objects of a claim, so that rights are needed for them.
#[must_use]
pub fn is_claimable(claim: &PermissionClaim) -> bool {
    claim.group.is_empty() && CLAIMABLE.contains(&claim.resource.as_str())
}

/// Rules in the making; of two for one resource the wider stays.
#[derive(Default)]
struct Rules(BTreeMap<String, (GroupResource, &'static [&'static str])>);

impl Rules {
    fn add(&mut self, resource: &GroupResource, verbs: &'static [&'static str]) {
        let entry = self.0.entry(resource.to_string()).or_insert((resource.clone(), verbs));
        if verbs.len() > entry.1.len() {
            entry.1 = verbs;
        }
    }

    fn done(self) -> Vec<PolicyRule> {
        let rule = |(resource, verbs): (GroupResource, &[&str])| PolicyRule {
            api_groups: Some(vec![resource.group]),
            resources: Some(vec![resource.resource]),
            verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            ..PolicyRule::default()
        };
        self.0.into_values().map(rule).collect()
    }
}

/// Why a consumer with this export reaches objects of others, for people; none where it does not.
#[must_use]
pub fn exposure(rights: &Rights) -> Option<String> {
    let name_of = |rule: &PolicyRule| {
        let group = rule.api_groups.iter().flatten().next().cloned().unwrap_or_default();
        let resource = rule.resources.iter().flatten().next().cloned().unwrap_or_default();
        GroupResource { group, resource }.to_string()
    };
    let names: Vec<String> = rights.cluster.iter().map(name_of).collect();
    (!names.is_empty()).then(|| {
        format!(
            "the konnector works with {} in the whole cluster, so the consumer's credential reaches \
             those of others as well; give each consumer a cluster or workspace of its own, or use \
             namespaced resources with --consumer-scope=namespaced, where that is not wanted",
            names.join(", ")
        )
    })
}

/// Whether two consumers with this export in one cluster would read each other's credentials, or
/// delete each other's objects (design, section 5).
#[must_use]
pub fn must_be_alone(spec: &ApiServiceExportSpec, rights: &Rights) -> bool {
    let reads_all_secrets =
        spec.informer_scope == Scope::Cluster && !spec.permission_claims.is_empty();
    let deletes_others = spec.isolation == Isolation::None && !rights.cluster.is_empty();
    reads_all_secrets || deletes_others
}

fn metadata(export: &ExportName, name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        annotations: Some(BTreeMap::from([(
            keys::ANNOTATION_EXPORT.to_owned(),
            export.annotation(),
        )])),
        ..ours::metadata(name, namespace)
    }
}

/// Goes with the contract namespace by garbage collection.
fn cluster_metadata(export: &ExportName, contract: &Contract) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Namespace".to_owned(),
        name: contract.namespace.clone(),
        uid: contract.uid.clone(),
        ..OwnerReference::default()
    };
    ObjectMeta {
        owner_references: Some(vec![owner]),
        ..metadata(export, &export.cluster_role(), None)
    }
}

fn role_ref(kind: &str, name: String) -> RoleRef {
    RoleRef { api_group: keys::RBAC_GROUP.to_owned(), kind: kind.to_owned(), name }
}

/// The consumer's service account.
fn subject(export: &ExportName) -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: keys::SERVICE_ACCOUNT.to_owned(),
        namespace: Some(export.namespace.clone()),
        api_group: None,
    }
}

/// The `ClusterRole` of an export and what binds it.
#[must_use]
pub fn cluster_wide(
    export: &ExportName,
    contract: &Contract,
    rules: &[PolicyRule],
) -> (ClusterRole, ClusterRoleBinding) {
    let role = ClusterRole {
        metadata: cluster_metadata(export, contract),
        rules: Some(rules.to_vec()),
        ..ClusterRole::default()
    };
    let binding = ClusterRoleBinding {
        metadata: cluster_metadata(export, contract),
        role_ref: role_ref("ClusterRole", export.cluster_role()),
        subjects: Some(vec![subject(export)]),
    };
    (role, binding)
}

/// The Role of an export in a namespace and what binds it.
#[must_use]
pub fn in_namespace(
    export: &ExportName,
    namespace: &str,
    rules: &[PolicyRule],
) -> (Role, RoleBinding) {
    let metadata = || metadata(export, &export.role(), Some(namespace));
    let role = Role { metadata: metadata(), rules: Some(rules.to_vec()) };
    let binding = RoleBinding {
        metadata: metadata(),
        role_ref: role_ref("Role", export.role()),
        subjects: Some(vec![subject(export)]),
    };
    (role, binding)
}

#[cfg(test)]
mod tests;
