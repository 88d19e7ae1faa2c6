use serde_json::from_value;

use super::*;

fn binding(name: &str, phase: &str, bound: &[(&str, &str)]) -> ApiBinding {
    let bound: Vec<Value> = bound
        .iter()
        .map(|(group, resource)| {
            json!({
                "group": group, "resource": resource,
                "schema": {
                    "name": format!("today.{resource}.{group}"), "UID": format!("{resource}-uid"),
                    "identityHash": format!("{group}-identity"),
                },
            })
        })
        .collect();
    from_value(json!({
        "apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding",
        "metadata": { "name": name, "uid": "b1nd1ng" },
        "spec": { "reference": { "export": { "name": "any" } } },
        "status": { "phase": phase, "apiExportClusterName": "provider", "boundResources": bound },
    }))
    .unwrap()
}

fn wild_west() -> ApiBinding {
    let bound = [
        ("wildwest.dev", "cowboys"),
        ("wildwest.dev", "sheriffs"),
        ("wildwest.dev", "horses"),
        ("tenancy.kcp.io", "workspaces"),
    ];
    binding("cowboys-stable", "Bound", &bound)
}

fn facts(bound: &BoundResource) -> Facts {
    let (scope, versions) = match bound.resource.as_str() {
        "sheriffs" => (Scope::Cluster, vec!["v1", "v1alpha1"]),
        "horses" => (Scope::Namespaced, vec![]),
        _ => (Scope::Namespaced, vec!["v1alpha1"]),
    };
    Facts { scope, versions: versions.into_iter().map(str::to_owned).collect() }
}

fn wanted() -> Vec<Template> {
    templates(&wild_west(), |bound| Some(facts(bound)))
}

fn entry(resource: &str, versions: &[&str]) -> ResourceVersions {
    ResourceVersions {
        group: "wildwest.dev".into(),
        resource: resource.into(),
        versions: versions.iter().map(|version| (*version).to_owned()).collect(),
    }
}

#[test]
fn our_own_binding_is_known_by_its_name_and_by_the_identity_of_its_export() {
    let own = binding("kb", "Bound", &[("kube-bind.io", "clusters")]);
    let own = Own::of("kb", Some(&own));
    let ignored = ["tenancy".to_owned()];
    let mut deleted = wild_west();
    deleted.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    let mut from_nowhere = wild_west();
    from_nowhere.status.as_mut().unwrap().api_export_cluster_name = None;
    for (binding, expected) in [
        (binding("kb", "Bound", &[("wildwest.dev", "cowboys")]), Standing::Ignored),
        (binding("twin", "Bound", &[("kube-bind.io", "clusters")]), Standing::Ignored),
        (binding("tenancy.kcp.io-x", "Bound", &[("tenancy.kcp.io", "w")]), Standing::Ignored),
        (binding("wild", "Binding", &[("wildwest.dev", "cowboys")]), Standing::Held),
        (binding("wild", "Bound", &[]), Standing::Held),
        (deleted, Standing::Held),
        (from_nowhere, Standing::Held),
        (wild_west(), Standing::Offered),
    ] {
        let name = binding.metadata.name.clone();
        assert_eq!(standing(&binding, &own, &ignored), expected, "{name:?}");
    }
}

#[test]
fn a_binding_yields_a_template_per_scope_without_what_nobody_may_get() {
    assert_eq!(
        wanted(),
        [
            Template {
                name: "cowboys-stable-cluster".into(),
                scope: Scope::Cluster,
                resources: vec![entry("sheriffs", &["v1", "v1alpha1"])],
            },
            Template {
                name: "cowboys-stable-namespaced".into(),
                scope: Scope::Namespaced,
                resources: vec![entry("cowboys", &["v1alpha1"])],
            },
        ]
    );
}

#[test]
fn a_template_is_written_as_the_contract_has_it_and_owned_by_its_binding() {
    let all = wanted();
    let object = serde_json::to_value(object(&all[1], &wild_west())).unwrap();
    assert_eq!(
        object,
        json!({
            "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceExportTemplate",
            "metadata": {
                "name": "cowboys-stable-namespaced",
                "labels": { "backend.kube-bind.io/managed": "true" },
                "annotations": { "apibindingtemplate.kube-bind.io/owner-binding": "cowboys-stable" },
                "ownerReferences": [{
                    "apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding",
                    "name": "cowboys-stable", "uid": "b1nd1ng",
                }],
            },
            "spec": {
                "scope": "Namespaced",
                "resources": [
                    { "group": "wildwest.dev", "resource": "cowboys", "versions": ["v1alpha1"] },
                ],
                "schemaUpdatePolicy": "Never",
            },
        })
    );
}

#[test]
fn what_people_wrote_into_a_template_is_no_difference() {
    let wanted = wanted().remove(1);
    let mut known = object(&wanted, &wild_west());
    known.spec.description = Some("the finest".into());
    known.spec.schema_update_policy = crate::api::v1alpha2::SchemaUpdatePolicy::Always;
    known.metadata.labels.get_or_insert_default().insert("team".into(), "west".into());
    assert_eq!(drift(&known, &wanted, &wild_west()), None);
}

#[test]
fn what_is_ours_in_a_template_is_put_right_field_by_field() {
    let wanted = wanted().remove(1);
    let mut known = object(&wanted, &wild_west());
    known.spec.resources = vec![entry("cowboys", &["v1"])];
    let spec = json!({ "scope": "Namespaced", "resources": [
        { "group": "wildwest.dev", "resource": "cowboys", "versions": ["v1alpha1"] },
    ]});
    assert_eq!(drift(&known, &wanted, &wild_west()), Some(json!({ "spec": spec })));

    let mut known = object(&wanted, &wild_west());
    known.metadata.labels = None;
    known.metadata.annotations = None;
    let reborn = |uid: &str| OwnerReference { uid: uid.into(), ..owner(&wild_west()) };
    known.metadata.owner_references = Some(vec![reborn("0ld")]);
    assert_eq!(
        drift(&known, &wanted, &wild_west()),
        Some(json!({ "metadata": {
            "labels": { "backend.kube-bind.io/managed": "true" },
            "annotations": { "apibindingtemplate.kube-bind.io/owner-binding": "cowboys-stable" },
            "ownerReferences": [reborn("b1nd1ng")],
        }}))
    );
}

/// The metadata of a template of `cowboys-stable` with this name, annotation and owner.
fn template(name: &str, said: Option<&str>, owner: Option<&str>) -> ObjectMeta {
    let mut meta = object(&wanted().remove(1), &wild_west()).metadata;
    meta.name = Some(name.to_owned());
    let mark = keys::ANNOTATION_TEMPLATE_OWNER_BINDING.to_owned();
    meta.annotations = said.map(|said| [(mark, said.to_owned())].into());
    let of = |name: &str| OwnerReference { name: name.to_owned(), ..super::owner(&wild_west()) };
    meta.owner_references = owner.map(|owner| vec![of(owner)]);
    meta
}

#[test]
fn a_template_is_generated_by_its_label_or_as_v0_8_1_marks_it() {
    let wanted = wanted().remove(1);
    let ours = object(&wanted, &wild_west()).metadata;
    let legacy = ObjectMeta { labels: None, ..ours.clone() };
    let copied = ObjectMeta { owner_references: None, ..legacy.clone() };
    let of_another = template("cowboys-stable-namespaced", Some("other"), Some("other"));
    for (meta, expected) in [(ours, true), (legacy, true), (copied, false), (of_another, false)] {
        assert_eq!(is_generated(&meta, &wild_west()), expected, "{meta:?}");
    }
}

#[test]
fn the_binding_of_a_template_is_known_as_long_as_its_name_or_nothing_else_tells_another() {
    for (name, said, owner, expected) in [
        ("x-cluster", Some("x"), Some("x"), Some("x")),
        ("x-namespaced", Some("x"), None, Some("x")),
        ("x-cluster", None, Some("x"), Some("x")),
        ("x-cluster", None, None, Some("x")),
        ("x-cluster", Some("edited"), Some("x"), Some("x")),
        ("x-cluster", Some(""), Some("x"), Some("x")),
        // Copies that people made, with all that was in the original.
        ("mine", Some("x"), Some("x"), None),
        ("y-cluster", Some("x"), Some("x"), None),
        // The binding x-cluster has templates of its own.
        ("x-cluster-cluster", Some("x-cluster"), Some("x-cluster"), Some("x-cluster")),
        ("x-cluster-cluster", Some("x"), Some("x"), None),
    ] {
        assert_eq!(binding_of(&template(name, said, owner)), expected, "{name} {said:?} {owner:?}");
    }
    let unlabelled = ObjectMeta { labels: None, ..template("x-cluster", Some("x"), Some("x")) };
    assert_eq!(binding_of(&unlabelled), None);
}

#[test]
fn bindings_whose_names_begin_alike_share_no_template() {
    let names = |name: &str| template_names(&binding(name, "Bound", &[]));
    assert_eq!(names("x"), ["x-cluster", "x-namespaced"]);
    assert_eq!(names("x-cluster"), ["x-cluster-cluster", "x-cluster-namespaced"]);
}

#[test]
fn a_template_goes_with_the_binding_that_owns_it() {
    assert!(goes_with_its_binding(&template("x-cluster", Some("x"), Some("x"))));
    assert!(!goes_with_its_binding(&template("x-cluster", Some("x"), None)));
    assert!(!goes_with_its_binding(&template("x-cluster", Some("x"), Some("y"))));
}

#[test]
fn an_unreadable_schema_leaves_what_the_template_says_of_it() {
    let wanted = wanted();
    let known: Vec<_> = wanted.iter().map(|template| object(template, &wild_west())).collect();
    let known: Vec<_> = known.iter().collect();
    assert_eq!(templates(&wild_west(), |bound| said(&known, bound)), wanted);
}
