//! The wire types against objects of a real v0.8.1 run and against what lenient decoding promises.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly, their helpers too")]

use std::path::PathBuf;

use kube_bind_backend::api::v1alpha2::{
    ApiServiceExport, ApiServiceExportRequest, ApiServiceNamespace, BindableResourcesRequest,
    BoundSchema, Cluster, ClusterBinding, Phase,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// `$CONTRACT_DIR/golden`, if there is one.
fn golden() -> Option<PathBuf> {
    let directory = std::env::var_os("CONTRACT_DIR").map(|d| PathBuf::from(d).join("golden"));
    if directory.is_none() {
        println!("skipped: CONTRACT_DIR is not set");
    }
    directory
}

/// Takes out the empty group that the API server fills in and Go clients omit, as our types do.
fn without_default_groups(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("group") == Some(&json!("")) {
                map.remove("group");
            }
            map.values_mut().for_each(without_default_groups);
        }
        Value::Array(items) => items.iter_mut().for_each(without_default_groups),
        _ => {}
    }
}

/// Decodes the object and encodes it again: nothing may be lost or added.
fn keeps<K: DeserializeOwned + Serialize>(file: &str) {
    let Some(golden) = golden() else { return };
    let text = std::fs::read_to_string(golden.join(file)).unwrap();
    let mut before: Value = serde_saphyr::from_str(&text).unwrap();
    let object: K = serde_json::from_value(before.clone()).unwrap();
    without_default_groups(&mut before);
    assert_eq!(serde_json::to_value(object).unwrap(), before, "{file}");
}

#[test]
fn objects_of_a_real_run_survive_decoding_and_encoding() {
    keeps::<ApiServiceExport>("apiserviceexports.yaml");
    keeps::<ApiServiceExportRequest>("apiserviceexportrequests.yaml");
    keeps::<ApiServiceNamespace>("apiservicenamespaces.yaml");
    keeps::<BoundSchema>("boundschemas.yaml");
    keeps::<Cluster>("clusters.kube-bind.io.yaml");
    keeps::<ClusterBinding>("clusterbindings.yaml");
}

fn decode<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

#[test]
fn absent_and_null_parts_are_read_as_go_reads_them() {
    for value in [
        json!({ "metadata": { "name": "a" } }),
        json!({ "metadata": { "name": "a" }, "spec": null, "status": null }),
        json!({ "metadata": { "name": "a", "creationTimestamp": null }, "spec": { "new": 1 } }),
    ] {
        let namespace: ApiServiceNamespace = decode(value);
        assert_eq!(namespace, ApiServiceNamespace::new("a", namespace.spec));
    }
    let request: ApiServiceExportRequest = decode(json!({
        "metadata": { "name": "a" },
        "spec": {
            "resources": [{ "resource": "pods", "group": null, "versions": null }],
            "permissionClaims": null, "namespaces": null, "schemaUpdatePolicy": null,
        },
        "status": { "conditions": null, "phase": null },
    }));
    let spec = serde_json::to_value(&request.spec).unwrap();
    let expected = json!({ "resources": [{ "resource": "pods" }], "schemaUpdatePolicy": "Never" });
    assert_eq!(spec, expected);
    assert_eq!(request.status.unwrap().phase, Phase::Pending);
}

#[test]
fn a_phase_from_the_future_is_kept() {
    let request: ApiServiceExportRequest = decode(json!({
        "metadata": { "name": "a" },
        "spec": { "resources": [] },
        "status": { "phase": "Paused" },
    }));
    let status = request.status.unwrap();
    assert_eq!(status.phase, Phase::Other("Paused".into()));
    assert!(!status.phase.is_final());
    assert_eq!(serde_json::to_value(&status).unwrap(), json!({ "phase": "Paused" }));
}

#[test]
fn a_bad_heartbeat_interval_or_lifetime_does_not_hide_the_object() {
    let binding: ClusterBinding = decode(json!({
        "metadata": { "name": "cluster" },
        "spec": {
            "kubeconfigSecretRef": { "name": "kubeconfig", "key": "kubeconfig" },
            "providerPrettyName": "P",
        },
        "status": { "heartbeatInterval": "soon" },
    }));
    assert_eq!(binding.status.unwrap().heartbeat_interval.as_deref(), Some("soon"));
    let request: BindableResourcesRequest = decode(json!({
        "metadata": { "name": "a" },
        "spec": {
            "templateRef": { "name": "t" }, "clusterIdentity": { "identity": "i" },
            "author": "", "ttlAfterFinished": "-1x",
        },
        "status": {},
    }));
    assert_eq!(request.spec.ttl_after_finished.as_deref(), Some("-1x"));
}
