//! The `CustomResourceDefinition`s of the twelve kinds.
//!
//! The derive of `kube` does most; this module adds what it cannot say and takes out what the Go
//! clients were never promised (`nullable`), so that the structure equals the v0.8.1 CRDs.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition,
};
use kube::CustomResourceExt;
use kube::core::crd::merge_crds;
use serde_json::{Value, json};

use super::Error;
use crate::api::{keys, v1alpha1, v1alpha2};

/// Kinds whose `spec` may be absent.
const OPTIONAL_SPEC: &[&str] = &[
    "APIConversion",
    "APIServiceBinding",
    "APIServiceBindingBundle",
    "APIServiceNamespace",
    "BoundSchema",
];

/// All definitions, by kind.
pub fn all() -> Result<Vec<Value>, Error> {
    definitions()
        .into_iter()
        .map(|versions| {
            let kind = versions.first().map(|crd| crd.spec.names.kind.clone()).unwrap_or_default();
            let merged = merge_crds(versions, keys::VERSION)
                .map_err(|source| Error::Merge { kind: kind.clone(), source })?;
            finish(merged).map_err(|source| Error::Json { object: kind, source })
        })
        .collect()
}

/// The derived definitions, a list of versions for each kind.
fn definitions() -> Vec<Vec<CustomResourceDefinition>> {
    vec![
        vec![v1alpha2::ApiConversion::crd()],
        vec![v1alpha1::ApiServiceBinding::crd(), v1alpha2::ApiServiceBinding::crd()],
        vec![v1alpha2::ApiServiceBindingBundle::crd()],
        vec![v1alpha1::ApiServiceExport::crd(), v1alpha2::ApiServiceExport::crd()],
        vec![v1alpha1::ApiServiceExportRequest::crd(), v1alpha2::ApiServiceExportRequest::crd()],
        vec![v1alpha2::ApiServiceExportTemplate::crd()],
        vec![v1alpha1::ApiServiceNamespace::crd(), v1alpha2::ApiServiceNamespace::crd()],
        vec![v1alpha2::BindableResourcesRequest::crd()],
        vec![v1alpha2::BoundSchema::crd()],
        vec![v1alpha2::Cluster::crd()],
        vec![v1alpha1::ClusterBinding::crd(), v1alpha2::ClusterBinding::crd()],
        vec![v1alpha2::Collection::crd()],
    ]
}

/// Completes a derived definition.
fn finish(mut crd: CustomResourceDefinition) -> Result<Value, serde_json::Error> {
    crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
    crd.spec.conversion =
        Some(CustomResourceConversion { strategy: "None".to_owned(), webhook: None });
    crd.spec.versions.sort_by(|a, b| a.name.cmp(&b.name));
    let spec_is_optional = OPTIONAL_SPEC.contains(&crd.spec.names.kind.as_str());

    let mut crd = serde_json::to_value(crd)?;
    let versions = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        if version["subresources"].is_null() {
            version["subresources"] = json!({});
        }
        if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
            tidy(schema);
            finish_root(schema, spec_is_optional);
        }
    }
    Ok(crd)
}

/// Adds the fields every object has, which the derive leaves to the API server.
fn finish_root(schema: &mut Value, spec_is_optional: bool) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("apiVersion".to_owned(), json!({ "type": "string" }));
        properties.insert("kind".to_owned(), json!({ "type": "string" }));
        properties.insert("metadata".to_owned(), json!({ "type": "object" }));
    }
    if let Some(root) = schema.as_object_mut() {
        root.remove("title");
        if spec_is_optional {
            root.remove("required");
        }
    }
}

/// Takes out what the derive writes for `Option`: the API server would store `null`s that Go
/// clients neither write nor expect. Writes whole numbers as such (`0`, not `0.0`).
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
                if let Some(values) = map.get_mut("enum").and_then(Value::as_array_mut) {
                    values.retain(|value| !value.is_null());
                }
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().and_then(whole) {
                *number = whole.into();
            }
        }
        _ => {}
    }
}

/// The number as an integer, if that loses nothing.
#[expect(clippy::cast_possible_truncation, reason = "checked by converting back")]
fn whole(number: f64) -> Option<i32> {
    let whole = number as i32;
    (f64::from(whole).to_bits() == number.to_bits()).then_some(whole)
}
