use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::http::konnector::BoundApis;

const SERVER: &str = "https://kcp.example.com/clusters/a";

fn provider(server: &str, namespace: &str, token: &str) -> SecretString {
    let kubeconfig = Kubeconfig {
        server: server.to_owned(),
        ca_data: None,
        tls_server_name: None,
        namespace: namespace.to_owned(),
        token: SecretString::from(token.to_owned()),
    };
    kubeconfig.to_yaml()
}

fn konnector() -> Konnector {
    let host_aliases = HostAlias::parse_list(&["10.0.0.1:kcp.example.com"]).unwrap();
    Konnector { host_aliases, ..Konnector::default() }
}

/// The steps for what is observed, with the usual wishes.
fn steps(observed: &Observed) -> Result<Vec<Step>, Refusal> {
    let kubeconfig = provider(SERVER, "cluster-1", "t0ken");
    let konnector = konnector();
    let wanted = Wanted { binding: "cows", kubeconfig: &kubeconfig, konnector: &konnector };
    plan(observed, &wanted)
}

/// What is there after everything was created.
fn complete() -> Observed {
    let mut observed = Observed::default();
    for step in steps(&observed).unwrap() {
        let Step::Create(object) = step else { panic!("{step:?}") };
        match object {
            Object::Namespace(object) => observed.namespace = Some(*object),
            Object::ServiceAccount(object) => observed.service_account = Some(*object),
            Object::ClusterRole(object) => observed.cluster_role = Some(*object),
            Object::ClusterRoleBinding(object) => observed.cluster_role_binding = Some(*object),
            Object::Secret(object) => observed.secret = Some(*object),
            Object::Definition(object) => observed.definition = Some(*object),
            Object::Deployment(object) => observed.deployment = Some(*object),
            Object::Bundle(object) => observed.bundle = Some(*object),
        }
    }
    observed
}

fn changed<K: serde::Serialize + DeserializeOwned>(object: Option<&K>, patch: &Value) -> Option<K> {
    let mut value = serde_json::to_value(object).unwrap();
    merge(&mut value, patch);
    serde_json::from_value(value).unwrap()
}

/// A JSON merge patch.
fn merge(value: &mut Value, patch: &Value) {
    match (value.as_object_mut(), patch) {
        (Some(fields), Value::Object(patch)) => {
            for (key, patch) in patch {
                if patch.is_null() {
                    fields.remove(key);
                } else {
                    merge(fields.entry(key).or_insert(Value::Null), patch);
                }
            }
        }
        _ => *value = patch.clone(),
    }
}

/// Without our label.
fn foreign() -> Value {
    json!({ "metadata": { "labels": { keys::LABEL_MANAGED: null } } })
}

fn container(name: &str, image: &str) -> Value {
    json!({ "spec": { "template": { "spec": { "containers": [{ "name": name, "image": image }] } } } })
}

#[test]
fn an_empty_cluster_gets_everything_in_order_and_labelled() {
    let steps = steps(&Observed::default()).unwrap();
    let kinds = steps.iter().map(|step| {
        let Step::Create(object) = step else { panic!("{step:?}") };
        let meta = match object {
            Object::Namespace(object) => object.meta(),
            Object::ServiceAccount(object) => object.meta(),
            Object::ClusterRole(object) => object.meta(),
            Object::ClusterRoleBinding(object) => object.meta(),
            Object::Secret(object) => object.meta(),
            Object::Definition(object) => object.meta(),
            Object::Deployment(object) => object.meta(),
            Object::Bundle(object) => object.meta(),
        };
        assert!(ours::is_labelled(meta));
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        format!("{namespace}/{}", meta.name.as_deref().unwrap_or_default())
    });
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        [
            "/kube-bind",
            "kube-bind/konnector",
            "/kube-bind-konnector",
            "/kube-bind-konnector",
            "kube-bind/kubeconfig-cows",
            "/apiservicebindingbundles.kube-bind.io",
            "kube-bind/konnector",
            "/cows",
        ]
    );
}

#[test]
fn the_secret_and_the_bundle_are_those_of_the_contract() {
    let observed = complete();
    let secret = serde_json::to_value(&observed.secret).unwrap();
    let kubeconfig = provider(SERVER, "cluster-1", "t0ken");
    let data = ByteString(kubeconfig.expose_secret().as_bytes().to_vec());
    let labels = json!({ "backend.kube-bind.io/managed": "true" });
    assert_eq!(
        secret,
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": "kubeconfig-cows", "namespace": "kube-bind", "labels": labels },
            "type": "Opaque",
            "data": { "kubeconfig": data },
        })
    );
    assert_eq!(
        serde_json::to_value(&observed.bundle).unwrap(),
        json!({
            "apiVersion": "kube-bind.io/v1alpha2",
            "kind": "APIServiceBindingBundle",
            "metadata": { "name": "cows", "labels": labels },
            "spec": { "kubeconfigSecretRef": {
                "name": "kubeconfig-cows", "key": "kubeconfig", "namespace": "kube-bind",
            } },
        })
    );
}

#[test]
fn nothing_is_done_where_everything_is_there() {
    assert_eq!(steps(&complete()), Ok(Vec::new()));
}

#[test]
fn what_kubectl_bind_installed_is_used_and_left_alone() {
    let mut observed = complete();
    observed.namespace = changed(observed.namespace.as_ref(), &foreign());
    observed.service_account = changed(observed.service_account.as_ref(), &foreign());
    observed.cluster_role = changed(observed.cluster_role.as_ref(), &foreign());
    let everything =
        json!({ "rules": [{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }] });
    observed.cluster_role = changed(observed.cluster_role.as_ref(), &everything);
    observed.cluster_role_binding = changed(observed.cluster_role_binding.as_ref(), &foreign());
    observed.deployment = changed(observed.deployment.as_ref(), &foreign());
    for image in ["ghcr.io/kube-bind/konnector:v0.8.0", "mirror:5000/x/konnector@sha256:ab"] {
        observed.deployment = changed(observed.deployment.as_ref(), &container("konnector", image));
        assert_eq!(steps(&observed), Ok(Vec::new()), "{image}");
    }
    let deployment = observed.deployment.unwrap();
    let alias = |text: &str| HostAlias::parse_list(&[text]).unwrap();
    assert!(!lacks_aliases(&deployment, &alias("10.0.0.1:kcp.example.com")));
    assert!(lacks_aliases(&deployment, &alias("10.0.0.2:kcp.example.com")));
    assert!(!lacks_aliases(&complete().deployment.unwrap(), &alias("10.0.0.2:kcp.example.com")));
}

#[test]
fn a_deployment_that_is_no_konnector_refuses_everything() {
    let empty = json!({ "spec": { "template": { "spec": { "containers": [] } } } });
    let no_pod = json!({ "spec": { "template": { "spec": null } } });
    let account =
        json!({ "spec": { "template": { "spec": { "serviceAccountName": "default" } } } });
    for (patch, why) in [
        (empty, "has no containers"),
        (no_pod, "has no containers"),
        (container("web", "nginx"), "is not a konnector"),
        (container("konnector", "nginx:konnector"), "is not a konnector"),
        (container("web", "ghcr.io/kube-bind/konnector:v0.8.1"), "is not a konnector"),
        (account, "is not a konnector"),
    ] {
        for label in [json!({}), foreign()] {
            // All the rest is missing, and stays so.
            let deployment = changed(complete().deployment.as_ref(), &patch);
            let deployment = changed(deployment.as_ref(), &label);
            let observed = Observed { deployment, ..Observed::default() };
            assert_eq!(steps(&observed), Err(Refusal::ForeignDeployment(why)), "{patch}");
        }
    }
}

#[test]
fn our_konnector_gets_newer_images_and_further_aliases() {
    for (known, expected) in [
        ("ghcr.io/kube-bind/konnector:v0.8.0", Some(konnector::IMAGE)),
        ("ghcr.io/kube-bind/konnector:latest", Some(konnector::IMAGE)),
        ("other.example.com/konnector", Some(konnector::IMAGE)),
        ("ghcr.io/kube-bind/konnector:v0.8.1", None),
        ("ghcr.io/kube-bind/konnector:v0.10.0", None),
    ] {
        let patch = container("konnector", known);
        let observed =
            Observed { deployment: changed(complete().deployment.as_ref(), &patch), ..complete() };
        let update = |image: &&str| {
            let patch = container("konnector", image);
            let deployment: Deployment = changed(complete().deployment.as_ref(), &patch).unwrap();
            Step::Update(Object::Deployment(Box::new(deployment)))
        };
        assert_eq!(steps(&observed), Ok(expected.iter().map(update).collect()), "{known}");
    }
    let aliases = |list: Value| {
        let patch = json!({ "spec": { "template": { "spec": { "hostAliases": list } } } });
        changed(complete().deployment.as_ref(), &patch)
    };
    let other = json!({ "ip": "10.0.0.9", "hostnames": ["other", "kcp.example.com"] });
    let observed = Observed { deployment: aliases(json!([other])), ..complete() };
    let expected = aliases(json!([
        { "ip": "10.0.0.9", "hostnames": ["other"] },
        { "ip": "10.0.0.1", "hostnames": ["kcp.example.com"] },
    ]));
    let expected = Step::Update(Object::Deployment(Box::new(expected.unwrap())));
    assert_eq!(steps(&observed), Ok(vec![expected]));
}

#[test]
fn a_repository_is_an_image_without_tag_and_digest() {
    for (image, expected) in [
        ("ghcr.io/kube-bind/konnector:v0.8.1", "ghcr.io/kube-bind/konnector"),
        ("localhost:5000/konnector", "localhost:5000/konnector"),
        ("localhost:5000/konnector:a@sha256:ab", "localhost:5000/konnector"),
        ("konnector", "konnector"),
        ("", ""),
    ] {
        assert_eq!(repository(image), expected);
    }
}

#[test]
fn rights_are_added_to_ours_and_never_to_those_of_others() {
    let groups = BTreeSet::from(["wildwest.dev".to_owned()]);
    let narrow = Konnector { bound: BoundApis::Groups(groups), ..Konnector::default() };
    let observed = Observed {
        cluster_role: changed(
            complete().cluster_role.as_ref(),
            &json!({ "rules": narrow.cluster_role().rules }),
        ),
        ..complete()
    };
    let mut role = observed.cluster_role.clone().unwrap();
    let last = Konnector::default().cluster_role().rules.unwrap().pop().unwrap();
    role.rules.get_or_insert_default().push(last);
    let expected = Step::Update(Object::ClusterRole(Box::new(role)));
    assert_eq!(steps(&observed), Ok(vec![expected]));
    let observed =
        Observed { cluster_role: changed(observed.cluster_role.as_ref(), &foreign()), ..observed };
    assert_eq!(steps(&observed), Err(Refusal::ForeignRole));
}

#[test]
fn a_binding_to_others_is_put_right_only_if_it_is_ours() {
    let nobody = json!({ "subjects": null });
    let other = changed(complete().cluster_role_binding.as_ref(), &nobody);
    let expected = complete().cluster_role_binding.unwrap();
    let expected = Step::Update(Object::ClusterRoleBinding(Box::new(expected)));
    let observed = Observed { cluster_role_binding: other.clone(), ..complete() };
    assert_eq!(steps(&observed), Ok(vec![expected]));
    let observed =
        Observed { cluster_role_binding: changed(other.as_ref(), &foreign()), ..complete() };
    assert_eq!(steps(&observed), Err(Refusal::ForeignRoleBinding));
    let admin = json!({ "roleRef": { "name": "cluster-admin" } });
    let other = changed(complete().cluster_role_binding.as_ref(), &admin);
    let observed = Observed { cluster_role_binding: other, ..complete() };
    assert_eq!(steps(&observed), Err(Refusal::ForeignRoleBinding));
}

#[test]
fn only_the_secret_of_the_same_contract_is_written_over() {
    let secret = |text: &[u8], ours: bool| {
        let data = json!({ "data": { "kubeconfig": ByteString(text.to_vec()) } });
        let secret = changed(complete().secret.as_ref(), &data);
        if ours { secret } else { changed(secret.as_ref(), &foreign()) }
    };
    let text = |server: &str, namespace: &str, token: &str| {
        provider(server, namespace, token).expose_secret().as_bytes().to_vec()
    };
    let refused = Err(Refusal::ForeignSecret("kubeconfig-cows".to_owned()));
    for (known, ours, written) in [
        (text(SERVER, "cluster-1", "old"), true, true),
        (text(SERVER, "cluster-1", "old"), false, true),
        (text("https://moved", "cluster-1", "old"), true, true),
        (text("https://moved", "cluster-1", "old"), false, false),
        (text(SERVER, "cluster-2", "old"), true, false),
        (text(SERVER, "cluster-2", "old"), false, false),
        (b"unreadable".to_vec(), true, true),
        (b"unreadable".to_vec(), false, false),
    ] {
        let known = secret(&known, ours);
        let observed = Observed { secret: known.clone(), ..complete() };
        let mut updated = known.unwrap();
        updated.data = complete().secret.unwrap().data;
        let expected = Step::Update(Object::Secret(Box::new(updated)));
        assert_eq!(steps(&observed), if written { Ok(vec![expected]) } else { refused.clone() });
    }
    let other_type = changed(complete().secret.as_ref(), &json!({ "type": "example.com/x" }));
    assert_eq!(steps(&Observed { secret: other_type, ..complete() }), refused);
    assert_eq!(
        steps(&Observed {
            secret: secret(&text(SERVER, "cluster-1", "t0ken"), false),
            ..complete()
        }),
        Ok(vec![])
    );
}

#[test]
fn a_bundle_for_another_secret_and_a_namespace_on_its_way_out_refuse_everything() {
    let other = json!({ "spec": { "kubeconfigSecretRef": { "name": "other" } } });
    let observed =
        Observed { bundle: changed(complete().bundle.as_ref(), &other), ..Observed::default() };
    assert_eq!(steps(&observed), Err(Refusal::ForeignBundle("cows".to_owned())));
    let deleted = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    let namespace = changed(complete().namespace.as_ref(), &deleted);
    assert_eq!(steps(&Observed { namespace, ..complete() }), Err(Refusal::NamespaceDeleted));
}

#[test]
fn debug_output_of_a_step_hides_the_credential() {
    let text = format!("{:?}", steps(&Observed::default()).unwrap());
    assert!(text.contains("kubeconfig-cows") && !text.contains("t0ken"));
    let bytes = format!("{:?}", b"t0ken");
    assert!(!text.contains(bytes.trim_matches(['[', ']'])));
}
