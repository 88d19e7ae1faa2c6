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
        "status": { "phase": phase, "boundResources": bound },
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
    for (binding, expected) in [
        (binding("kb", "Bound", &[("wildwest.dev", "cowboys")]), Standing::Ignored),
        (binding("twin", "Bound", &[("kube-bind.io", "clusters")]), Standing::Ignored),
        (binding("tenancy.kcp.io-x", "Bound", &[("tenancy.kcp.io", "w")]), Standing::Ignored),
        (binding("wild", "Binding", &[("wildwest.dev", "cowboys")]), Standing::Held),
        (binding("wild", "Bound", &[]), Standing::Held),
        (deleted, Standing::Held),
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

#[test]
fn a_template_is_generated_by_its_label_or_as_v0_8_1_marks_it() {
    let wanted = wanted().remove(1);
    let ours = object(&wanted, &wild_west()).metadata;
    let legacy = ObjectMeta { labels: None, ..ours.clone() };
    let copied = ObjectMeta { owner_references: None, ..legacy.clone() };
    for (meta, expected) in [(ours, true), (legacy, true), (copied, false)] {
        assert_eq!(is_generated(&meta, &wild_west()), expected, "{meta:?}");
    }
}

#[test]
fn the_binding_of_a_template_is_known_without_its_annotation() {
    let wanted = wanted().remove(0);
    let mut meta = object(&wanted, &wild_west()).metadata;
    assert_eq!(binding_of(&meta), "cowboys-stable");
    meta.annotations = None;
    assert_eq!(binding_of(&meta), "cowboys-stable");
}

#[test]
fn the_marks_of_a_schema_say_what_a_template_needs() {
    let bound = wild_west();
    let facts = facts(&bound.bound_resources()[1]);
    let meta = ObjectMeta {
        annotations: Some(marks("cowboys-stable", "sheriffs-uid", &facts)),
        ..ObjectMeta::default()
    };
    assert_eq!(Facts::of(&meta), Some(facts));
    assert_eq!(Facts::of(&ObjectMeta::default()), None);
}

#[test]
fn an_unreadable_schema_leaves_what_the_template_says_of_it() {
    let wanted = wanted();
    let known: Vec<_> = wanted.iter().map(|template| object(template, &wild_west())).collect();
    let known: Vec<_> = known.iter().collect();
    assert_eq!(templates(&wild_west(), |bound| said(&known, bound)), wanted);
}
