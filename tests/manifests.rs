//! The generated files: up to date, readable, and granting no more than they say.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly, their helpers too")]

use std::path::Path;

use kube_bind_backend::api::claims::CLAIMS;
use kube_bind_backend::manifests::{self, kcp, kubernetes};
use serde_json::{Value, json};

#[test]
fn the_committed_files_are_up_to_date() {
    let files = manifests::files().unwrap();
    let complaints = manifests::out_of_date(Path::new(env!("CARGO_MANIFEST_DIR")), &files).unwrap();
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn check_names_what_differs_is_missing_or_is_left_over() {
    let root = std::env::temp_dir().join(format!("manifests-{}", std::process::id()));
    let mut files = manifests::files().unwrap();
    std::fs::create_dir_all(root.join("kcp")).unwrap();
    std::fs::create_dir_all(root.join("manifests")).unwrap();
    for (path, text) in &files {
        std::fs::write(root.join(path), text).unwrap();
    }
    std::fs::write(root.join("kcp/own.yaml"), "kind: Other\n").unwrap();
    assert_eq!(manifests::out_of_date(&root, &files).unwrap(), Vec::<String>::new());

    std::fs::write(root.join("kcp/rbac.yaml"), "edited").unwrap();
    std::fs::remove_file(root.join("manifests/deployment.yaml")).unwrap();
    files.remove(Path::new("manifests/rbac.yaml"));
    let complaints = manifests::out_of_date(&root, &files).unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    let expected = [
        "kcp/rbac.yaml is out of date.",
        "manifests/deployment.yaml is missing.",
        "manifests/rbac.yaml is left over.",
    ];
    assert_eq!(complaints, expected);
}

#[test]
fn yaml_holds_the_same_objects_as_the_functions() {
    let files = manifests::files().unwrap();
    let read = |path: &str| -> Vec<Value> {
        serde_saphyr::from_multiple(&files[Path::new(path)]).unwrap()
    };
    assert_eq!(read("kcp/rbac.yaml"), kcp::rbac());
    assert_eq!(read("kcp/apiexport-kube-bind.io.yaml"), [kcp::api_export(CLAIMS).unwrap()]);
    assert_eq!(read("manifests/rbac.yaml"), kubernetes::rbac());
    assert_eq!(read("manifests/deployment.yaml"), kubernetes::deployment());
    for crd in manifests::crds::all().unwrap() {
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap();
        assert_eq!(
            read(&format!("manifests/kube-bind.io_{plural}.yaml")),
            std::slice::from_ref(&crd)
        );
    }
}

#[test]
fn every_exported_resource_has_the_schema_of_its_name() {
    let schemas = kcp::api_resource_schemas().unwrap();
    let export = kcp::api_export(CLAIMS).unwrap();
    let resources = export["spec"]["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 12);
    for (resource, schema) in resources.iter().zip(&schemas) {
        assert_eq!(resource["name"], schema["spec"]["names"]["plural"]);
        assert_eq!(resource["schema"], schema["metadata"]["name"]);
        assert_eq!(resource["storage"], json!({ "crd": {} }));
        let versions = schema["spec"]["versions"].as_array().unwrap();
        assert_eq!(schema["spec"].get("conversion").is_some(), versions.len() > 1);
        assert!(versions.iter().all(|v| v["schema"]["type"] == "object"));
    }
}

#[test]
fn a_changed_schema_changes_its_name_and_nothing_else_does() {
    let names = || -> Vec<Value> {
        let schemas = kcp::api_resource_schemas().unwrap();
        schemas.iter().map(|schema| schema["metadata"]["name"].clone()).collect()
    };
    assert_eq!(names(), names());
    for name in names() {
        let name = name.as_str().unwrap();
        let prefix = name.split('.').next().unwrap();
        assert!(prefix.len() == 9 && prefix.starts_with('v'), "{name}");
    }
}

#[test]
fn the_export_claims_each_verb_beside_the_wildcard() {
    let export = kcp::api_export(CLAIMS).unwrap();
    let claims = export["spec"]["permissionClaims"].as_array().unwrap();
    assert_eq!(claims.len(), CLAIMS.len());
    for (claim, expected) in claims.iter().zip(CLAIMS) {
        assert_eq!(claim["verbs"][0], "*");
        assert_eq!(claim["verbs"], json!(expected.claimed_verbs()));
        assert_ne!(claim["resource"], "configmaps");
    }
}

#[test]
fn plain_kubernetes_grants_no_wildcard_and_of_kcp_only_to_read_schemas() {
    let objects = kubernetes::rbac();
    let text = serde_json::to_string(&objects).unwrap();
    assert!(!text.contains("\"*\""), "{text}");
    let of_kcp: Vec<&Value> = objects
        .iter()
        .filter_map(|object| object["rules"].as_array())
        .flatten()
        .filter(|rule| rule["apiGroups"].to_string().contains("kcp.io"))
        .collect();
    let read = json!({
        "apiGroups": ["apis.kcp.io"],
        "resources": ["apiresourceschemas"],
        "verbs": ["get", "list", "watch"],
    });
    assert_eq!(of_kcp, [&read]);
}
