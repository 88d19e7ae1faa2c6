use k8s_openapi::Metadata;
use serde_json::{Value, json};

use super::*;

fn documents(konnector: &Konnector) -> Vec<Value> {
    serde_saphyr::from_multiple(&konnector.to_yaml().unwrap()).unwrap()
}

fn konnector() -> Konnector {
    Konnector {
        host_aliases: HostAlias::parse_list(&["10.0.0.1:kcp.example.com,kcp", "[fd00::1]:kcp6"])
            .unwrap(),
        ..Konnector::default()
    }
}

fn role(last: &Value) -> Value {
    let read = ["get", "list", "watch"];
    let with_read = |more: &[&str]| json!([&read, more].concat());
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": "kube-bind-konnector" },
        "rules": [
            {
                "apiGroups": ["apiextensions.k8s.io"],
                "resources": ["customresourcedefinitions"],
                "verbs": with_read(&["create", "update"]),
            },
            {
                "apiGroups": [""],
                "resources": ["secrets", "configmaps", "serviceaccounts"],
                "verbs": with_read(&["create", "update", "delete"]),
            },
            { "apiGroups": [""], "resources": ["namespaces"], "verbs": with_read(&["create"]) },
            {
                "apiGroups": ["kube-bind.io"],
                "resources": ["apiservicebindings"],
                "verbs": with_read(&["create", "delete", "patch"]),
            },
            {
                "apiGroups": ["kube-bind.io"],
                "resources": ["apiservicebindingbundles"],
                "verbs": with_read(&["patch"]),
            },
            {
                "apiGroups": ["kube-bind.io"],
                "resources": ["apiservicebindings/status", "apiservicebindingbundles/status"],
                "verbs": ["update", "patch"],
            },
            { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": ["kube-bind"],
                "verbs": ["get", "update"],
            },
            { "apiGroups": last, "resources": ["*"], "verbs": with_read(&["update"]) },
        ],
    })
}

#[test]
fn the_manifests_are_five_documents_with_the_names_of_the_contract() {
    let expected = vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kube-bind" } }),
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "name": "konnector", "namespace": "kube-bind" },
        }),
        role(&json!(["*"])),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": "kube-bind-konnector" },
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "kube-bind-konnector",
            },
            "subjects": [
                { "kind": "ServiceAccount", "name": "konnector", "namespace": "kube-bind" },
            ],
        }),
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": "konnector",
                "namespace": "kube-bind",
                "labels": { "app": "konnector" },
            },
            "spec": {
                "replicas": 2,
                "selector": { "matchLabels": { "app": "konnector" } },
                "template": {
                    "metadata": { "labels": { "app": "konnector" } },
                    "spec": {
                        "restartPolicy": "Always",
                        "serviceAccountName": "konnector",
                        "hostAliases": [
                            { "ip": "10.0.0.1", "hostnames": ["kcp.example.com", "kcp"] },
                            { "ip": "fd00::1", "hostnames": ["kcp6"] },
                        ],
                        "securityContext": {
                            "runAsNonRoot": true,
                            "runAsUser": 65532,
                            "runAsGroup": 65532,
                            "seccompProfile": { "type": "RuntimeDefault" },
                        },
                        "containers": [{
                            "name": "konnector",
                            "image": "ghcr.io/kube-bind/konnector:v0.8.1",
                            "env": [
                                {
                                    "name": "POD_NAME",
                                    "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } },
                                },
                                {
                                    "name": "POD_NAMESPACE",
                                    "valueFrom": {
                                        "fieldRef": { "fieldPath": "metadata.namespace" },
                                    },
                                },
                            ],
                            "readinessProbe": { "httpGet": { "path": "/healthz", "port": 8090 } },
                            "securityContext": {
                                "allowPrivilegeEscalation": false,
                                "readOnlyRootFilesystem": true,
                                "capabilities": { "drop": ["ALL"] },
                            },
                        }],
                    },
                },
            },
        }),
    ];
    assert_eq!(documents(&konnector()), expected);
}

#[test]
fn without_aliases_there_is_no_empty_list_and_the_yaml_is_stable() {
    let plain = Konnector::default();
    let pod = plain.deployment().spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.host_aliases, None);
    assert_eq!(plain.to_yaml().unwrap(), plain.to_yaml().unwrap());
    assert_eq!(plain.to_yaml().unwrap().matches("---\n").count(), 4);
}

#[test]
fn known_groups_narrow_the_last_rule_and_no_rule_has_a_wildcard_verb() {
    let groups = BTreeSet::from(["wildwest.dev".to_owned(), "example.org".to_owned()]);
    let narrow = Konnector { bound: BoundApis::Groups(groups), ..Konnector::default() };
    assert_eq!(documents(&narrow)[2], role(&json!(["example.org", "wildwest.dev"])));
    let none = Konnector { bound: BoundApis::Groups(BTreeSet::new()), ..Konnector::default() };
    assert_eq!(none.cluster_role().rules.unwrap().len(), 8);
    for rule in Konnector::default().cluster_role().rules.unwrap() {
        let dangerous = ["*", "bind", "escalate", "impersonate", "deletecollection"];
        assert!(rule.verbs.iter().all(|verb| !dangerous.contains(&verb.as_str())), "{rule:?}");
    }
}

#[test]
fn the_namespace_of_the_objects_is_where_their_subject_is() {
    let konnector = Konnector::default();
    let subject = konnector.cluster_role_binding().subjects.unwrap().remove(0);
    let account = konnector.service_account();
    assert_eq!(subject.namespace, account.metadata().namespace);
    assert_eq!(Some(subject.name), account.metadata().name);
}

#[test]
fn a_wider_role_misses_nothing_and_a_narrower_one_what_it_lacks() {
    let wanted = Konnector::default().cluster_role().rules.unwrap();
    let everything = rule(&["*"], &["*"], &["*"]);
    assert_eq!(missing_rules(&[everything], &wanted), []);
    assert_eq!(missing_rules(&wanted, &wanted), []);
    assert_eq!(missing_rules(&[], &wanted), wanted);
    assert_eq!(missing_rules(&wanted[1..], &wanted), wanted[..1]);
    let other_lease = PolicyRule {
        resource_names: Some(strings(&["other"])),
        ..rule(&["coordination.k8s.io"], &["leases"], &["get", "update"])
    };
    assert_eq!(missing_rules(&[other_lease], &wanted[7..8]), wanted[7..8]);
}
