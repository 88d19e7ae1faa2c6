//! What is missing in a consumer's cluster, decided without I/O.
//!
//! Only what we made (it carries our label) is changed. What others made is used if it does its
//! job, and else refused with everything untouched: a konnector that `kubectl bind` installed
//! keeps its image, its rights and its host aliases.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Namespace, PodSpec, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt as _, Resource, ResourceExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;

use crate::api::keys;
use crate::api::v1alpha2::{
    ApiServiceBindingBundle, ApiServiceBindingBundleSpec, NamespacedSecretKeyRef,
};
use crate::consumer::host_alias::{self, HostAlias};
use crate::consumer::kubeconfig::Kubeconfig;
use crate::consumer::ours;
use crate::http::konnector::{self, Konnector, missing_rules, pod_host_aliases};

/// Type of the Secret: the konnector copies the type of the provider's, and a type cannot change.
const OPAQUE: &str = "Opaque";

/// Why nothing was changed in the consumer's cluster.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The namespace is going away.
    #[error(
        "namespace kube-bind of the consumer's cluster is being deleted; try again when it is gone"
    )]
    NamespaceDeleted,
    /// Something else has the name of the konnector.
    #[error(
        "Deployment kube-bind/konnector of the consumer's cluster {0}, so it was left alone; delete \
         or rename it, and try again"
    )]
    ForeignDeployment(&'static str),
    /// Rights of the konnector that are not enough.
    #[error(
        "ClusterRole kube-bind-konnector of the consumer's cluster was not made by this backend and \
         grants too little; delete it, or hand it over with: kubectl label clusterrole \
         kube-bind-konnector {}=true",
        keys::LABEL_MANAGED
    )]
    ForeignRole,
    /// They go to somebody else.
    #[error(
        "ClusterRoleBinding kube-bind-konnector of the consumer's cluster does not bind the ClusterRole \
         of that name to ServiceAccount kube-bind/konnector; delete it, and try again"
    )]
    ForeignRoleBinding,
    /// The Secret is another binding's.
    #[error(
        "Secret kube-bind/{0} of the consumer's cluster is not the kubeconfig of this provider and \
         contract namespace; choose another bindingName, or delete the Secret"
    )]
    ForeignSecret(String),
    /// The bundle is another binding's.
    #[error(
        "APIServiceBindingBundle {0} of the consumer's cluster refers to another Secret, which cannot \
         be changed; choose another bindingName, or delete the bundle"
    )]
    ForeignBundle(String),
}

/// What there is.
#[derive(Clone, Default)]
pub struct Observed {
    /// Namespace `kube-bind`.
    pub namespace: Option<Namespace>,
    /// ServiceAccount of the konnector.
    pub service_account: Option<ServiceAccount>,
    /// Its rights.
    pub cluster_role: Option<ClusterRole>,
    /// What gives them to it.
    pub cluster_role_binding: Option<ClusterRoleBinding>,
    /// The provider's kubeconfig.
    pub secret: Option<Secret>,
    /// The definition of bundles.
    pub definition: Option<CustomResourceDefinition>,
    /// The konnector.
    pub deployment: Option<Deployment>,
    /// The bundle.
    pub bundle: Option<ApiServiceBindingBundle>,
}

/// What there should be.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Name of the bundle, and part of the name of the Secret.
    pub binding: &'a str,
    /// The provider's kubeconfig, byte for byte as in the provider's Secret.
    pub kubeconfig: &'a SecretString,
    /// The konnector.
    pub konnector: &'a Konnector,
}

/// An object to write.
#[derive(Clone, PartialEq)]
pub enum Object {
    /// Namespace `kube-bind`.
    Namespace(Box<Namespace>),
    /// ServiceAccount of the konnector.
    ServiceAccount(Box<ServiceAccount>),
    /// Its rights.
    ClusterRole(Box<ClusterRole>),
    /// What gives them to it.
    ClusterRoleBinding(Box<ClusterRoleBinding>),
    /// The provider's kubeconfig.
    Secret(Box<Secret>),
    /// The definition of bundles.
    Definition(Box<CustomResourceDefinition>),
    /// The konnector.
    Deployment(Box<Deployment>),
    /// The bundle.
    Bundle(Box<ApiServiceBindingBundle>),
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(object) => object.fmt(f),
            Self::ServiceAccount(object) => object.fmt(f),
            Self::ClusterRole(object) => object.fmt(f),
            Self::ClusterRoleBinding(object) => object.fmt(f),
            // Its data are a credential.
            Self::Secret(object) => object.metadata.fmt(f),
            Self::Definition(object) => object.metadata.fmt(f),
            Self::Deployment(object) => object.fmt(f),
            Self::Bundle(object) => object.fmt(f),
        }
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Of an object that is not there.
    Create(Object),
    /// Of an object that is there, with its resourceVersion.
    Update(Object),
}

/// Name of the Secret with the provider's kubeconfig (contract objects.md 11).
#[must_use]
pub fn secret_name(binding: &str) -> String {
    format!("kubeconfig-{binding}")
}

/// The writes that are missing, in their order: what the konnector needs comes before it, the bundle,
/// which makes it work, comes last. Nothing is written if one object is refused.
///
/// v0.8.1 waits up to two minutes for the first konnector to install the definition of bundles. That
/// is longer than a request may take, so a missing definition is created here; the konnector puts
/// its own in its place when it starts (contract konnector.md 1.1).
pub fn plan(observed: &Observed, wanted: &Wanted<'_>) -> Result<Vec<Step>, Refusal> {
    let konnector = wanted.konnector;
    let steps = [
        namespace(observed.namespace.as_ref(), konnector)?,
        service_account(observed.service_account.as_ref(), konnector),
        cluster_role(observed.cluster_role.as_ref(), konnector)?,
        cluster_role_binding(observed.cluster_role_binding.as_ref(), konnector)?,
        secret(observed.secret.as_ref(), wanted)?,
        definition(observed.definition.as_ref()),
        deployment(observed.deployment.as_ref(), konnector)?,
        bundle(observed.bundle.as_ref(), wanted)?,
    ];
    Ok(steps.into_iter().flatten().collect())
}

fn namespace(known: Option<&Namespace>, konnector: &Konnector) -> Result<Option<Step>, Refusal> {
    match known {
        None => Ok(Some(create(konnector.namespace(), Object::Namespace))),
        Some(known) if known.metadata.deletion_timestamp.is_some() => {
            Err(Refusal::NamespaceDeleted)
        }
        Some(_) => Ok(None),
    }
}

fn service_account(known: Option<&ServiceAccount>, konnector: &Konnector) -> Option<Step> {
    known.is_none().then(|| create(konnector.service_account(), Object::ServiceAccount))
}

/// Rights are added to ours, never taken away: another provider's backend may have put them there.
fn cluster_role(
    known: Option<&ClusterRole>,
    konnector: &Konnector,
) -> Result<Option<Step>, Refusal> {
    let wanted = konnector.cluster_role();
    let Some(known) = known else {
        return Ok(Some(create(wanted, Object::ClusterRole)));
    };
    let rules = known.rules.clone().unwrap_or_default();
    let missing = missing_rules(&rules, &wanted.rules.unwrap_or_default());
    if missing.is_empty() {
        return Ok(None);
    }
    if !ours::is_labelled(&known.metadata) {
        return Err(Refusal::ForeignRole);
    }
    let rules = Some([rules, missing].concat());
    Ok(Some(update(ClusterRole { rules, ..known.clone() }, Object::ClusterRole)))
}

fn cluster_role_binding(
    known: Option<&ClusterRoleBinding>,
    konnector: &Konnector,
) -> Result<Option<Step>, Refusal> {
    let wanted = konnector.cluster_role_binding();
    let Some(known) = known else {
        return Ok(Some(create(wanted, Object::ClusterRoleBinding)));
    };
    let subjects = known.subjects.clone().unwrap_or_default();
    let wanted_subjects = wanted.subjects.unwrap_or_default();
    if known.role_ref != wanted.role_ref {
        return Err(Refusal::ForeignRoleBinding);
    }
    if wanted_subjects.iter().all(|subject| subjects.contains(subject)) {
        return Ok(None);
    }
    if !ours::is_labelled(&known.metadata) {
        return Err(Refusal::ForeignRoleBinding);
    }
    let subjects = Some(wanted_subjects);
    let binding = ClusterRoleBinding { subjects, ..known.clone() };
    Ok(Some(update(binding, Object::ClusterRoleBinding)))
}

fn secret(known: Option<&Secret>, wanted: &Wanted<'_>) -> Result<Option<Step>, Refusal> {
    let name = secret_name(wanted.binding);
    let text = wanted.kubeconfig.expose_secret().as_bytes();
    let data = || BTreeMap::from([(keys::KUBECONFIG_KEY.to_owned(), ByteString(text.to_vec()))]);
    let Some(known) = known else {
        let secret = Secret {
            metadata: ours::metadata(&name, Some(keys::KUBE_BIND_NAMESPACE)),
            type_: Some(OPAQUE.to_owned()),
            data: Some(data()),
            ..Secret::default()
        };
        return Ok(Some(create(secret, Object::Secret)));
    };
    let value = known.data.as_ref().and_then(|data| data.get(keys::KUBECONFIG_KEY));
    let value = value.map(|value| value.0.as_slice()).unwrap_or_default();
    let opaque = known.type_.as_deref().is_none_or(|known| known == OPAQUE);
    if opaque && value == text {
        return Ok(None);
    }
    let ours = ours::is_labelled(&known.metadata);
    if !opaque || !same_contract(value, text, ours) {
        return Err(Refusal::ForeignSecret(name));
    }
    let secret = Secret { data: Some(data()), ..known.clone() };
    Ok(Some(update(secret, Object::Secret)))
}

/// Whether both kubeconfigs lead to the same contract namespace of the same provider. v0.8.1 made
/// these Secrets without a label. The server of one of ours may have moved; one of ours that is
/// unreadable is put right.
fn same_contract(known: &[u8], wanted: &[u8], ours: bool) -> bool {
    match (Kubeconfig::parse(known), Kubeconfig::parse(wanted)) {
        (Ok(known), Ok(wanted)) => {
            known.namespace == wanted.namespace && (ours || known.server == wanted.server)
        }
        (Err(_), _) => ours,
        (Ok(_), Err(_)) => false,
    }
}

fn definition(known: Option<&CustomResourceDefinition>) -> Option<Step> {
    known.is_none().then(|| create(ApiServiceBindingBundle::crd(), Object::Definition))
}

fn deployment(known: Option<&Deployment>, konnector: &Konnector) -> Result<Option<Step>, Refusal> {
    let Some(known) = known else {
        return Ok(Some(create(konnector.deployment(), Object::Deployment)));
    };
    let mut wanted = known.clone();
    let pod = wanted.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    let pod = pod.filter(|pod| !pod.containers.is_empty());
    let pod = pod.ok_or(Refusal::ForeignDeployment("has no containers"))?;
    let aliases = host_alias::merge(&aliases_of(pod), &konnector.host_aliases);
    let account = pod.service_account_name.as_deref() == Some(konnector::NAME);
    let container = pod.containers.iter_mut().find(|container| is_konnector(container, konnector));
    let (Some(container), true) = (container, account) else {
        return Err(Refusal::ForeignDeployment("is not a konnector"));
    };
    if !ours::is_labelled(&known.metadata) {
        return Ok(None);
    }
    if !is_older(&konnector.image, container.image.as_deref().unwrap_or_default()) {
        container.image = Some(konnector.image.clone());
    }
    if aliases != aliases_of(pod) {
        pod.host_aliases = pod_host_aliases(&aliases);
    }
    Ok((wanted != *known).then(|| update(wanted, Object::Deployment)))
}

/// Whether the konnector is one that was installed by others and lacks some of these aliases, which
/// the user should know.
#[must_use]
pub fn lacks_aliases(deployment: &Deployment, wanted: &[HostAlias]) -> bool {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let known = pod.map(aliases_of).unwrap_or_default();
    !ours::is_labelled(&deployment.metadata) && host_alias::merge(&known, wanted) != known
}

/// The aliases of a pod that can be read; each is valid for the API server.
fn aliases_of(pod: &PodSpec) -> Vec<HostAlias> {
    let aliases = pod.host_aliases.iter().flatten().filter_map(|alias| {
        let hostnames = alias.hostnames.clone().unwrap_or_default();
        Some(HostAlias { ip: alias.ip.parse().ok()?, hostnames })
    });
    aliases.collect()
}

/// A konnector by its name, whatever registry its image comes from.
fn is_konnector(container: &Container, wanted: &Konnector) -> bool {
    let image = container.image.as_deref().unwrap_or_default();
    let repository = repository(image);
    container.name == konnector::NAME
        && (repository == self::repository(&wanted.image)
            || repository.rsplit('/').next() == Some(konnector::NAME))
}

/// An image without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

/// Whether the wanted image is an older release than the known one, by their tags. Another backend
/// with a newer konnector may serve the same consumer, and a downgrade helps nobody.
fn is_older(wanted: &str, known: &str) -> bool {
    let version = |image: &str| -> Option<Vec<u64>> {
        let tag = image.strip_prefix(repository(image))?.strip_prefix(":v")?;
        tag.split('.').map(|number| number.parse().ok()).collect()
    };
    match (version(wanted), version(known)) {
        (Some(wanted), Some(known)) => wanted < known,
        _ => false,
    }
}

fn bundle(
    known: Option<&ApiServiceBindingBundle>,
    wanted: &Wanted<'_>,
) -> Result<Option<Step>, Refusal> {
    let spec = ApiServiceBindingBundleSpec {
        kubeconfig_secret_ref: NamespacedSecretKeyRef {
            name: secret_name(wanted.binding),
            key: keys::KUBECONFIG_KEY.to_owned(),
            namespace: keys::KUBE_BIND_NAMESPACE.to_owned(),
        },
    };
    match known {
        Some(known) if known.spec == spec => Ok(None),
        Some(known) => Err(Refusal::ForeignBundle(known.name_any())),
        None => {
            let bundle = ApiServiceBindingBundle {
                metadata: ours::metadata(wanted.binding, None),
                spec,
                status: None,
            };
            Ok(Some(create(bundle, Object::Bundle)))
        }
    }
}

/// With the label of what we made.
fn create<K: Resource>(mut object: K, into: fn(Box<K>) -> Object) -> Step {
    object.meta_mut().labels.get_or_insert_default().extend(ours::labels());
    Step::Create(into(Box::new(object)))
}

fn update<K>(object: K, into: fn(Box<K>) -> Object) -> Step {
    Step::Update(into(Box::new(object)))
}

#[cfg(test)]
mod tests;
