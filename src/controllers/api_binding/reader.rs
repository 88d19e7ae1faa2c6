//! Reads schemas that belong to other workspaces, through kcp's virtual workspace `apiresourceschema`.
//!
//! It admits whoever may get `APIBindings` in the workspace that bound them (contract kcp.md 7). Where that is so
//! already nothing is written; otherwise a role of ours lets us do just that, for as long as something is offered there.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;

use super::Error;
use super::myself::Myself;
use crate::api::kcp::{ApiResourceSchema, BoundResource};
use crate::api::keys;
use crate::consumer::{ours, rbac};
use crate::kinds::Kinds;
use crate::rights::{self, Grant};
use crate::runtime::error::{CallError, Cause};
use crate::runtime::fleet::Cluster;
use crate::runtime::kind::{Kind, get_unwatched};

/// A role works a moment after it was written: kcp's authorizer watches.
const SETTLE: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(750)];

/// Reads schemas.
pub(super) struct Reader {
    pub(super) kinds: Arc<Kinds>,
    pub(super) myself: Arc<Myself>,
}

impl Reader {
    /// The schema of a bound resource. The answer comes from the shard of the workspace.
    pub(super) async fn read(
        &self,
        cluster: &Cluster,
        bound: &BoundResource,
    ) -> Result<ApiResourceSchema, Error> {
        let (refused, granted) = match get(cluster, bound).await {
            Err(Error::Call(err)) if matches!(err.cause, Cause::Forbidden(_)) => {
                (err, self.grant(cluster).await?)
            }
            result => return result,
        };
        for pause in SETTLE.into_iter().filter(|_| granted) {
            tokio::time::sleep(pause).await;
            match get(cluster, bound).await {
                Err(Error::Call(err)) if matches!(err.cause, Cause::Forbidden(_)) => {}
                result => return result,
            }
        }
        Err(Error::Hidden { name: bound.schema.name.clone(), why: refused.cause.to_string() })
    }

    /// Makes sure that we may get `APIBindings`; false where there is nobody yet who could own the role.
    async fn grant(&self, cluster: &Cluster) -> Result<bool, Error> {
        let Some(object) = self.kinds.clusters.get(cluster, "", keys::CLUSTER) else {
            return Ok(false);
        };
        let Some(owner) = object.controller_owner_ref(&()) else {
            return Ok(false);
        };
        let user = self.myself.user()?;
        let role = rbac::schema_reader_cluster_role(owner.clone());
        let binding = rbac::schema_reader_cluster_role_binding(owner, &user);
        put(&self.kinds.cluster_roles, cluster, &role, is_legacy).await?;
        put(&self.kinds.cluster_role_bindings, cluster, &binding, |live| {
            live.role_ref == binding.role_ref
        })
        .await?;
        Ok(true)
    }

    /// Takes our rights back.
    pub(super) async fn leave(&self, cluster: &Cluster) -> Result<(), Error> {
        remove(&self.kinds.cluster_role_bindings, cluster).await?;
        remove(&self.kinds.cluster_roles, cluster).await
    }
}

async fn get(cluster: &Cluster, bound: &BoundResource) -> Result<ApiResourceSchema, Error> {
    let id = &cluster.id;
    let there = cluster.at(format!("/services/apiresourceschema/{id}/clusters/{id}"));
    let name = &bound.schema.name;
    match get_unwatched(&there, "", name).await {
        Ok(Some(schema)) => Ok(schema),
        Ok(None) => Err(Error::SchemaMissing { name: name.clone() }),
        Err(err @ CallError { cause: Cause::Unserved, .. }) => Err(Error::Unserved(err)),
        Err(err) => Err(err.into()),
    }
}

/// Puts an object right, if it is ours or `is_legacy` knows it as made by v0.8.1, which left no mark on it.
async fn put<K: Grant>(
    kind: &Kind<K>,
    cluster: &Cluster,
    wanted: &K,
    is_legacy: impl Fn(&K) -> bool,
) -> Result<(), Error> {
    let foreign = match rights::put(kind, cluster, wanted, ours::is_labelled).await {
        Err(err @ rights::Error::Foreign { .. }) => err,
        result => return Ok(result?),
    };
    let live = kind.get_live(cluster, "", keys::SCHEMA_READER_ROLE).await?;
    let Some(live) = live.filter(is_legacy) else {
        return Err(foreign.into());
    };
    let is_it = |meta: &ObjectMeta| meta.uid == live.meta().uid;
    Ok(rights::put(kind, cluster, wanted, is_it).await?)
}

/// Whether a role says to the letter what v0.8.1 writes.
fn is_legacy(role: &ClusterRole) -> bool {
    let strings = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let access = PolicyRule {
        non_resource_urls: Some(strings(&["/"])),
        verbs: strings(&["access"]),
        ..PolicyRule::default()
    };
    let read = PolicyRule {
        api_groups: Some(strings(&["apis.kcp.io"])),
        resources: Some(strings(&["apibindings"])),
        verbs: strings(&["get", "list", "watch"]),
        ..PolicyRule::default()
    };
    role.rules.as_deref() == Some(&[access, read])
}

async fn remove<K: Grant>(kind: &Kind<K>, cluster: &Cluster) -> Result<(), Error> {
    if let Some(known) = kind.get(cluster, "", keys::SCHEMA_READER_ROLE) {
        kind.delete(cluster, (*known).meta()).await?;
    }
    Ok(())
}
