use serde_json::{json, to_value};

use super::*;
use crate::api::v1alpha2::{PermissionClaim, ResourceVersions};

fn cows() -> GroupResource {
    GroupResource { group: "wildwest.dev".into(), resource: "cowboys".into() }
}

fn spec(informer_scope: Scope, isolation: Isolation, claims: &[&str]) -> ApiServiceExportSpec {
    let claim = |resource: &&str| PermissionClaim {
        resource: (*resource).to_owned(),
        ..PermissionClaim::default()
    };
    ApiServiceExportSpec {
        resources: vec![ResourceVersions {
            group: "wildwest.dev".into(),
            resource: "cowboys".into(),
            versions: vec!["v1".into()],
        }],
        permission_claims: claims.iter().map(claim).collect(),
        informer_scope,
        isolation,
        ..ApiServiceExportSpec::default()
    }
}

/// The rules as `resource:verbs`, with `*` for all seven verbs and `r` for reading.
fn said(rules: &[PolicyRule]) -> Vec<String> {
    let verbs = |rule: &PolicyRule| if rule.verbs == ALL { "*" } else { "r" };
    let resource = |rule: &PolicyRule| rule.resources.clone().unwrap_or_default().concat();
    rules.iter().map(|rule| format!("{}:{}", resource(rule), verbs(rule))).collect()
}

#[test]
fn rights_hold_where_the_konnector_uses_them_and_nowhere_else() {
    use Isolation::{Namespaced as ByNamespace, None as Never, Prefixed};
    use Scope::{Cluster, Namespaced};
    let both = "cowboys:* secrets:*";
    for (scope, informers, isolation, cluster, contract, service) in [
        (Namespaced, Namespaced, Prefixed, "", "", both),
        (Namespaced, Namespaced, Never, "", "", both),
        (Namespaced, Cluster, Prefixed, "cowboys:r secrets:*", "", "cowboys:*"),
        (Namespaced, Cluster, Never, both, "", ""),
        (Cluster, Namespaced, Prefixed, "cowboys:*", "", "secrets:*"),
        (Cluster, Cluster, Prefixed, both, "", ""),
        (Cluster, Cluster, Never, both, "", ""),
        (Cluster, Namespaced, ByNamespace, "cowboys:r", "cowboys:*", "secrets:*"),
        (Cluster, Cluster, ByNamespace, "cowboys:r secrets:*", "cowboys:*", ""),
    ] {
        let rights = rights(&spec(informers, isolation, &["secrets"]), |_| Some(scope)).unwrap();
        let told = [&rights.cluster, &rights.contract, &rights.service].map(|r| said(r).join(" "));
        assert_eq!(told, [cluster, contract, service], "{scope} {informers} {isolation}");
    }
}

#[test]
fn nothing_is_said_of_a_resource_without_bound_schema() {
    assert_eq!(rights(&spec(Scope::Cluster, Isolation::None, &[]), |_| None), None);
}

#[test]
fn only_exports_that_harm_others_must_be_alone() {
    use Scope::{Cluster, Namespaced};
    for (scope, informers, isolation, claims, alone) in [
        (Namespaced, Namespaced, Isolation::None, &["secrets"][..], false),
        (Namespaced, Cluster, Isolation::Prefixed, &[], false),
        (Namespaced, Cluster, Isolation::Prefixed, &["secrets"], true),
        (Namespaced, Cluster, Isolation::None, &[], true),
        (Cluster, Namespaced, Isolation::None, &[], true),
        (Cluster, Namespaced, Isolation::Prefixed, &["secrets"], false),
    ] {
        let spec = spec(informers, isolation, claims);
        let rights = rights(&spec, |_| Some(scope)).unwrap();
        assert_eq!(must_be_alone(&spec, &rights), alone, "{scope} {informers} {isolation}");
    }
}

#[test]
fn roles_belong_to_one_export_and_bind_its_consumer_alone() {
    let export = ExportName::new("cluster-a", "cows");
    let spec = spec(Scope::Namespaced, Isolation::Prefixed, &[]);
    let rules = rights(&spec, |resource| (*resource == cows()).then_some(Scope::Cluster)).unwrap();
    let contract = Contract {
        namespace: "cluster-a".into(),
        uid: "u1".into(),
        binding: None,
        deleting: false,
    };
    let (role, binding) = cluster_wide(&export, &contract, &rules.cluster);
    let group = "rbac.authorization.k8s.io";
    let name = "kube-binder-claims-cluster-a-cows";
    let metadata = json!({
        "name": name,
        "labels": {"backend.kube-bind.io/managed": "true"},
        "annotations": {"backend.kube-bind.io/export": "cluster-a/cows"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "cluster-a", "uid": "u1"}],
    });
    let subjects = json!([
        {"kind": "ServiceAccount", "name": "kube-binder", "namespace": "cluster-a"},
    ]);
    assert_eq!(
        to_value(role).unwrap(),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": metadata,
            "rules": [{
                "apiGroups": ["wildwest.dev"],
                "resources": ["cowboys"],
                "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
            }],
        })
    );
    assert_eq!(
        to_value(binding).unwrap(),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": subjects,
        })
    );
    let (role, binding) = in_namespace(&export, "cluster-a-west", &rules.cluster);
    assert_eq!(ExportName::of(&role.metadata), Some(export));
    assert_eq!(
        to_value(binding).unwrap(),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {
                "name": "kube-binder-claims-cows",
                "namespace": "cluster-a-west",
                "labels": {"backend.kube-bind.io/managed": "true"},
                "annotations": {"backend.kube-bind.io/export": "cluster-a/cows"},
            },
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "kube-binder-claims-cows"},
            "subjects": subjects,
        })
    );
}

#[test]
fn what_was_made_for_a_consumer_is_known_by_its_label_and_its_export() {
    let export = ExportName::new("cluster-a", "cow");
    let (_, binding) = in_namespace(&export, "west", &[]);
    assert!(is_made_for_consumer(&binding.metadata, "cluster-a"));
    assert!(!is_made_for_consumer(&binding.metadata, "cluster"));
    let unlabelled = ObjectMeta { labels: None, ..binding.metadata };
    assert!(!is_made_for_consumer(&unlabelled, "cluster-a"));
}
