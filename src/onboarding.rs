//! Carries out the plan of [`crate::consumer::onboarding`] in one cluster.
//!
//! Watches nothing itself. Writes: the contract namespace and what the contract puts in it
//! (ServiceAccount, token Secret, RoleBinding, ClusterBinding, kubeconfig Secret), and the shared
//! ClusterRole `kube-binder`. Promises: safe to repeat after any interruption; two racing callers
//! end with one namespace; a kubeconfig comes back only when the API server lets it do what a
//! consumer does first; an unchanged consumer costs no write.

mod access;
mod address;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use secrecy::{ExposeSecret as _, SecretString};

pub use self::address::Published;

use crate::api::keys;
use crate::api::v1alpha2::ClusterBinding;
use crate::consumer::contract::identity_of;
use crate::consumer::external::{self, ExternalAddress};
use crate::consumer::onboarding::{self as plan, Consumer, Contents, NamespacePlan, Refusal, Step};
use crate::consumer::rights::is_made_for_consumer;
use crate::consumer::{names, ours};
use crate::kinds::{Kinds, digest_of, token_of};
use crate::runtime::cluster::ObjKey;
use crate::runtime::error::{CallError, Cause, Retry};
use crate::runtime::fleet::Cluster;

/// What is the same for all consumers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Prefix of contract namespaces.
    pub namespace_prefix: String,
    /// The provider's name for people.
    pub pretty_name: String,
    /// Where consumers reach the provider, if not where we do.
    pub external_address: Option<ExternalAddress>,
    /// The CA they need for that, PEM.
    pub ca: Option<Vec<u8>>,
    /// The name they expect in its certificate.
    pub server_name: Option<String>,
}

/// How far a consumer has come.
#[derive(Debug)]
pub enum Progress {
    /// A token is on its way; its arrival is an event.
    Waiting {
        /// The contract namespace, where the token's Secret is.
        namespace: String,
        /// When to look without an event.
        again: Duration,
    },
    /// The consumer can start.
    Ready(Access),
}

/// What a consumer gets.
#[derive(Debug)]
pub struct Access {
    /// Its contract namespace.
    pub namespace: String,
    /// Its kubeconfig, the same bytes as in the Secret.
    pub kubeconfig: SecretString,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The consumer gets nothing until someone acts.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A request failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An object of a name that we need is not ours and differs from what we need.
    #[error(
        "{kind} {key} exists, differs from what consumers need and was not made by this backend; \
         delete it, or hand it over with: kubectl label {kind} {name} {}=true",
        keys::LABEL_MANAGED
    )]
    Foreign {
        /// The kind, as kubectl takes it.
        kind: &'static str,
        /// The object.
        key: ObjKey,
        /// Its name.
        name: String,
    },
    /// No token came.
    #[error(
        "Secret {0} got no token within 10 s; check that the cluster's service account token \
         controller runs, and delete the Secret if it is of another type"
    )]
    NoToken(ObjKey),
    /// It was there a moment ago.
    #[error("Secret {0} was deleted while it was written; trying again")]
    Vanished(ObjKey),
    /// The new credential has no rights yet.
    #[error(
        "the new credential of {0} may not create APIServiceExportRequests yet although its \
         RoleBinding exists; check the cluster's authorization if this stays"
    )]
    NotEffective(ObjKey),
    /// There is no server to name.
    #[error("no server for the kubeconfig of cluster {cluster}: {source}")]
    Address {
        /// The cluster.
        cluster: String,
        /// Why.
        #[source]
        source: external::Error,
    },
}

impl Error {
    /// What kind of waiting helps.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Call(err) => err.retry(),
            Self::Vanished(_)
            | Self::NoToken(_)
            | Self::NotEffective(_)
            | Self::Refused(Refusal::Deleting(_) | Refusal::Leftovers(_)) => Retry::Transient,
            Self::Refused(_) | Self::Foreign { .. } | Self::Address { .. } => Retry::Denied,
        }
    }

    /// The reason of the condition, where it is not one of the contract.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refusal) => Some(refusal.reason()),
            Self::Call(CallError { cause: Cause::Forbidden(_), .. }) => Some("Forbidden"),
            _ => None,
        }
    }
}

/// How long the token controller may take (objects.md 1.2).
const TOKEN_DEADLINE: Duration = Duration::from_secs(10);

/// Onboards consumers.
pub struct Onboarding {
    /// Where things are read and written.
    pub kinds: Arc<Kinds>,
    /// What is the same for all.
    pub settings: Settings,
    /// Where workspaces are reached.
    pub published: Published,
}

impl Onboarding {
    /// Brings one consumer as far as it goes now.
    pub async fn advance(
        &self,
        cluster: &Cluster,
        consumer: &Consumer<'_>,
    ) -> Result<Progress, Error> {
        let namespace = self.namespace(cluster, consumer).await?;
        let Made { rights_changed, token, asked } =
            self.contents(cluster, consumer, &namespace).await?;
        let Some(token) = token else {
            return waiting(cluster, &namespace, asked);
        };
        let desired = self.kubeconfig(cluster, &namespace, token).await?;
        let binding = self.kinds.cluster_bindings.get(cluster, &namespace, keys::CLUSTER_BINDING);
        let secret_name = binding.map_or_else(
            || keys::KUBECONFIG_SECRET.to_owned(),
            |binding| binding.spec.kubeconfig_secret_ref.name.clone(),
        );
        let known = self.kinds.secrets.get(cluster, &namespace, &secret_name);
        let yaml = desired.to_yaml();
        let digest = digest_of(yaml.expose_secret().as_bytes());
        let same = known
            .as_ref()
            .is_some_and(|secret| secret.digests.get(keys::KUBECONFIG_KEY) == Some(&digest));
        // A kubeconfig is written only once its rights are effective, so one that is there and
        // unchanged, under rights that are unchanged, needs no second review.
        if !same || rights_changed {
            self.effective(cluster, &namespace).await?;
        }
        let kubeconfig = if same {
            yaml
        } else {
            self.write_kubeconfig(cluster, &namespace, &secret_name, &desired, yaml).await?
        };
        Ok(Progress::Ready(Access { namespace, kubeconfig }))
    }

    async fn namespace(&self, cluster: &Cluster, consumer: &Consumer<'_>) -> Result<String, Error> {
        let kind = &self.kinds.namespaces;
        let computed =
            names::contract_namespace(&self.settings.namespace_prefix, consumer.identity);
        let relevant = |meta: &ObjectMeta| {
            identity_of(meta) == Some(consumer.identity)
                || meta.name.as_deref() == Some(computed.as_str())
        };
        let mut seen: Vec<Arc<PartialObjectMeta<Namespace>>> =
            kind.list(cluster).into_iter().filter(|object| relevant(&object.metadata)).collect();
        // Twice at most: the second time with the live object that was in the way of the first.
        for second in [false, true] {
            let bindings: BTreeMap<String, Arc<ClusterBinding>> = seen
                .iter()
                .filter_map(|object| object.metadata.name.clone())
                .filter_map(|name| {
                    let binding =
                        self.kinds.cluster_bindings.get(cluster, &name, keys::CLUSTER_BINDING)?;
                    Some((name, binding))
                })
                .collect();
            let metas: Vec<&ObjectMeta> = seen.iter().map(|object| &object.metadata).collect();
            let wanted =
                plan::namespace(consumer, &self.settings.namespace_prefix, &metas, |name| {
                    bindings.get(name).map(|binding| &**binding)
                })?;
            match wanted {
                NamespacePlan::Use(meta) => return Ok(meta.name.unwrap_or_default()),
                NamespacePlan::Patch(meta, fields) => {
                    kind.patch(cluster, &meta, fields).await?;
                    return Ok(meta.name.unwrap_or_default());
                }
                // Bindings name the service account of that namespace, whoever made it.
                NamespacePlan::Create(_) if self.has_leftovers(cluster, &computed) => {
                    return Err(Refusal::Leftovers(computed).into());
                }
                NamespacePlan::Create(object) => match kind.create(cluster, &object).await {
                    Ok(_) => return Ok(computed),
                    Err(err) if second || !matches!(err.cause, Cause::Exists) => {
                        return Err(err.into());
                    }
                    Err(_) => {}
                },
            }
            let Some(live) = kind.get_live(cluster, "", &computed).await? else {
                continue;
            };
            seen.push(Arc::new(PartialObjectMeta {
                types: None,
                metadata: live.metadata,
                _phantom: std::marker::PhantomData,
            }));
        }
        Err(Refusal::NameTaken(computed).into())
    }

    /// Whether an earlier consumer of this contract namespace left rights behind. The controller of
    /// exports takes them away, as long as the namespace is not there.
    fn has_leftovers(&self, cluster: &Cluster, contract: &str) -> bool {
        let of = |meta: &ObjectMeta| is_made_for_consumer(meta, contract);
        let kinds = &self.kinds;
        kinds.role_bindings.list(cluster).iter().any(|object| of(&object.metadata))
            || kinds.cluster_role_bindings.list(cluster).iter().any(|object| of(&object.metadata))
    }

    /// Makes what is missing.
    async fn contents(
        &self,
        cluster: &Cluster,
        consumer: &Consumer<'_>,
        namespace: &str,
    ) -> Result<Made, Error> {
        let kinds = &self.kinds;
        let role = kinds.cluster_roles.get(cluster, "", keys::CLUSTER_ROLE);
        let role_binding = kinds.role_bindings.get(cluster, namespace, keys::ROLE_BINDING);
        let binding = kinds.cluster_bindings.get(cluster, namespace, keys::CLUSTER_BINDING);
        let token_secret = kinds.secrets.get(cluster, namespace, keys::TOKEN_SECRET);
        let service_account = kinds.service_accounts.get(cluster, namespace, keys::SERVICE_ACCOUNT);
        let seen = Contents {
            service_account: service_account.is_some(),
            token_secret: token_secret.is_some(),
            cluster_role: role.as_deref(),
            role_binding: role_binding.as_deref(),
            cluster_binding: binding.as_deref(),
        };
        let mut made = Made::default();
        if let Some(secret) = &token_secret {
            made.token.clone_from(&secret.token);
            made.asked = secret.metadata.creation_timestamp.as_ref().map(|at| at.0);
        }
        for step in plan::contents(consumer, &self.settings.pretty_name, namespace, &seen) {
            match step {
                Step::ServiceAccount(object) => {
                    exists_is_fine(kinds.service_accounts.create(cluster, &object).await)?;
                }
                Step::CreateClusterRole(object) => {
                    made.rights_changed = true;
                    self.create_cluster_role(cluster, &object).await?;
                }
                Step::ReplaceClusterRole(object) => {
                    made.rights_changed = true;
                    kinds.cluster_roles.replace(cluster, &object).await?;
                }
                Step::CreateRoleBinding(object) => {
                    made.rights_changed = true;
                    self.create_role_binding(cluster, *object).await?;
                }
                Step::ReplaceRoleBinding(object) => {
                    made.rights_changed = true;
                    kinds.role_bindings.replace(cluster, &object).await?;
                }
                Step::TokenSecret(object) => {
                    let created = exists_is_fine(kinds.secrets.create(cluster, &object).await)?;
                    if !created {
                        // One of v0.8.1 has no label, so no watch of ours shows it.
                        let live = kinds.secrets.get_live(cluster, namespace, keys::TOKEN_SECRET);
                        let live = live.await?.unwrap_or_default();
                        made.token = token_of(&live);
                        made.asked = live.metadata.creation_timestamp.map(|at| at.0);
                    }
                }
                Step::ClusterBinding(object) => {
                    exists_is_fine(kinds.cluster_bindings.create(cluster, &object).await)?;
                }
            }
        }
        Ok(made)
    }

    async fn create_cluster_role(
        &self,
        cluster: &Cluster,
        role: &ClusterRole,
    ) -> Result<(), Error> {
        let kind = &self.kinds.cluster_roles;
        if exists_is_fine(kind.create(cluster, role).await)? {
            return Ok(());
        }
        let live = kind.get_live(cluster, "", keys::CLUSTER_ROLE).await?;
        // With our label the watch brings it and the next look puts it right; without, it was made by
        // v0.8.1 or by hand, which is fine as long as it grants what we would.
        if live.is_none_or(|live| live.rules == role.rules || ours::is_labelled(&live.metadata)) {
            return Ok(());
        }
        Err(Error::Foreign {
            kind: "clusterrole",
            key: ObjKey::new(&cluster.id, "", keys::CLUSTER_ROLE),
            name: keys::CLUSTER_ROLE.to_owned(),
        })
    }

    /// In a contract namespace of ours the names of the contract are ours, so what v0.8.1 made there
    /// without a label is put right rather than refused.
    async fn create_role_binding(
        &self,
        cluster: &Cluster,
        wanted: RoleBinding,
    ) -> Result<(), Error> {
        let kind = &self.kinds.role_bindings;
        if exists_is_fine(kind.create(cluster, &wanted).await)? {
            return Ok(());
        }
        let namespace = wanted.metadata.namespace.clone().unwrap_or_default();
        let Some(live) = kind.get_live(cluster, &namespace, keys::ROLE_BINDING).await? else {
            return Ok(());
        };
        if live.role_ref != wanted.role_ref {
            return Err(Error::Foreign {
                kind: "rolebinding",
                key: ObjKey::of(&cluster.id, &live.metadata),
                name: keys::ROLE_BINDING.to_owned(),
            });
        }
        if live.subjects != wanted.subjects {
            kind.replace(cluster, &RoleBinding { subjects: wanted.subjects, ..live }).await?;
        }
        Ok(())
    }
}

/// What [`Onboarding::contents`] found and made.
#[derive(Default)]
struct Made {
    rights_changed: bool,
    token: Option<SecretString>,
    /// When the token was asked for.
    asked: Option<jiff::Timestamp>,
}

fn waiting(
    cluster: &Cluster,
    namespace: &str,
    asked: Option<jiff::Timestamp>,
) -> Result<Progress, Error> {
    let age = asked.map(|at| jiff::Timestamp::now().duration_since(at));
    let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
    if age > TOKEN_DEADLINE {
        return Err(Error::NoToken(ObjKey::new(&cluster.id, namespace, keys::TOKEN_SECRET)));
    }
    let again = TOKEN_DEADLINE + Duration::from_secs(1);
    Ok(Progress::Waiting { namespace: namespace.to_owned(), again })
}

/// Whether an object was created; one that was there before is no error.
fn exists_is_fine<T>(result: Result<T, CallError>) -> Result<bool, CallError> {
    match result {
        Ok(_) => Ok(true),
        Err(CallError { cause: Cause::Exists, .. }) => Ok(false),
        Err(err) => Err(err),
    }
}
