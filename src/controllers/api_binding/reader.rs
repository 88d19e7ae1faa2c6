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
use super::round::{Round, Unresolved};
use crate::api::kcp::{ApiBinding, ApiResourceSchema, ApiResourceSchemaSpec, BoundResource};
use crate::api::keys;
use crate::consumer::contract::annotation;
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
    /// The schema of a bound resource, unless this round reads no more. The answer comes from the shard of the workspace.
    ///
    /// kcp looks for a schema of that name in the exports of all that is bound, and any of their providers can make one:
    /// only what comes from the workspace of the right export is the one that is bound.
    pub(super) async fn read(
        &self,
        cluster: &Cluster,
        binding: &ApiBinding,
        bound: &BoundResource,
        round: &mut Round,
    ) -> Result<ApiResourceSchemaSpec, Unresolved> {
        round.may_read_of_others()?;
        let name = &bound.schema.name;
        let schema = match get(cluster, name).await {
            Err(Error::Call(err)) if matches!(err.cause, Cause::Forbidden(_)) => {
                self.admitted(cluster, name, err).await?
            }
            answer => {
                let schema = answer?;
                self.adopt(cluster, round).await?;
                schema
            }
        };
        if is_bound(&schema, binding, bound) {
            return Ok(schema.spec);
        }
        let binding = binding.metadata.name.clone().unwrap_or_default();
        Err(Error::OtherSchema { name: name.clone(), binding }.into())
    }

    /// The schema after we were refused and have made ourselves a role.
    async fn admitted(
        &self,
        cluster: &Cluster,
        name: &str,
        refused: CallError,
    ) -> Result<ApiResourceSchema, Error> {
        let granted = self.grant(cluster).await?;
        for pause in SETTLE.into_iter().filter(|_| granted) {
            tokio::time::sleep(pause).await;
            match get(cluster, name).await {
                Err(Error::Call(err)) if matches!(err.cause, Cause::Forbidden(_)) => {}
                answer => return answer,
            }
        }
        Err(Error::Hidden { name: name.to_owned(), why: refused.cause.to_string() })
    }

    /// Makes the pair of v0.8.1 ours, by which we may read as well: it grants more, and nobody would take it away. Asks
    /// once in a round, and only where no pair of ours is known.
    pub(super) async fn adopt(&self, cluster: &Cluster, round: &mut Round) -> Result<(), Error> {
        let name = keys::SCHEMA_READER_ROLE;
        let (roles, bindings) = (&self.kinds.cluster_roles, &self.kinds.cluster_role_bindings);
        let role = roles.get(cluster, "", name).is_some();
        if (role && bindings.get(cluster, "", name).is_some()) || !round.first_look_for_roles() {
            return Ok(());
        }
        if !role && !roles.get_live(cluster, "", name).await?.is_some_and(|role| is_legacy(&role)) {
            return Ok(());
        }
        let live = bindings.get_live(cluster, "", name).await?;
        if live.is_some_and(|live| live.role_ref.name == name) {
            self.grant(cluster).await?;
        }
        Ok(())
    }

    /// Makes sure that we may get `APIBindings`; whether anything had to be written for that.
    async fn grant(&self, cluster: &Cluster) -> Result<bool, Error> {
        let object = self.kinds.clusters.get(cluster, "", keys::CLUSTER);
        let owner = object.and_then(|object| object.controller_owner_ref(&()));
        let owner = owner.ok_or(Error::Unowned)?;
        let user = self.myself.user()?;
        let role = rbac::schema_reader_cluster_role(owner.clone());
        let binding = rbac::schema_reader_cluster_role_binding(owner, &user);
        let (roles, bindings) = (&self.kinds.cluster_roles, &self.kinds.cluster_role_bindings);
        if rights::is_right(roles, cluster, &role) && rights::is_right(bindings, cluster, &binding)
        {
            return Ok(false);
        }
        put(roles, cluster, &role, is_legacy).await?;
        put(bindings, cluster, &binding, |live| live.role_ref == binding.role_ref).await?;
        Ok(true)
    }
}

/// Takes our rights back.
pub(super) async fn leave(kinds: &Kinds, cluster: &Cluster) -> Result<(), CallError> {
    remove(&kinds.cluster_role_bindings, cluster).await?;
    remove(&kinds.cluster_roles, cluster).await
}

async fn get(cluster: &Cluster, name: &str) -> Result<ApiResourceSchema, Error> {
    let id = &cluster.id;
    let there = cluster.at(format!("/services/apiresourceschema/{id}/clusters/{id}"));
    match get_unwatched(&there, "", name).await {
        Ok(Some(schema)) => Ok(schema),
        Ok(None) => Err(Error::SchemaMissing { name: name.to_owned() }),
        Err(err @ CallError { cause: Cause::Unserved, .. }) => Err(Error::Unserved(err)),
        Err(err) => Err(err.into()),
    }
}

/// Whether a schema is the one of a bound resource. Its UID does not tell: what another shard holds has one of its own
/// there.
fn is_bound(schema: &ApiResourceSchema, binding: &ApiBinding, bound: &BoundResource) -> bool {
    let cluster = annotation(&schema.metadata, keys::KCP_CLUSTER);
    cluster.is_some()
        && cluster == binding.export_cluster()
        && (&schema.spec.group, &schema.spec.names.plural) == (&bound.group, &bound.resource)
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

async fn remove<K: Grant>(kind: &Kind<K>, cluster: &Cluster) -> Result<(), CallError> {
    if let Some(known) = kind.get(cluster, "", keys::SCHEMA_READER_ROLE) {
        kind.delete(cluster, (*known).meta()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn only_a_schema_of_the_export_that_is_bound_is_the_one_that_is_bound() {
        let binding: ApiBinding = from_value(json!({
            "apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding",
            "metadata": { "name": "wild" }, "spec": {},
            "status": { "apiExportClusterName": "provider", "boundResources": [{
                "group": "wildwest.dev", "resource": "cowboys",
                "schema": { "name": "today.cowboys.wildwest.dev", "UID": "u1d" },
            }]},
        }))
        .unwrap();
        let schema = |cluster: serde_json::Value, group: &str, plural: &str| -> ApiResourceSchema {
            from_value(json!({
                "apiVersion": "apis.kcp.io/v1alpha1", "kind": "APIResourceSchema",
                "metadata": { "name": "today.cowboys.wildwest.dev", "annotations": cluster },
                "spec": {
                    "group": group, "scope": "Namespaced",
                    "names": { "plural": plural, "kind": "Cowboy" },
                },
            }))
            .unwrap()
        };
        let of = |cluster: &str| json!({ "kcp.io/cluster": cluster });
        for (schema, expected) in [
            (schema(of("provider"), "wildwest.dev", "cowboys"), true),
            (schema(of("other"), "wildwest.dev", "cowboys"), false),
            (schema(json!({}), "wildwest.dev", "cowboys"), false),
            (schema(of("provider"), "other.dev", "cowboys"), false),
            (schema(of("provider"), "wildwest.dev", "horses"), false),
        ] {
            let is_it = is_bound(&schema, &binding, &binding.bound_resources()[0]);
            assert_eq!(is_it, expected, "{schema:?}");
        }
        let nowhere = ApiBinding::default();
        let schema = schema(json!({}), "wildwest.dev", "cowboys");
        assert!(!is_bound(&schema, &nowhere, &binding.bound_resources()[0]));
    }
}
