//! `Cluster` `default`: the provider's own object in each engaged cluster.
//!
//! Watches: Clusters, engaged clusters, our ClusterRoles and ClusterRoleBindings. Writes: the
//! Cluster, its status, and with subjects the pair `kube-bind-oidc-user`, owned by it. Promises:
//! one write to engage a cluster; a cluster that does not accept a permission claim says so in its
//! own Cluster object and nowhere else; a role of that name which is not ours is left alone.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use serde_json::json;

use crate::api::conditions::{self, Condition, Severity};
use crate::api::keys;
use crate::api::v1alpha2::{self, ClusterSpec};
use crate::consumer::{ours, rbac};
use crate::kinds::Kinds;
use crate::rights::{self, Grant};
use crate::runtime::cluster::{ClusterId, ObjKey};
use crate::runtime::controller::Reconciler;
use crate::runtime::error::{Action, CallError, Cause, Retry};
use crate::runtime::fleet::{Cluster, ClusterInfo};
use crate::runtime::kind::{Kind, Wire};
use crate::runtime::queue::Queue;

/// Condition: the cluster lets us do everything that we need.
const CLAIMS_ACCEPTED: &str = "PermissionClaimsAccepted";

/// Condition: people may bind over HTTP.
const USERS_ALLOWED: &str = "UsersAllowed";

/// How long a deleted Cluster stays away: by then a workspace that is going has told.
const RECREATE_AFTER: Duration = Duration::from_secs(10);

/// Who may bind over HTTP, from the flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subjects {
    /// `--oidc-allowed-groups`.
    pub groups: Vec<String>,
    /// `--oidc-allowed-users`.
    pub users: Vec<String>,
}

impl Subjects {
    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.users.is_empty()
    }
}

/// The key of a cluster's Cluster.
#[must_use]
pub(super) fn key(cluster: &ClusterId) -> ObjKey {
    ObjKey::new(cluster, "", keys::CLUSTER)
}

/// Asks for the Cluster when it or a role of ours of the right name changes.
pub(super) fn subscribe(kinds: &Kinds, queue: &Arc<Queue>) {
    let clusters = Arc::clone(queue);
    kinds.clusters.subscribe(move |_, delta| {
        let key = key(&delta.scope.cluster);
        if delta.new.is_some() {
            clusters.add(key);
        } else {
            // A workspace that is being deleted loses its objects one by one, and what we made anew
            // there would hold up its end.
            clusters.add_after(key, RECREATE_AFTER);
        }
    });
    let roles = Arc::clone(queue);
    kinds.cluster_roles.subscribe(move |_, delta| {
        if delta
            .object()
            .is_some_and(|role| role.metadata.name.as_deref() == Some(keys::OIDC_USER_ROLE))
        {
            roles.add(key(&delta.scope.cluster));
        }
    });
    let bindings = Arc::clone(queue);
    kinds.cluster_role_bindings.subscribe(move |_, delta| {
        let object = delta.object();
        if object.is_some_and(|b| b.metadata.name.as_deref() == Some(keys::OIDC_USER_ROLE)) {
            bindings.add(key(&delta.scope.cluster));
        }
    });
}

/// Reconciles Clusters.
pub(super) struct Controller {
    pub(super) kinds: Arc<Kinds>,
    pub(super) subjects: Subjects,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A request failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A role or binding of our name belongs to someone else.
    #[error(
        "{kind} {} of cluster {cluster} exists and was not made by this backend, so users get no \
         rights; delete it, or hand it over with: kubectl label {kind} {} {}=true",
        keys::OIDC_USER_ROLE,
        keys::OIDC_USER_ROLE,
        keys::LABEL_MANAGED
    )]
    Foreign {
        /// The kind, as kubectl takes it.
        kind: &'static str,
        /// The cluster.
        cluster: ClusterId,
    },
}

impl Error {
    /// The reason of the condition.
    fn reason(&self) -> &'static str {
        match self {
            Self::Call(_) => "RequestRefused",
            Self::Foreign { .. } => "ForeignRole",
        }
    }
}

impl Reconciler for Controller {
    type Error = Error;

    const NAME: &'static str = "cluster";

    async fn reconcile(&self, cluster: &Cluster, key: &ObjKey) -> Result<Option<Duration>, Error> {
        if cluster.info.leaving || key.name != keys::CLUSTER {
            return Ok(None);
        }
        let object = self.object(cluster).await?;
        let users = self.users(cluster, &object).await;
        self.status(cluster, &object, users.as_ref().err()).await?;
        users.map(|()| None)
    }

    fn retry(error: &Error) -> Retry {
        match error {
            // kcp's virtual workspace may still refuse a workspace of which its watch has told us already.
            Error::Call(CallError {
                action: Action::Create,
                cause: Cause::Forbidden(_),
                kind,
                ..
            }) if kind == <v1alpha2::Cluster as kube::Resource>::kind(&()).as_ref() => {
                Retry::Transient
            }
            Error::Call(err) => err.retry(),
            Error::Foreign { .. } => Retry::Denied,
        }
    }
}

impl Controller {
    async fn object(&self, cluster: &Cluster) -> Result<Arc<v1alpha2::Cluster>, Error> {
        let kind = &self.kinds.clusters;
        if let Some(object) = kind.get(cluster, "", keys::CLUSTER) {
            return Ok(object);
        }
        let mut wanted = v1alpha2::Cluster::new(keys::CLUSTER, ClusterSpec::default());
        wanted.metadata.labels = Some(ours::labels());
        match kind.create(cluster, &wanted).await {
            Ok(created) => Ok(created),
            Err(CallError { cause: Cause::Exists, .. }) => {
                let live = kind.get_live(cluster, "", keys::CLUSTER).await?;
                Ok(Arc::new(live.unwrap_or(wanted)))
            }
            Err(err) => Err(err.into()),
        }
    }

    async fn users(&self, cluster: &Cluster, object: &v1alpha2::Cluster) -> Result<(), Error> {
        if self.subjects.is_empty() {
            return self.remove_users(cluster, object).await;
        }
        let Some(owner) = object.controller_owner_ref(&()) else {
            return Ok(());
        };
        let owner = OwnerReference { block_owner_deletion: Some(true), ..owner };
        let Subjects { groups, users } = &self.subjects;
        let role = rbac::oidc_user_cluster_role(owner.clone());
        let binding = rbac::oidc_user_cluster_role_binding(owner, groups, users);
        let kind = &self.kinds.cluster_roles;
        put_right(kind, cluster, object, &role).await?;
        let kind = &self.kinds.cluster_role_bindings;
        put_right(kind, cluster, object, &binding).await
    }

    /// Takes rights back that earlier flags gave.
    async fn remove_users(
        &self,
        cluster: &Cluster,
        object: &v1alpha2::Cluster,
    ) -> Result<(), Error> {
        remove_owned(&self.kinds.cluster_role_bindings, cluster, object).await?;
        remove_owned(&self.kinds.cluster_roles, cluster, object).await
    }

    async fn status(
        &self,
        cluster: &Cluster,
        object: &v1alpha2::Cluster,
        users: Option<&Error>,
    ) -> Result<(), Error> {
        let known = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let users = users.filter(|err| Self::retry(err) == Retry::Denied);
        let wanted = plan(known, cluster, users, jiff::Timestamp::now());
        if let Some(conditions) = wanted {
            let status = json!({ "conditions": conditions });
            self.kinds.clusters.patch_status(cluster, &object.metadata, status).await?;
        }
        Ok(())
    }
}

fn is_owned(meta: &ObjectMeta, object: &v1alpha2::Cluster) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
}

/// Deletes our object of the name `kube-bind-oidc-user`.
async fn remove_owned<K: Wire>(
    kind: &Kind<K>,
    cluster: &Cluster,
    object: &v1alpha2::Cluster,
) -> Result<(), Error> {
    let known = kind.get(cluster, "", keys::OIDC_USER_ROLE);
    if let Some(known) = known.filter(|known| is_owned((**known).meta(), object)) {
        kind.delete(cluster, (*known).meta()).await?;
    }
    Ok(())
}

/// One that v0.8.1 made has no label, but our Cluster owns it; any other is left alone.
async fn put_right<K: Grant>(
    kind: &Kind<K>,
    cluster: &Cluster,
    object: &v1alpha2::Cluster,
    wanted: &K,
) -> Result<(), Error> {
    let is_ours = |meta: &ObjectMeta| ours::is_labelled(meta) || is_owned(meta, object);
    rights::put(kind, cluster, wanted, is_ours).await.map_err(|err| match err {
        rights::Error::Call(err) => Error::Call(err),
        rights::Error::Foreign { kind, .. } => Error::Foreign { kind, cluster: cluster.id.clone() },
    })
}

/// What is wrong with the claims, and who can put it right: the tenant, or the provider first.
fn claims(info: &ClusterInfo) -> Option<String> {
    let mut texts = Vec::new();
    if !info.missing.is_empty() {
        texts.push(format!(
            "this workspace does not grant {}; accept the permission claims of APIBinding {} with \
             the verb * or with every verb that the APIExport lists",
            info.missing.join(", "),
            info.binding,
        ));
    }
    if !info.unasked.is_empty() {
        texts.push(format!(
            "the APIExport of APIBinding {} does not claim {}; its provider has to run `backend init` with the flags of the \
             backend, then accept the claims here",
            info.binding,
            info.unasked.join(", "),
        ));
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// The conditions to write: none where nothing is wrong and nothing was, which costs no request.
fn plan(
    known: &[Condition],
    cluster: &Cluster,
    users: Option<&Error>,
    now: jiff::Timestamp,
) -> Option<Vec<Condition>> {
    let claims = claims(&cluster.info);
    let mut conditions = known.to_vec();
    let mut changed = false;
    for (type_, reason, problem) in [
        (CLAIMS_ACCEPTED, "PermissionClaimsMissing", claims),
        (USERS_ALLOWED, users.map_or("", Error::reason), users.map(ToString::to_string)),
    ] {
        let condition = match problem {
            Some(message) => Condition::failed(type_, Severity::Error, reason, message),
            None if conditions::get(known, type_).is_some() => Condition::ok(type_),
            None => continue,
        };
        changed |= conditions::set(&mut conditions, condition, now);
    }
    changed |= conditions::summarize(&mut conditions, now);
    changed.then_some(conditions)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::runtime::test_support::cluster_with;

    fn cluster(missing: &[&str]) -> Cluster {
        cluster_with(ClusterInfo {
            missing: missing.iter().map(|m| (*m).to_owned()).collect(),
            binding: "kube-bind.io".into(),
            ..ClusterInfo::default()
        })
    }

    #[tokio::test]
    async fn nothing_is_written_where_nothing_is_and_was_wrong() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        assert_eq!(plan(&[], &cluster(&[]), None, now), None);
    }

    #[tokio::test]
    async fn a_missing_claim_is_said_once_and_cleared_when_it_is_granted() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let said = plan(&[], &cluster(&["secrets.core"]), None, now).unwrap();
        let types: Vec<_> = said.iter().map(|c| (c.type_.as_str(), c.is_true())).collect();
        assert_eq!(types, [("Ready", false), (CLAIMS_ACCEPTED, false)]);
        assert_eq!(
            said[1].message.as_deref(),
            Some(
                "this workspace does not grant secrets.core; accept the permission claims of \
                 APIBinding kube-bind.io with the verb * or with every verb that the APIExport lists"
            )
        );
        assert_eq!(plan(&said, &cluster(&["secrets.core"]), None, now), None);
        let cleared = plan(&said, &cluster(&[]), None, now).unwrap();
        assert!(cleared.iter().all(Condition::is_true));
        assert_eq!(plan(&Arc::new(cleared), &cluster(&[]), None, now), None);
    }
}
