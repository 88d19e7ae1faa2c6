//! The namespace in the provider's cluster that stands for one of the consumer's namespaces
//! (contract objects.md 6, with the differences of design section 5).
//!
//! A service namespace carries the `APIServiceNamespace` that it is for, that one's UID and the UIDs
//! of the contract namespace and of the `ClusterBinding` in it. It is deleted when the first or the
//! contract is gone, and nothing else is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::contract::{Contract, annotation};
use super::{names, ours};
use crate::api::keys;
use crate::api::v1alpha2::{Isolation, Scope};

/// What the flags say about service namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// `--isolation`.
    pub isolation: Isolation,
    /// `--consumer-scope`.
    pub informer_scope: Scope,
    /// `--namespace-prefix`: such names are kept for contract namespaces.
    pub namespace_prefix: String,
}

/// An `APIServiceNamespace`, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its name: the consumer's namespace.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Its `status.namespace`, which is never changed once it is set.
    pub known: Option<&'a str>,
}

/// What becomes of the service namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// It has to be created.
    Create(Box<Namespace>),
    /// It is ours; merge this into it first.
    Adopt(Value),
    /// It is ours and as it should be.
    Use,
    /// It is somebody else's and may be used: no mark, no Role, no deletion.
    Borrow,
}

/// Why there is no service namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name does not fit.
    #[error(
        "namespace {0} would have {len} characters, 63 are allowed; use a consumer namespace with a \
         shorter name{STOPS}",
        len = .0.len()
    )]
    TooLong(String),
    /// The name is none for a namespace.
    #[error(
        "{0} is no name for a namespace; use lower case letters, digits and '-' in the name of the \
         APIServiceNamespace{STOPS}"
    )]
    NotAName(String),
    /// The name is kept for others.
    #[error(
        "namespace {0} is kept for the provider's own use or for other consumers; use a consumer \
         namespace of another name{STOPS}"
    )]
    NotAllowed(String),
    /// It is somebody else's.
    #[error(
        "namespace {0} exists in the provider's cluster and does not belong to this consumer; use a \
         consumer namespace of another name, or have the provider delete it{STOPS}"
    )]
    Taken(String),
    /// It is going away.
    #[error("namespace {0} is being deleted; it is made again when it is gone")]
    Deleting(String),
}

/// What a refusal means to a konnector with informers per namespace.
const STOPS: &str = ", because until then nothing new of this consumer is synced where the konnector \
                     watches single namespaces";

impl Refusal {
    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "NamespaceNameTooLong",
            Self::NotAName(_) => "NamespaceNameInvalid",
            Self::NotAllowed(_) => "NamespaceNotAllowed",
            Self::Taken(_) => "NamespaceTaken",
            Self::Deleting(_) => "NamespaceDeleting",
        }
    }
}

/// The name of the service namespace.
#[must_use]
pub fn name(rules: &Rules, contract: &str, wanted: &Wanted<'_>) -> String {
    match (wanted.known.filter(|known| !known.is_empty()), rules.isolation) {
        (Some(known), _) => known.to_owned(),
        (None, Isolation::None) => wanted.name.to_owned(),
        (None, Isolation::Prefixed | Isolation::Namespaced) => {
            format!("{contract}-{}", wanted.name)
        }
    }
}

/// Decides about the service namespace of this name. `target` is the Namespace that has the name, and
/// `is_contract` tells whether that is a contract namespace.
pub fn plan(
    rules: &Rules,
    contract: &Contract,
    wanted: &Wanted<'_>,
    name: &str,
    target: Option<&ObjectMeta>,
    is_contract: bool,
) -> Result<Plan, Refusal> {
    let mark = format!("{}/{}", contract.namespace, wanted.name);
    let refuse = |refusal: fn(String) -> Refusal| Err(refusal(name.to_owned()));
    if is_contract {
        return refuse(Refusal::NotAllowed);
    }
    let marked = target.and_then(|meta| annotation(meta, keys::ANNOTATION_SERVICE_NAMESPACE));
    if let Some(meta) = target.filter(|_| marked == Some(&mark)) {
        return own(contract, wanted, name, meta);
    }
    let kept = |prefix: &str| name.starts_with(prefix);
    if rules.isolation == Isolation::None && (kept("kube-") || kept(&rules.namespace_prefix)) {
        return refuse(Refusal::NotAllowed);
    }
    match target {
        None if !names::is_dns_label(name) => {
            let too_long = name.len() > 63 && names::is_dns_subdomain(name) && !name.contains('.');
            refuse(if too_long { Refusal::TooLong } else { Refusal::NotAName })
        }
        None => Ok(Plan::Create(Box::new(Namespace {
            metadata: ObjectMeta {
                annotations: Some(marks(contract, wanted, &mark)),
                ..ours::metadata(name, None)
            },
            ..Namespace::default()
        }))),
        Some(_) if marked.is_some() => refuse(Refusal::Taken),
        Some(_) if rules.isolation != Isolation::None || rules.informer_scope != Scope::Cluster => {
            refuse(Refusal::Taken)
        }
        Some(meta) if meta.deletion_timestamp.is_some() => refuse(Refusal::Deleting),
        Some(_) => Ok(Plan::Borrow),
    }
}

/// Decides about a namespace that is marked for this `APIServiceNamespace`.
fn own(
    contract: &Contract,
    wanted: &Wanted<'_>,
    name: &str,
    meta: &ObjectMeta,
) -> Result<Plan, Refusal> {
    let contract_uid = annotation(meta, keys::ANNOTATION_CONTRACT_UID);
    // What an earlier consumer of the same contract name left is deleted first, never handed on.
    if meta.deletion_timestamp.is_some() || contract_uid.is_some_and(|uid| uid != contract.uid) {
        return Err(Refusal::Deleting(name.to_owned()));
    }
    let owner = annotation(meta, keys::ANNOTATION_OWNER_UID);
    let binding = annotation(meta, keys::ANNOTATION_BINDING_UID);
    let bound = contract.binding.is_none() || binding == contract.binding.as_deref();
    if contract_uid.is_some() && owner == Some(wanted.uid) && bound && ours::is_labelled(meta) {
        return Ok(Plan::Use);
    }
    // Made by v0.8.1, or for an APIServiceNamespace that the konnector has made anew since, or for a
    // consumer that has bound anew.
    let mark = format!("{}/{}", contract.namespace, wanted.name);
    Ok(Plan::Adopt(json!({
        "metadata": { "labels": ours::labels(), "annotations": marks(contract, wanted, &mark) },
    })))
}

fn marks(contract: &Contract, wanted: &Wanted<'_>, mark: &str) -> BTreeMap<String, String> {
    let known = [
        (keys::ANNOTATION_SERVICE_NAMESPACE, mark),
        (keys::ANNOTATION_OWNER_UID, wanted.uid),
        (keys::ANNOTATION_CONTRACT_UID, contract.uid.as_str()),
    ];
    let binding = contract.binding.as_deref().map(|uid| (keys::ANNOTATION_BINDING_UID, uid));
    let marks = known.into_iter().chain(binding);
    marks.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The `APIServiceNamespace` that a namespace is for: its contract namespace and name.
#[must_use]
pub fn made_for(meta: &ObjectMeta) -> Option<(&str, &str)> {
    annotation(meta, keys::ANNOTATION_SERVICE_NAMESPACE)?.split_once('/')
}

/// Whether we may delete a namespace once what it is for is gone: it says so itself, completely.
#[must_use]
pub fn is_deletable(meta: &ObjectMeta) -> bool {
    ours::is_labelled(meta)
        && made_for(meta).is_some()
        && annotation(meta, keys::ANNOTATION_OWNER_UID).is_some()
        && annotation(meta, keys::ANNOTATION_CONTRACT_UID).is_some()
}

#[cfg(test)]
mod tests;
