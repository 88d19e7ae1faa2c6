//! Keeps roles and bindings as they should be, and takes them away again.
//!
//! Writes: Roles, `RoleBinding`s, `ClusterRole`s and `ClusterRoleBinding`s of ours. Promises: what is
//! right costs no request; foreign edits of ours are repaired; an object of a name that we need is
//! touched only if it is ours; a role exists before what binds it, and goes after it.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;

use crate::api::keys;
use crate::api::v1alpha2::{ApiServiceExport, ApiServiceExportSpec};
use crate::consumer::bound_schema::Facts;
use crate::consumer::contract::{Contract, annotation, is_first};
use crate::consumer::ours;
use crate::consumer::rights::{
    ExportName, Rights, cluster_wide, in_namespace, must_be_alone, rights,
};
use crate::consumer::service_namespace;
use crate::kinds::Kinds;
use crate::runtime::cluster::ObjKey;
use crate::runtime::error::{CallError, Cause, Retry};
use crate::runtime::fleet::Cluster;
use crate::runtime::kind::{Kind, Wire};

/// A kind that grants something.
pub trait Grant: Wire + PartialEq {
    /// The kind, as kubectl takes it.
    const CALLED: &'static str;

    /// Takes over what another object grants.
    fn grant_as(&mut self, wanted: &Self);

    /// Whether the server would refuse to turn this object into the other: what a binding binds
    /// cannot be changed.
    fn is_stuck(&self, wanted: &Self) -> bool;
}

macro_rules! role {
    ($kind:ty, $called:literal) => {
        impl Grant for $kind {
            const CALLED: &'static str = $called;

            fn grant_as(&mut self, wanted: &Self) {
                *self = Self { metadata: std::mem::take(&mut self.metadata), ..wanted.clone() };
            }

            fn is_stuck(&self, _: &Self) -> bool {
                false
            }
        }
    };
}

macro_rules! binding {
    ($kind:ty, $called:literal) => {
        impl Grant for $kind {
            const CALLED: &'static str = $called;

            fn grant_as(&mut self, wanted: &Self) {
                self.subjects.clone_from(&wanted.subjects);
            }

            fn is_stuck(&self, wanted: &Self) -> bool {
                self.role_ref != wanted.role_ref
            }
        }
    };
}

role!(Role, "role");
role!(ClusterRole, "clusterrole");
binding!(RoleBinding, "rolebinding");
binding!(ClusterRoleBinding, "clusterrolebinding");

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An object of a name that we need belongs to someone else.
    #[error(
        "{kind} {} exists and was not made by this backend for this purpose; delete it, and it is \
         made as it should be", .key.in_cluster()
    )]
    Foreign {
        /// The kind, as kubectl takes it.
        kind: &'static str,
        /// The object.
        key: ObjKey,
    },
}

/// Only one consumer of a cluster may have these rights, and another one came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "with these settings consumers of one cluster would reach each other's objects, and another one bound this cluster \
     first; give each consumer a cluster or workspace of its own, delete the other's contract namespace, or start the \
     backend with --allow-shared-cluster-scope"
)]
pub struct Shared;

impl Shared {
    /// The reason of the conditions that say so.
    pub const REASON: &str = "SharedClusterScope";
}

impl Error {
    /// What kind of waiting helps.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Call(err) => err.retry(),
            Self::Foreign { .. } => Retry::Denied,
        }
    }

    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Call(CallError { cause: Cause::Forbidden(_), .. }) => "Forbidden",
            Self::Call(_) => "RequestRefused",
            Self::Foreign { .. } => "ForeignRole",
        }
    }
}

/// Creates an object, or makes ours of that name equal to it. `is_ours` decides about one that exists.
pub async fn put<K: Grant>(
    kind: &Kind<K>,
    cluster: &Cluster,
    wanted: &K,
    is_ours: impl Fn(&ObjectMeta) -> bool,
) -> Result<(), Error> {
    let key = ObjKey::of(&cluster.id, wanted.meta());
    let known = match kind.get(cluster, &key.namespace, &key.name) {
        Some(known) => (*known).clone(),
        None => match kind.create(cluster, wanted).await {
            Ok(_) => return Ok(()),
            Err(CallError { cause: Cause::Exists, .. }) => {
                match kind.get_live(cluster, &key.namespace, &key.name).await? {
                    Some(live) => live,
                    None => return create(kind, cluster, wanted).await,
                }
            }
            Err(err) => return Err(err.into()),
        },
    };
    if !is_ours(known.meta()) {
        return Err(Error::Foreign { kind: K::CALLED, key });
    }
    if known.is_stuck(wanted) {
        kind.delete(cluster, known.meta()).await?;
        return create(kind, cluster, wanted).await;
    }
    let fixed = fixed(&known, wanted);
    if fixed != known {
        kind.replace(cluster, &fixed).await?;
    }
    Ok(())
}

/// An object of ours as it should be.
fn fixed<K: Grant>(known: &K, wanted: &K) -> K {
    let mut fixed = known.clone();
    fixed.grant_as(wanted);
    mark_as(fixed.meta_mut(), wanted.meta());
    fixed
}

/// Whether an object of ours grants what it should, as far as the cache knows.
pub fn grants<K: Grant>(kind: &Kind<K>, cluster: &Cluster, wanted: &K) -> bool {
    let key = ObjKey::of(&cluster.id, wanted.meta());
    kind.get(cluster, &key.namespace, &key.name).is_some_and(|known| {
        let mut same = (*known).clone();
        same.grant_as(wanted);
        !known.is_stuck(wanted) && same == *known
    })
}

/// Whether there is nothing to put right, as far as the cache knows: [`grants`], and the marks.
pub fn is_right<K: Grant>(kind: &Kind<K>, cluster: &Cluster, wanted: &K) -> bool {
    let key = ObjKey::of(&cluster.id, wanted.meta());
    let known = kind.get(cluster, &key.namespace, &key.name);
    known.is_some_and(|known| !known.is_stuck(wanted) && fixed(&*known, wanted) == *known)
}

async fn create<K: Grant>(kind: &Kind<K>, cluster: &Cluster, wanted: &K) -> Result<(), Error> {
    kind.create(cluster, wanted).await?;
    Ok(())
}

/// Labels, annotations and owners of ours are put right; those of others stay, but for the label by
/// which v0.8.1 mixes the rights of all consumers.
fn mark_as(meta: &mut ObjectMeta, wanted: &ObjectMeta) {
    let labels = meta.labels.get_or_insert_default();
    labels.extend(wanted.labels.clone().unwrap_or_default());
    labels.remove(keys::LABEL_AGGREGATE_TO_PARENT);
    if let Some(annotations) = &wanted.annotations {
        meta.annotations.get_or_insert_default().extend(annotations.clone());
    }
    if wanted.owner_references.is_some() {
        meta.owner_references.clone_from(&wanted.owner_references);
    }
}

/// The rights of exports.
pub struct ExportRights {
    /// Where things are read and written.
    pub kinds: Arc<Kinds>,
    /// `--allow-shared-cluster-scope`.
    pub allow_shared: bool,
}

/// Whether an object is one that we made for this export, or that v0.8.1 made for this contract.
fn is_of(export: &ExportName, contract_uid: Option<&str>) -> impl Fn(&ObjectMeta) -> bool {
    move |meta| {
        let owners = meta.owner_references.as_deref().unwrap_or_default();
        let owned = owners.iter().any(|owner| Some(owner.uid.as_str()) == contract_uid);
        (ours::is_labelled(meta) && ExportName::of(meta).as_ref() == Some(export)) || owned
    }
}

impl ExportRights {
    /// Refuses rights that are for one consumer of a cluster only, where another one came first.
    pub fn check_shared(
        &self,
        cluster: &Cluster,
        contract: &Contract,
        spec: &ApiServiceExportSpec,
        rights: &Rights,
    ) -> Result<(), Shared> {
        if self.allow_shared || !must_be_alone(spec, rights) {
            return Ok(());
        }
        let all = self.kinds.namespaces.list(cluster);
        let is_contract = |meta: &&ObjectMeta| {
            let name = meta.name.as_deref().unwrap_or_default();
            self.kinds.contract(cluster, name).is_some()
        };
        let contracts: Vec<&ObjectMeta> =
            all.iter().map(|object| &object.metadata).filter(is_contract).collect();
        if is_first(&contract.namespace, &contracts) { Ok(()) } else { Err(Shared) }
    }

    /// Whether an export has rights of ours in the whole cluster.
    #[must_use]
    pub fn has_cluster_wide(&self, cluster: &Cluster, export: &ExportName) -> bool {
        self.kinds.cluster_role_bindings.get(cluster, "", &export.cluster_role()).is_some()
    }

    /// Brings all rights of an export in line: in the cluster, in its contract namespace, and in the
    /// service namespaces of its consumer.
    pub async fn put(
        &self,
        cluster: &Cluster,
        contract: &Contract,
        export: &ExportName,
        rights: &Rights,
    ) -> Result<(), Error> {
        if rights.cluster.is_empty() {
            let name = export.cluster_role();
            remove(&self.kinds.cluster_role_bindings, cluster, export, "", &name).await?;
            remove(&self.kinds.cluster_roles, cluster, export, "", &name).await?;
        } else {
            let (role, binding) = cluster_wide(export, contract, &rights.cluster);
            let is_ours = is_of(export, Some(&contract.uid));
            put(&self.kinds.cluster_roles, cluster, &role, &is_ours).await?;
            put(&self.kinds.cluster_role_bindings, cluster, &binding, &is_ours).await?;
        }
        self.put_in(cluster, &contract.namespace, export, &rights.contract).await?;
        // One namespace that refuses does not keep the rights from the others.
        let mut result = Ok(());
        for namespace in self.service_namespaces(cluster, contract) {
            let put = self.put_in(cluster, &namespace, export, &rights.service).await;
            result = result.and(put);
        }
        result
    }

    /// The same in one namespace.
    pub async fn put_in(
        &self,
        cluster: &Cluster,
        namespace: &str,
        export: &ExportName,
        rules: &[PolicyRule],
    ) -> Result<(), Error> {
        if rules.is_empty() {
            let name = export.role();
            remove(&self.kinds.role_bindings, cluster, export, namespace, &name).await?;
            return Ok(remove(&self.kinds.roles, cluster, export, namespace, &name).await?);
        }
        let (role, binding) = in_namespace(export, namespace, rules);
        let ours = is_of(export, None);
        // Each by itself: an adoption may have ended between the two.
        match put(&self.kinds.roles, cluster, &role, &ours).await {
            Err(Error::Foreign { .. }) if self.is_legacy(cluster, &binding).await? => {
                put(&self.kinds.roles, cluster, &role, |_: &ObjectMeta| true).await?;
            }
            made => made?,
        }
        match put(&self.kinds.role_bindings, cluster, &binding, &ours).await {
            Err(Error::Foreign { .. }) if self.is_legacy(cluster, &binding).await? => {
                put(&self.kinds.role_bindings, cluster, &binding, |_: &ObjectMeta| true).await
            }
            made => made,
        }
    }

    /// Whether what v0.8.1 made has our names there: it marks nothing, but its binding gives the role to the same
    /// consumer and to nobody else.
    async fn is_legacy(&self, cluster: &Cluster, wanted: &RoleBinding) -> Result<bool, CallError> {
        let key = ObjKey::of(&cluster.id, wanted.meta());
        let live = self.kinds.role_bindings.get_live(cluster, &key.namespace, &key.name).await?;
        Ok(live.is_some_and(|live| {
            !ours::is_labelled(&live.metadata)
                && (&live.role_ref, &live.subjects) == (&wanted.role_ref, &wanted.subjects)
        }))
    }

    /// What an export lets its consumer do; none while a `BoundSchema` is missing.
    #[must_use]
    pub fn of(&self, cluster: &Cluster, export: &ApiServiceExport) -> Option<Rights> {
        let namespace = export.metadata.namespace.as_deref().unwrap_or_default();
        rights(&export.spec, |resource| {
            let schema = self.kinds.bound_schemas.get(cluster, namespace, &resource.to_string())?;
            Facts::of(&schema.metadata).map(|facts| facts.scope)
        })
    }

    /// The service namespaces of a consumer that were given out and are ours. Whoever gives one out
    /// makes the roles in it first.
    fn service_namespaces(&self, cluster: &Cluster, contract: &Contract) -> Vec<String> {
        let wanted = self.kinds.service_namespaces.list_namespace(cluster, &contract.namespace);
        let names = wanted.iter().filter_map(|object| {
            let target = object.status.as_ref()?.namespace.as_deref()?;
            let name = object.metadata.name.as_deref()?;
            let meta = &self.kinds.namespaces.get(cluster, "", target)?.metadata;
            let ours = service_namespace::is_deletable(meta)
                && meta.deletion_timestamp.is_none()
                && service_namespace::made_for(meta) == Some((&contract.namespace, name))
                && annotation(meta, keys::ANNOTATION_CONTRACT_UID) == Some(&contract.uid);
            ours.then(|| target.to_owned())
        });
        names.collect()
    }

    /// Whether anything is left of an export.
    #[must_use]
    pub fn has_leftovers(&self, cluster: &Cluster, export: &ExportName) -> bool {
        let kinds = &self.kinds;
        !left(&kinds.cluster_role_bindings, cluster, export).is_empty()
            || !left(&kinds.cluster_roles, cluster, export).is_empty()
            || !left(&kinds.role_bindings, cluster, export).is_empty()
            || !left(&kinds.roles, cluster, export).is_empty()
    }

    /// Takes all rights of an export away.
    pub async fn remove(&self, cluster: &Cluster, export: &ExportName) -> Result<(), CallError> {
        remove_all(&self.kinds.cluster_role_bindings, cluster, export).await?;
        remove_all(&self.kinds.role_bindings, cluster, export).await?;
        remove_all(&self.kinds.cluster_roles, cluster, export).await?;
        remove_all(&self.kinds.roles, cluster, export).await
    }
}

/// What there is of a kind for an export. The watches show ours only.
fn left<K: Grant>(kind: &Kind<K>, cluster: &Cluster, export: &ExportName) -> Vec<Arc<K>> {
    let mut all = kind.list(cluster);
    all.retain(|object| ExportName::of((**object).meta()).as_ref() == Some(export));
    all
}

async fn remove_all<K: Grant>(
    kind: &Kind<K>,
    cluster: &Cluster,
    export: &ExportName,
) -> Result<(), CallError> {
    for object in left(kind, cluster, export) {
        kind.delete(cluster, (*object).meta()).await?;
    }
    Ok(())
}

async fn remove<K: Grant>(
    kind: &Kind<K>,
    cluster: &Cluster,
    export: &ExportName,
    namespace: &str,
    name: &str,
) -> Result<(), CallError> {
    match kind.get(cluster, namespace, name) {
        Some(object) if is_of(export, None)((*object).meta()) => {
            kind.delete(cluster, (*object).meta()).await
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cluster::ClusterId;

    #[test]
    fn a_foreign_object_is_named_as_kubectl_takes_it_without_our_name_of_the_cluster() {
        let cluster = ClusterId::parse("28rwq3skw0u9rkqq").unwrap();
        for (kind, namespace, expected) in [
            ("clusterrole", "", "clusterrole star exists and was"),
            ("role", "wild-west", "role wild-west/star exists and was"),
        ] {
            let error = Error::Foreign { kind, key: ObjKey::new(&cluster, namespace, "star") };
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
