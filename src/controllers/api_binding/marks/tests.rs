use serde_json::from_value;

use super::*;

fn facts() -> Facts {
    Facts { scope: Scope::Cluster, versions: vec!["v1".into(), "v1alpha1".into()] }
}

fn here() -> ClusterId {
    ClusterId::parse("here").unwrap()
}

fn binding(export: &str) -> ApiBinding {
    from_value(json!({
        "apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding",
        "metadata": { "name": "wild" }, "spec": {},
        "status": { "apiExportClusterName": export },
    }))
    .unwrap()
}

fn template(name: &str) -> OwnerReference {
    OwnerReference {
        api_version: "kube-bind.io/v1alpha2".into(),
        kind: "APIServiceExportTemplate".into(),
        name: name.into(),
        uid: format!("{name}-uid"),
        ..OwnerReference::default()
    }
}

fn other() -> OwnerReference {
    OwnerReference { kind: "ConfigMap".into(), uid: "0ther".into(), ..OwnerReference::default() }
}

/// A copy as we make it.
fn copy() -> ObjectMeta {
    ObjectMeta {
        uid: Some("copy-uid".into()),
        labels: Some(labels()),
        annotations: Some(marks(&here(), "wild", "source-uid", &facts())),
        owner_references: Some(vec![template("wild-cluster")]),
        ..ObjectMeta::default()
    }
}

fn edited(key: &str, value: Option<&str>) -> ObjectMeta {
    let mut meta = copy();
    let annotations = meta.annotations.get_or_insert_default();
    match value {
        Some(value) => annotations.insert(key.to_owned(), value.to_owned()),
        None => annotations.remove(key),
    };
    meta
}

#[test]
fn the_marks_of_a_schema_say_what_a_template_needs() {
    assert_eq!(Facts::of(&copy(), &here()), Some(("source-uid", facts())));
    assert_eq!(Facts::of_source(&copy(), &here(), "source-uid"), Some(facts()));
    assert_eq!(Facts::of_source(&copy(), &here(), "another"), None);
    assert_eq!(Facts::of(&ObjectMeta::default(), &here()), None);
}

#[test]
fn marks_that_somebody_edited_are_not_believed() {
    for (key, value) in [
        (keys::ANNOTATION_SOURCE, Some("another")),
        (keys::ANNOTATION_SCOPE, Some("Namespaced")),
        (keys::ANNOTATION_SCOPE, None),
        (keys::ANNOTATION_SERVED_VERSIONS, Some("v1")),
        (keys::ANNOTATION_MARKS_DIGEST, Some("")),
        (keys::ANNOTATION_MARKS_DIGEST, None),
    ] {
        assert_eq!(Facts::of(&edited(key, value), &here()), None, "{key} {value:?}");
    }
}

#[test]
fn a_schema_belongs_to_the_workspace_that_exports_it_and_else_to_who_made_it() {
    let unlabelled = ObjectMeta { labels: None, ..copy() };
    let legacy = ObjectMeta { labels: None, annotations: None, ..copy() };
    let of_another =
        ObjectMeta { owner_references: Some(vec![template("other-cluster")]), ..legacy.clone() };
    for (meta, export, expected) in [
        (copy(), "there", Whose::Ours),
        (edited(keys::ANNOTATION_SOURCE, None), "there", Whose::Ours),
        (unlabelled, "there", Whose::Ours),
        (legacy.clone(), "there", Whose::Legacy),
        (of_another, "there", Whose::Somebody),
        (ObjectMeta::default(), "there", Whose::Somebody),
        (legacy, "here", Whose::Workspace),
        (ObjectMeta::default(), "here", Whose::Workspace),
    ] {
        assert_eq!(Whose::of(&meta, &here(), &binding(export)), expected, "{meta:?}");
    }
}

#[test]
fn the_very_schema_that_is_bound_is_no_copy_whatever_labels_it_has() {
    let original = ObjectMeta { uid: Some("source-uid".into()), ..copy() };
    assert!(is_copy(&copy(), &here()) && is_deletable(&copy()));
    assert!(!is_copy(&original, &here()) && !is_deletable(&original));
}

#[test]
fn what_people_made_again_of_a_schema_with_marks_is_theirs() {
    let original = ObjectMeta {
        uid: Some("source-uid".into()),
        labels: None,
        owner_references: None,
        ..copy()
    };
    assert_eq!(binding_of(&original, &here()), Some("wild"));
    let again = ObjectMeta { uid: Some("other-uid".into()), ..original };
    assert!(!is_deletable(&again));
    // In the same workspace its marks are taken off, in another one it is left alone.
    assert_eq!(binding_of(&again, &here()), Some("wild"));
    let there = ClusterId::parse("there").unwrap();
    assert!(binding_of(&again, &there).is_none() && !is_copy(&again, &there));
    assert_eq!(Whose::of(&again, &there, &binding("elsewhere")), Whose::Somebody);
    assert_eq!(binding_of(&copy(), &there), None);
}

#[test]
fn what_is_ours_in_a_copy_is_put_right_and_other_owners_stay() {
    let marks = marks(&here(), "wild", "source-uid", &facts());
    let fields = |meta: &ObjectMeta| drift(meta, Whose::Ours, &marks, &template("wild-cluster"));
    assert_eq!(fields(&copy()), None);
    let mut bare = ObjectMeta { owner_references: Some(vec![other()]), ..ObjectMeta::default() };
    assert_eq!(
        fields(&bare),
        Some(json!({ "metadata": {
            "labels": { "backend.kube-bind.io/managed": "true", "kube-bind.io/exported": "true" },
            "annotations": marks,
            "ownerReferences": [other(), template("wild-cluster")],
        }}))
    );
    bare.labels = Some(labels());
    bare.annotations = Some(marks.clone());
    bare.owner_references = Some(vec![template("wild-cluster")]);
    assert_eq!(fields(&bare), None);
}

#[test]
fn a_schema_of_the_workspace_gets_label_and_marks_and_loses_the_template_as_owner() {
    let marks = marks(&here(), "wild", "source-uid", &facts());
    let meta = ObjectMeta {
        owner_references: Some(vec![other(), template("wild-cluster")]),
        ..ObjectMeta::default()
    };
    assert_eq!(
        drift(&meta, Whose::Workspace, &marks, &template("wild-cluster")),
        Some(json!({ "metadata": {
            "labels": { "kube-bind.io/exported": "true" },
            "annotations": marks,
            "ownerReferences": [other()],
        }}))
    );
}

#[test]
fn all_marks_are_taken_back() {
    let taken = without_marks();
    let names =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let given: Vec<String> = marks(&here(), "wild", "source-uid", &facts()).into_keys().collect();
    assert_eq!(names(&taken["metadata"]["annotations"]), given);
}

#[test]
fn a_label_that_says_something_else_keeps_a_schema_back() {
    let with = |value: &str| ObjectMeta {
        labels: Some([(keys::LABEL_EXPORTED.to_owned(), value.to_owned())].into()),
        ..ObjectMeta::default()
    };
    assert!(is_withheld(&with("false")));
    assert!(!is_withheld(&with("true")) && !is_withheld(&ObjectMeta::default()));
}
