//! Objects that give a consumer, or an OIDC user, its rights (contract objects.md 1, 1.2 and 9).
//!
//! Everything made here carries the label [`keys::LABEL_MANAGED`], so that nothing else is ever changed or deleted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::ours::metadata;
use crate::api::keys;

/// Rules of `ClusterRole` `kube-binder` in the order of contract objects.md 1.2: group, resource, verbs.
const BINDER_RULES: [(&str, &str, &[&str]); 10] = [
    (keys::GROUP, "apiserviceexportrequests", ALL),
    ("", "namespaces", &["get"]),
    ("", "secrets", READ),
    (keys::GROUP, "clusterbindings", READ),
    (keys::GROUP, "clusterbindings/status", WRITE_STATUS),
    (keys::GROUP, "apiserviceexports", READ),
    (keys::GROUP, "apiserviceexports/status", WRITE_STATUS),
    (keys::GROUP, "apiservicenamespaces", ALL),
    (keys::GROUP, "boundschemas", &["get", "list", "watch"]),
    (keys::GROUP, "boundschemas/status", &["get", "list", "patch", "update"]),
];
const ALL: &[&str] = &["create", "delete", "patch", "update", "get", "list", "watch"];
const READ: &[&str] = &["get", "watch", "list"];
const WRITE_STATUS: &[&str] = &["get", "patch", "update"];

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn resource_rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(strings(&[group])),
        resources: Some(strings(resources)),
        verbs: strings(verbs),
        ..PolicyRule::default()
    }
}

fn cluster_role_ref(name: &str) -> RoleRef {
    RoleRef {
        api_group: keys::RBAC_GROUP.to_owned(),
        kind: "ClusterRole".to_owned(),
        name: name.to_owned(),
    }
}

/// `ClusterRole` `kube-binder`: what a konnector needs in its contract namespace. Bound there only.
#[must_use]
pub fn binder_cluster_role() -> ClusterRole {
    ClusterRole {
        metadata: metadata(keys::CLUSTER_ROLE, None),
        rules: Some(
            BINDER_RULES
                .iter()
                .map(|(group, resource, verbs)| resource_rule(group, &[resource], verbs))
                .collect(),
        ),
        ..ClusterRole::default()
    }
}

/// `RoleBinding` of the consumer's `ServiceAccount` to `ClusterRole` `kube-binder` in its contract namespace.
#[must_use]
pub fn binder_role_binding(namespace: &str) -> RoleBinding {
    RoleBinding {
        metadata: metadata(keys::ROLE_BINDING, Some(namespace)),
        role_ref: cluster_role_ref(keys::CLUSTER_ROLE),
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: keys::SERVICE_ACCOUNT.to_owned(),
            namespace: Some(namespace.to_owned()),
            api_group: None,
        }]),
    }
}

/// `ServiceAccount` of the consumer.
#[must_use]
pub fn binder_service_account(namespace: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(keys::SERVICE_ACCOUNT, Some(namespace)),
        ..ServiceAccount::default()
    }
}

/// Secret that Kubernetes fills with a token of the consumer's `ServiceAccount`.
#[must_use]
pub fn binder_token_secret(namespace: &str) -> Secret {
    let mut metadata = metadata(keys::TOKEN_SECRET, Some(namespace));
    metadata.annotations = Some(BTreeMap::from([(
        keys::SERVICE_ACCOUNT_NAME.to_owned(),
        keys::SERVICE_ACCOUNT.to_owned(),
    )]));
    Secret {
        metadata,
        type_: Some(keys::SERVICE_ACCOUNT_TOKEN_TYPE.to_owned()),
        ..Secret::default()
    }
}

/// `ClusterRole` `kube-bind-oidc-user`, owned by the Cluster object: may bind what templates and collections offer.
///
/// v0.8.1 grants `bind` on `*` of the group; only these two kinds are ever bound.
#[must_use]
pub fn oidc_user_cluster_role(owner: OwnerReference) -> ClusterRole {
    ClusterRole {
        metadata: ObjectMeta {
            owner_references: Some(vec![owner]),
            ..metadata(keys::OIDC_USER_ROLE, None)
        },
        rules: Some(vec![
            resource_rule(keys::GROUP, &["apiserviceexporttemplates", "collections"], &["bind"]),
            PolicyRule {
                non_resource_urls: Some(strings(&["/", "/api", "/api/*", "/apis", "/apis/*"])),
                verbs: strings(&["access"]),
                ..PolicyRule::default()
            },
        ]),
        ..ClusterRole::default()
    }
}

/// `ClusterRoleBinding` `kube-bind-oidc-user`, owned by the Cluster object: groups first, then users, each in the order of
/// its flag.
#[must_use]
pub fn oidc_user_cluster_role_binding(
    owner: OwnerReference,
    groups: &[String],
    users: &[String],
) -> ClusterRoleBinding {
    let subject = |kind: &str, name: &String| Subject {
        api_group: Some(keys::RBAC_GROUP.to_owned()),
        kind: kind.to_owned(),
        name: name.clone(),
        namespace: None,
    };
    let groups = groups.iter().map(|group| subject("Group", group));
    let users = users.iter().map(|user| subject("User", user));
    let subjects: Vec<_> = groups.chain(users).collect();
    ClusterRoleBinding {
        metadata: ObjectMeta {
            owner_references: Some(vec![owner]),
            ..metadata(keys::OIDC_USER_ROLE, None)
        },
        role_ref: cluster_role_ref(keys::OIDC_USER_ROLE),
        // The server drops an empty list; the same here keeps a comparison equal.
        subjects: (!subjects.is_empty()).then_some(subjects),
    }
}

/// `ClusterRole` `kube-bind-vw-apibinding-reader`, owned by the Cluster object: what kcp's virtual workspace for schemas
/// asks of a reader (contract kcp.md 7), and no more.
#[must_use]
pub fn schema_reader_cluster_role(owner: OwnerReference) -> ClusterRole {
    ClusterRole {
        metadata: ObjectMeta {
            owner_references: Some(vec![owner]),
            ..metadata(keys::SCHEMA_READER_ROLE, None)
        },
        rules: Some(vec![
            // A service account is a stranger in any workspace but its own, and kcp lets strangers in by this alone.
            PolicyRule {
                non_resource_urls: Some(strings(&["/"])),
                verbs: strings(&["access"]),
                ..PolicyRule::default()
            },
            resource_rule("apis.kcp.io", &["apibindings"], &["get"]),
        ]),
        ..ClusterRole::default()
    }
}

/// `ClusterRoleBinding` `kube-bind-vw-apibinding-reader` of a user.
#[must_use]
pub fn schema_reader_cluster_role_binding(owner: OwnerReference, user: &str) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: ObjectMeta {
            owner_references: Some(vec![owner]),
            ..metadata(keys::SCHEMA_READER_ROLE, None)
        },
        role_ref: cluster_role_ref(keys::SCHEMA_READER_ROLE),
        subjects: Some(vec![Subject {
            api_group: Some(keys::RBAC_GROUP.to_owned()),
            kind: "User".to_owned(),
            name: user.to_owned(),
            namespace: None,
        }]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, to_value};

    use super::*;

    fn cluster() -> OwnerReference {
        OwnerReference {
            api_version: "kube-bind.io/v1alpha2".to_owned(),
            kind: "Cluster".to_owned(),
            name: "default".to_owned(),
            uid: "c1c30276".to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    fn rule(group: &str, resource: &str, verbs: &[&str]) -> Value {
        json!({"apiGroups": [group], "resources": [resource], "verbs": verbs})
    }

    #[test]
    fn the_kube_binder_role_has_the_rules_of_the_contract_in_order() {
        let all = ["create", "delete", "patch", "update", "get", "list", "watch"];
        let read = ["get", "watch", "list"];
        let status = ["get", "patch", "update"];
        let group = "kube-bind.io";
        assert_eq!(
            to_value(binder_cluster_role()).unwrap(),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "kube-binder", "labels": {"backend.kube-bind.io/managed": "true"}},
                "rules": [
                    rule(group, "apiserviceexportrequests", &all),
                    rule("", "namespaces", &["get"]),
                    rule("", "secrets", &read),
                    rule(group, "clusterbindings", &read),
                    rule(group, "clusterbindings/status", &status),
                    rule(group, "apiserviceexports", &read),
                    rule(group, "apiserviceexports/status", &status),
                    rule(group, "apiservicenamespaces", &all),
                    rule(group, "boundschemas", &["get", "list", "watch"]),
                    rule(group, "boundschemas/status", &["get", "list", "patch", "update"]),
                ],
            })
        );
    }

    #[test]
    fn a_consumer_gets_a_service_account_a_token_and_a_binding_in_its_own_namespace() {
        let metadata = json!({
            "name": "kube-binder",
            "namespace": "cluster-a",
            "labels": {"backend.kube-bind.io/managed": "true"},
        });
        assert_eq!(
            to_value(binder_service_account("cluster-a")).unwrap(),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        );
        let mut annotated = metadata.clone();
        annotated["annotations"] = json!({"kubernetes.io/service-account.name": "kube-binder"});
        assert_eq!(
            to_value(binder_token_secret("cluster-a")).unwrap(),
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": annotated,
                "type": "kubernetes.io/service-account-token",
            })
        );
        assert_eq!(
            to_value(binder_role_binding("cluster-a")).unwrap(),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "kube-binder",
                },
                "subjects": [{"kind": "ServiceAccount", "name": "kube-binder", "namespace": "cluster-a"}],
            })
        );
    }

    #[test]
    fn oidc_users_may_bind_templates_and_collections_only() {
        let metadata = json!({
            "name": "kube-bind-oidc-user",
            "labels": {"backend.kube-bind.io/managed": "true"},
            "ownerReferences": [cluster()],
        });
        assert_eq!(
            to_value(oidc_user_cluster_role(cluster())).unwrap(),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": metadata,
                "rules": [
                    {
                        "apiGroups": ["kube-bind.io"],
                        "resources": ["apiserviceexporttemplates", "collections"],
                        "verbs": ["bind"],
                    },
                    {
                        "nonResourceURLs": ["/", "/api", "/api/*", "/apis", "/apis/*"],
                        "verbs": ["access"],
                    },
                ],
            })
        );
        let group = "rbac.authorization.k8s.io";
        assert_eq!(
            to_value(oidc_user_cluster_role_binding(
                cluster(),
                &["devs".to_owned()],
                &["ann".to_owned()]
            ))
            .unwrap(),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "kube-bind-oidc-user"},
                "subjects": [
                    {"apiGroup": group, "kind": "Group", "name": "devs"},
                    {"apiGroup": group, "kind": "User", "name": "ann"},
                ],
            })
        );
    }

    #[test]
    fn without_allowed_users_the_binding_has_no_subjects() {
        let binding = oidc_user_cluster_role_binding(cluster(), &[], &[]);
        assert_eq!(binding.subjects, None);
    }
}
