//! What installs the konnector in a consumer's cluster: `GET /api/konnector-manifests` and
//! `apply-binding` (contract http.md 7).
//!
//! # Rights
//! v0.8.1 gives the konnector `*` on `*` in `*`. These are the calls that the konnector v0.8.1 makes in
//! the consumer's cluster, so these are its rights:
//!
//! | resource | verbs | what for |
//! |---|---|---|
//! | customresourcedefinitions | read, create, update | its own two CRDs at start, one for each bound API; there is no unbinding call, the garbage collector deletes |
//! | secrets, configmaps, serviceaccounts | read, create, update, delete | claimed objects, watched in the whole cluster; Secrets also for kubeconfigs |
//! | namespaces | read, create | namespaces that the provider owns |
//! | apiservicebindings | read, create, delete, patch | made and deleted for a bundle |
//! | apiservicebindingbundles | read, patch | |
//! | the status of both | update, patch | |
//! | leases | create; get and update `kube-bind` | leader election |
//! | the bound APIs | read, update, with all subresources | finalizer, annotations and status of synced objects |
//!
//! The konnector creates no RBAC and never asks for more (so `bind` and `escalate` would not help
//! it), and RBAC knows neither exceptions nor patterns. As the groups of the bound APIs are not
//! known in advance, a konnector that works without anyone's help must have the last row for every
//! group ([`BoundApis::Any`]): it may then read and change, but not create or delete, any object,
//! and it cannot grant, impersonate or approve anything. That is still much: it reads all Secrets
//! with or without that row, because it watches claimed objects in the whole cluster. Where the
//! groups are known, [`BoundApis::Groups`] narrows the last row; an API of another group that is
//! bound later is then not synced until somebody adds a rule, and claims that follow references
//! need the right to list what they refer to.
//!
//! # Pods
//! The contract's Deployment, run as an ordinary user without capabilities and with a read-only
//! file system: the konnector writes no file. It has no flags to set; it reads its namespace and
//! name from `POD_NAMESPACE` and `POD_NAME`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, EnvVarSource, HTTPGetAction, HostAlias as PodHostAlias,
    Namespace, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    SeccompProfile, SecurityContext, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use thiserror::Error;

use crate::api::keys;
pub use crate::consumer::host_alias::HostAlias;

/// The image of the konnector that the wire contract was taken from.
pub const IMAGE: &str = "ghcr.io/kube-bind/konnector:v0.8.1";
/// Name of the Deployment, its container and the ServiceAccount.
pub const NAME: &str = "konnector";
/// Name of the ClusterRole and ClusterRoleBinding.
pub const CLUSTER_ROLE: &str = "kube-bind-konnector";

/// Two, so that one takes over within its lease when the other goes.
const REPLICAS: i32 = 2;
/// Where it answers `/healthz`.
const HEALTH_PORT: i32 = 8090;
/// The Lease of its leader election.
const LEASE: &str = "kube-bind";
/// User and group of distroless images, which own nothing in the image.
const NOBODY: i64 = 65532;

const READ: [&str; 3] = ["get", "list", "watch"];

/// The manifests could not be written.
#[derive(Debug, Error)]
pub enum Error {
    /// An object has no YAML form.
    #[error("writing {kind} of the konnector as YAML failed; report this as a defect")]
    Yaml {
        /// The kind of the object.
        kind: &'static str,
        /// Why.
        #[source]
        source: serde_saphyr::ser::Error,
    },
}

/// Whose objects the konnector may sync.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BoundApis {
    /// Those of every group: whatever is bound later works.
    #[default]
    Any,
    /// Those of these groups.
    Groups(BTreeSet<String>),
}

/// How the konnector is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Konnector {
    /// Image with its tag or digest.
    pub image: String,
    /// Lines for `/etc/hosts` of its pods.
    pub host_aliases: Vec<HostAlias>,
    /// Whose objects it may sync.
    pub bound: BoundApis,
}

impl Default for Konnector {
    fn default() -> Self {
        Self { image: IMAGE.to_owned(), host_aliases: Vec::new(), bound: BoundApis::Any }
    }
}

impl Konnector {
    /// The five objects as YAML documents in the order in which they must be created.
    pub fn to_yaml(&self) -> Result<String, Error> {
        let documents = [
            yaml("Namespace", &self.namespace())?,
            yaml("ServiceAccount", &self.service_account())?,
            yaml("ClusterRole", &self.cluster_role())?,
            yaml("ClusterRoleBinding", &self.cluster_role_binding())?,
            yaml("Deployment", &self.deployment())?,
        ];
        Ok(documents.join("---\n"))
    }

    /// The namespace of the konnector and of the kubeconfigs.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace { metadata: metadata(keys::KUBE_BIND_NAMESPACE, false), ..Namespace::default() }
    }

    /// What its pods run as.
    #[must_use]
    pub fn service_account(&self) -> ServiceAccount {
        ServiceAccount { metadata: metadata(NAME, true), ..ServiceAccount::default() }
    }

    /// Its rights.
    #[must_use]
    pub fn cluster_role(&self) -> ClusterRole {
        ClusterRole {
            metadata: metadata(CLUSTER_ROLE, false),
            rules: Some(rules(&self.bound)),
            ..ClusterRole::default()
        }
    }

    /// Gives them to the ServiceAccount.
    #[must_use]
    pub fn cluster_role_binding(&self) -> ClusterRoleBinding {
        ClusterRoleBinding {
            metadata: metadata(CLUSTER_ROLE, false),
            role_ref: RoleRef {
                api_group: keys::RBAC_GROUP.to_owned(),
                kind: "ClusterRole".to_owned(),
                name: CLUSTER_ROLE.to_owned(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: NAME.to_owned(),
                namespace: Some(keys::KUBE_BIND_NAMESPACE.to_owned()),
                api_group: None,
            }]),
        }
    }

    /// Its pods.
    #[must_use]
    pub fn deployment(&self) -> Deployment {
        Deployment {
            metadata: ObjectMeta { labels: Some(labels()), ..metadata(NAME, true) },
            spec: Some(DeploymentSpec {
                replicas: Some(REPLICAS),
                selector: LabelSelector {
                    match_labels: Some(labels()),
                    ..LabelSelector::default()
                },
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta { labels: Some(labels()), ..ObjectMeta::default() }),
                    spec: Some(self.pod()),
                },
                ..DeploymentSpec::default()
            }),
            status: None,
        }
    }

    fn pod(&self) -> PodSpec {
        PodSpec {
            containers: vec![self.container()],
            host_aliases: pod_host_aliases(&self.host_aliases),
            restart_policy: Some("Always".to_owned()),
            service_account_name: Some(NAME.to_owned()),
            security_context: Some(PodSecurityContext {
                // The image names no user of its own.
                run_as_non_root: Some(true),
                run_as_user: Some(NOBODY),
                run_as_group: Some(NOBODY),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        }
    }

    fn container(&self) -> Container {
        Container {
            name: NAME.to_owned(),
            image: Some(self.image.clone()),
            env: Some(vec![
                from_field("POD_NAME", "metadata.name"),
                from_field("POD_NAMESPACE", "metadata.namespace"),
            ]),
            readiness_probe: Some(Probe {
                http_get: Some(HTTPGetAction {
                    path: Some("/healthz".to_owned()),
                    port: IntOrString::Int(HEALTH_PORT),
                    ..HTTPGetAction::default()
                }),
                ..Probe::default()
            }),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities { add: None, drop: Some(strings(&["ALL"])) }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        }
    }
}

/// Host aliases as a pod has them; none where there are none.
pub(super) fn pod_host_aliases(aliases: &[HostAlias]) -> Option<Vec<PodHostAlias>> {
    let of = |alias: &HostAlias| PodHostAlias {
        ip: alias.ip.to_string(),
        hostnames: Some(alias.hostnames.clone()),
    };
    (!aliases.is_empty()).then(|| aliases.iter().map(of).collect())
}

fn rules(bound: &BoundApis) -> Vec<PolicyRule> {
    let bound_groups: Vec<&str> = match bound {
        BoundApis::Any => vec!["*"],
        BoundApis::Groups(groups) => groups.iter().map(String::as_str).collect(),
    };
    let with_read = |verbs: &[&'static str]| [&READ, verbs].concat();
    let [bindings, bundles] = ["apiservicebindings", "apiservicebindingbundles"];
    let mut rules = vec![
        rule(
            &["apiextensions.k8s.io"],
            &["customresourcedefinitions"],
            &with_read(&["create", "update"]),
        ),
        rule(
            &[""],
            &["secrets", "configmaps", "serviceaccounts"],
            &with_read(&["create", "update", "delete"]),
        ),
        rule(&[""], &["namespaces"], &with_read(&["create"])),
        rule(&[keys::GROUP], &[bindings], &with_read(&["create", "delete", "patch"])),
        rule(&[keys::GROUP], &[bundles], &with_read(&["patch"])),
        rule(
            &[keys::GROUP],
            &["apiservicebindings/status", "apiservicebindingbundles/status"],
            &["update", "patch"],
        ),
        // A right to create cannot name the object.
        rule(&["coordination.k8s.io"], &["leases"], &["create"]),
        PolicyRule {
            resource_names: Some(strings(&[LEASE])),
            ..rule(&["coordination.k8s.io"], &["leases"], &["get", "update"])
        },
    ];
    if !bound_groups.is_empty() {
        rules.push(rule(&bound_groups, &["*"], &with_read(&["update"])));
    }
    rules
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(strings(groups)),
        resources: Some(strings(resources)),
        verbs: strings(verbs),
        ..PolicyRule::default()
    }
}

/// The rules of `wanted` that `known` does not grant entirely. One known rule must grant a wanted
/// one; that several do so together is not looked for.
pub(super) fn missing_rules(known: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let all = |known: &[String], wanted: &[String]| {
        known.iter().any(|item| item == "*") || wanted.iter().all(|item| known.contains(item))
    };
    let list = |items: &Option<Vec<String>>| items.clone().unwrap_or_default();
    let grants = |known: &PolicyRule, wanted: &PolicyRule| {
        let names = list(&known.resource_names);
        all(&list(&known.api_groups), &list(&wanted.api_groups))
            && all(&list(&known.resources), &list(&wanted.resources))
            && all(&known.verbs, &wanted.verbs)
            && (names.is_empty() || names == list(&wanted.resource_names))
    };
    let granted = |wanted: &PolicyRule| known.iter().any(|known| grants(known, wanted));
    wanted.iter().filter(|wanted| !granted(wanted)).cloned().collect()
}

fn metadata(name: &str, namespaced: bool) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespaced.then(|| keys::KUBE_BIND_NAMESPACE.to_owned()),
        ..ObjectMeta::default()
    }
}

/// `kubectl bind` selects by the same label, and a selector cannot be changed.
fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), NAME.to_owned())])
}

fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn yaml<K: Serialize>(kind: &'static str, object: &K) -> Result<String, Error> {
    serde_saphyr::to_string(object).map_err(|source| Error::Yaml { kind, source })
}

#[cfg(test)]
mod tests;
