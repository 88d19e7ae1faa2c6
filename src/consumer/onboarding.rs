//! What one consumer gets when it binds, as a plan.
//!
//! The names are fixed by the contract (objects.md section 1), so a crash between two writes is
//! healed by planning again. The contract namespace decides whose everything in it is: it carries
//! the consumer's identity and who bound it first. Nothing of a namespace that is not ours is used.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::api::keys;
use crate::api::v1alpha2::{ClusterBinding, ClusterBindingSpec, SecretKeyRef};

use super::contract::{annotation, identity_of, is_ours};
use super::{names, ours, rbac};

/// Who asks for a binding, as it is recorded on the contract namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binder(String);

impl Binder {
    /// Whoever may create requests in this namespace.
    #[must_use]
    pub fn namespace(namespace: &str) -> Self {
        Self(format!("namespace:{namespace}"))
    }

    /// A user that logged in: the issuer and its own name for the user, which it gives to nobody else.
    #[must_use]
    pub fn user(issuer: &str, subject: &str) -> Self {
        // An issuer has no fragment (OpenID Connect Discovery 3), so no two pairs make the same text.
        Self(format!("user:{issuer}#{subject}"))
    }

    /// The text on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A consumer that wants to bind.
#[derive(Debug, Clone, Copy)]
pub struct Consumer<'a> {
    /// What the consumer calls itself; valid by [`names::check_identity`].
    pub identity: &'a str,
    /// For people: who wrote the request.
    pub author: &'a str,
    /// For people: the consumer's cluster.
    pub pretty_name: &'a str,
    /// Whose the identity becomes.
    pub binder: &'a Binder,
    /// The template that is bound, where one was named.
    pub template: Option<&'a str>,
}

/// What becomes of the contract namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum NamespacePlan {
    /// It is there as it should be.
    Use(ObjectMeta),
    /// It is there; merge this into it.
    Patch(ObjectMeta, Value),
    /// It has to be created.
    Create(Box<Namespace>),
}

/// Why a consumer gets no contract namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Someone else bound the identity first, or v0.8.1 did for nobody knows whom.
    #[error(
        "the identity was bound first by another requester and belongs to it; to hand it over, an \
         admin runs: kubectl annotate namespace {namespace} {}={to}",
        keys::ANNOTATION_TRANSFER_TO
    )]
    IdentityTaken {
        /// The contract namespace of the identity.
        namespace: String,
        /// What the annotation has to say.
        to: String,
    },
    /// The computed name is in use for something else.
    #[error(
        "namespace {0} exists and is not a contract namespace of this identity; delete it if \
         nothing needs it, or start the backend with another --namespace-prefix"
    )]
    NameTaken(String),
    /// More than one of our namespaces carries the identity.
    #[error("namespaces {0} all carry this identity; delete all but the one in use")]
    Ambiguous(String),
    /// The namespace of the identity is being deleted.
    #[error("the contract namespace {0} is being deleted; the request goes on when it is gone")]
    Deleting(String),
    /// What an earlier consumer of the same name could do would be the new one's to do.
    #[error(
        "the rights of an earlier consumer with namespace {0} are being removed; the request goes on \
         when they are gone"
    )]
    Leftovers(String),
}

impl Refusal {
    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::IdentityTaken { .. } => "IdentityTaken",
            Self::NameTaken(_) => "NamespaceNameTaken",
            Self::Ambiguous(_) => "IdentityAmbiguous",
            Self::Deleting(_) | Self::Leftovers(_) => "NamespaceDeleting",
        }
    }
}

/// Chooses the contract namespace of a consumer.
///
/// `namespaces` are those that carry the identity or have the computed name; `binding_in` gives the
/// `ClusterBinding` of a namespace.
pub fn namespace<'a>(
    consumer: &Consumer<'_>,
    prefix: &str,
    namespaces: &[&'a ObjectMeta],
    binding_in: impl Fn(&str) -> Option<&'a ClusterBinding>,
) -> Result<NamespacePlan, Refusal> {
    let computed = names::contract_namespace(prefix, consumer.identity);
    let name_of = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default();
    let candidates: Vec<&ObjectMeta> = namespaces
        .iter()
        .copied()
        .filter(|meta| is_ours(meta, binding_in(meta.name.as_deref().unwrap_or_default())))
        .filter(|meta| identity_of(meta) == Some(consumer.identity))
        .collect();
    let own = candidates.iter().copied().find(|meta| {
        meta.deletion_timestamp.is_none()
            && name_of(meta) == computed
            && annotation(meta, keys::ANNOTATION_BOUND_BY) == Some(consumer.binder.as_str())
    });
    if let Some(own) = own {
        // Another namespace with the same identity must not lock its owner out.
        return existing(consumer, own);
    }
    match candidates.as_slice() {
        [] => {
            if namespaces.iter().any(|meta| name_of(meta) == computed) {
                return Err(Refusal::NameTaken(computed));
            }
            Ok(NamespacePlan::Create(Box::new(new_namespace(consumer, computed))))
        }
        [meta] if meta.deletion_timestamp.is_some() => Err(Refusal::Deleting(name_of(meta))),
        [meta] => existing(consumer, meta),
        several => {
            let names: Vec<String> = several.iter().map(|meta| name_of(meta)).collect();
            Err(Refusal::Ambiguous(names.join(", ")))
        }
    }
}

fn new_namespace(consumer: &Consumer<'_>, name: String) -> Namespace {
    let mut annotations = BTreeMap::from([
        (keys::ANNOTATION_IDENTITY.to_owned(), consumer.identity.to_owned()),
        (keys::ANNOTATION_BOUND_BY.to_owned(), consumer.binder.as_str().to_owned()),
    ]);
    if !consumer.author.is_empty() {
        annotations.insert(keys::ANNOTATION_AUTHOR.to_owned(), consumer.author.to_owned());
    }
    if let Some(template) = consumer.template {
        annotations.insert(keys::ANNOTATION_TEMPLATES.to_owned(), template.to_owned());
    }
    let metadata = ObjectMeta {
        name: Some(name),
        labels: Some(ours::labels()),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    Namespace { metadata, ..Namespace::default() }
}

/// Checks whose an existing namespace is, and adds what is not recorded on it yet.
fn existing(consumer: &Consumer<'_>, meta: &ObjectMeta) -> Result<NamespacePlan, Refusal> {
    let mut annotations = serde_json::Map::new();
    let binder = consumer.binder.as_str();
    match annotation(meta, keys::ANNOTATION_BOUND_BY) {
        Some(owner) if owner == binder => {}
        // v0.8.1 recorded nobody. The identity is no secret, so the first to ask need not be its
        // owner; an admin says who is.
        _ if annotation(meta, keys::ANNOTATION_TRANSFER_TO) == Some(binder) => {
            annotations.insert(keys::ANNOTATION_BOUND_BY.to_owned(), json!(binder));
            annotations.insert(keys::ANNOTATION_TRANSFER_TO.to_owned(), Value::Null);
        }
        _ => {
            return Err(Refusal::IdentityTaken {
                namespace: meta.name.clone().unwrap_or_default(),
                to: binder.to_owned(),
            });
        }
    }
    if annotation(meta, keys::ANNOTATION_IDENTITY).is_none() {
        annotations.insert(keys::ANNOTATION_IDENTITY.to_owned(), json!(consumer.identity));
        annotations.insert(keys::ANNOTATION_IDENTITY_LEGACY.to_owned(), Value::Null);
    }
    if let Some(template) = consumer.template {
        let recorded = annotation(meta, keys::ANNOTATION_TEMPLATES).unwrap_or_default();
        if !recorded.split(',').any(|known| known == template) {
            let all = if recorded.is_empty() {
                template.to_owned()
            } else {
                format!("{recorded},{template}")
            };
            annotations.insert(keys::ANNOTATION_TEMPLATES.to_owned(), json!(all));
        }
    }
    let mut patch = serde_json::Map::new();
    if !annotations.is_empty() {
        patch.insert("annotations".to_owned(), Value::Object(annotations));
    }
    if !ours::is_labelled(meta) {
        patch.insert("labels".to_owned(), json!(ours::labels()));
    }
    if patch.is_empty() {
        Ok(NamespacePlan::Use(meta.clone()))
    } else {
        Ok(NamespacePlan::Patch(meta.clone(), json!({ "metadata": patch })))
    }
}

/// What is known to exist of a consumer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contents<'a> {
    /// The ServiceAccount exists.
    pub service_account: bool,
    /// The token Secret exists.
    pub token_secret: bool,
    /// The ClusterRole that all consumers of a cluster share.
    pub cluster_role: Option<&'a ClusterRole>,
    /// What binds it.
    pub role_binding: Option<&'a RoleBinding>,
    /// The ClusterBinding.
    pub cluster_binding: Option<&'a ClusterBinding>,
}

/// One write. Creates come back as "exists already" where our view was old; that is success.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Create the ServiceAccount.
    ServiceAccount(Box<ServiceAccount>),
    /// Create the ClusterRole.
    CreateClusterRole(Box<ClusterRole>),
    /// Put its rules right.
    ReplaceClusterRole(Box<ClusterRole>),
    /// Create the RoleBinding.
    CreateRoleBinding(Box<RoleBinding>),
    /// Put its subjects right.
    ReplaceRoleBinding(Box<RoleBinding>),
    /// Ask for a token.
    TokenSecret(Box<Secret>),
    /// Create the ClusterBinding.
    ClusterBinding(Box<ClusterBinding>),
}

/// The writes that are missing in a contract namespace, in the order in which they are made: rights
/// come before the token, so that they are effective when the token is there.
#[must_use]
pub fn contents(
    consumer: &Consumer<'_>,
    provider_pretty_name: &str,
    namespace: &str,
    seen: &Contents<'_>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    if !seen.service_account {
        steps.push(Step::ServiceAccount(Box::new(rbac::binder_service_account(namespace))));
    }
    let role = rbac::binder_cluster_role();
    match seen.cluster_role {
        None => steps.push(Step::CreateClusterRole(Box::new(role))),
        Some(known) if known.rules == role.rules => {}
        Some(known) => steps.push(Step::ReplaceClusterRole(Box::new(ClusterRole {
            rules: role.rules,
            ..known.clone()
        }))),
    }
    let binding = rbac::binder_role_binding(namespace);
    match seen.role_binding {
        None => steps.push(Step::CreateRoleBinding(Box::new(binding))),
        Some(known) if known.subjects == binding.subjects && known.role_ref == binding.role_ref => {
        }
        Some(known) => steps.push(Step::ReplaceRoleBinding(Box::new(RoleBinding {
            subjects: binding.subjects,
            role_ref: binding.role_ref,
            ..known.clone()
        }))),
    }
    if !seen.token_secret {
        steps.push(Step::TokenSecret(Box::new(rbac::binder_token_secret(namespace))));
    }
    if seen.cluster_binding.is_none() {
        let binding = cluster_binding(consumer, provider_pretty_name, namespace);
        steps.push(Step::ClusterBinding(Box::new(binding)));
    }
    steps
}

fn cluster_binding(consumer: &Consumer<'_>, pretty_name: &str, namespace: &str) -> ClusterBinding {
    let texts = [
        (keys::ANNOTATION_IDENTITY, consumer.identity),
        (keys::ANNOTATION_AUTHOR, consumer.author),
        (keys::ANNOTATION_CLUSTER_PRETTY_NAME, consumer.pretty_name),
    ];
    let annotations = texts.into_iter().filter(|(_, text)| !text.is_empty());
    ClusterBinding {
        metadata: ObjectMeta {
            annotations: Some(annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()),
            ..ours::metadata(keys::CLUSTER_BINDING, Some(namespace))
        },
        spec: ClusterBindingSpec {
            kubeconfig_secret_ref: SecretKeyRef {
                name: keys::KUBECONFIG_SECRET.to_owned(),
                key: keys::KUBECONFIG_KEY.to_owned(),
            },
            provider_pretty_name: pretty_name.to_owned(),
            service_provider_spec: None,
        },
        status: None,
    }
}

#[cfg(test)]
mod tests;
