//! What an exported resource is made from: a `CustomResourceDefinition` or, in kcp, an
//! [`ApiResourceSchema`]. Both become one [`SourceSpec`] (contract objects.md 5).

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::kcp::ApiResourceSchema;
use super::v1alpha2::{BoundSchemaVersion, Conversion, Names, Scope};

/// A resource definition of the provider: the part of it that consumers get. Everything else
/// (`selectableFields`, service references and the like) is dropped when it is decoded.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "apiextensions.k8s.io",
    version = "v1",
    kind = "CustomResourceDefinition",
    doc = "A resource definition of Kubernetes, as far as consumers get it.",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
pub struct SourceSpec {
    /// API group of the resource; empty for core.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub group: String,
    /// Its names.
    pub names: Names,
    /// Its scope in the provider's cluster.
    pub scope: Scope,
    /// Its versions.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub versions: Vec<BoundSchemaVersion>,
    /// How versions are converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion>,
}

impl From<CustomResourceDefinition> for SourceSpec {
    fn from(crd: CustomResourceDefinition) -> Self {
        crd.spec
    }
}

impl From<ApiResourceSchema> for SourceSpec {
    fn from(schema: ApiResourceSchema) -> Self {
        let spec = schema.spec;
        Self {
            group: spec.group,
            names: spec.names,
            scope: spec.scope,
            versions: spec.versions,
            conversion: spec.conversion,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::Resource;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::v1alpha2::{ConversionStrategy, StatusSubresource, Subresources};

    fn widgets(version: BoundSchemaVersion) -> SourceSpec {
        SourceSpec {
            group: "example.org".into(),
            names: Names { plural: "widgets".into(), kind: "Widget".into(), ..Names::default() },
            scope: Scope::Cluster,
            versions: vec![version],
            conversion: Some(Conversion {
                strategy: Some(ConversionStrategy::None),
                webhook: None,
            }),
        }
    }

    #[test]
    fn a_crd_is_read_without_what_consumers_do_not_get() {
        let crd: CustomResourceDefinition = serde_json::from_value(json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": "widgets.example.org" },
            "spec": {
                "group": "example.org",
                "names": { "plural": "widgets", "kind": "Widget", "shortNames": null },
                "scope": "Cluster",
                "preserveUnknownFields": false,
                "conversion": { "strategy": "None", "future": 1 },
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": { "type": "object" } },
                    "subresources": { "status": {} },
                    "selectableFields": [{ "jsonPath": ".spec.a" }],
                }],
            },
            "status": { "conditions": [], "storedVersions": ["v1"] },
        }))
        .unwrap();
        assert_eq!(crd.metadata.name.as_deref(), Some("widgets.example.org"));
        let version = BoundSchemaVersion {
            name: "v1".into(),
            served: true,
            storage: true,
            schema: json!({ "openAPIV3Schema": { "type": "object" } }),
            subresources: Subresources { status: Some(StatusSubresource {}), scale: None },
            ..BoundSchemaVersion::default()
        };
        assert_eq!(SourceSpec::from(crd), widgets(version));
    }

    #[test]
    fn absent_and_null_fields_are_what_go_makes_of_them() {
        let null = json!({
            "name": "v1", "served": null, "storage": null, "deprecated": null,
            "deprecationWarning": null, "schema": null, "subresources": null,
            "additionalPrinterColumns": null,
        });
        for version in [null, json!({ "name": "v1" })] {
            let crd: CustomResourceDefinition = serde_json::from_value(json!({
                "metadata": { "name": "widgets.example.org" },
                "spec": {
                    "group": "example.org",
                    "names": { "plural": "widgets", "kind": "Widget" },
                    "scope": "Cluster",
                    "conversion": { "strategy": "None", "webhook": null },
                    "versions": [version],
                },
            }))
            .unwrap();
            let version = BoundSchemaVersion { name: "v1".into(), ..BoundSchemaVersion::default() };
            assert_eq!(version.schema, Value::Null);
            assert_eq!(crd.spec, widgets(version));
        }
        let empty: CustomResourceDefinition = serde_json::from_value(json!({
            "metadata": {},
            "spec": {
                "group": null, "names": { "plural": "pods", "kind": "Pod" },
                "scope": "Namespaced", "versions": null, "conversion": null,
            },
        }))
        .unwrap();
        let names = Names { plural: "pods".into(), kind: "Pod".into(), ..Names::default() };
        assert_eq!(empty.spec, SourceSpec { names, ..SourceSpec::default() });
    }

    #[test]
    fn both_sources_give_the_same() {
        let spec = json!({
            "group": "example.org",
            "names": { "plural": "widgets", "kind": "Widget" },
            "scope": "Cluster",
            "nameValidation": "PathSegmentName",
            "conversion": { "strategy": "None" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "type": "object" } }],
        });
        let object = json!({ "metadata": { "name": "v1.widgets.example.org" }, "spec": spec });
        let crd: CustomResourceDefinition = serde_json::from_value(object.clone()).unwrap();
        let schema: ApiResourceSchema = serde_json::from_value(object).unwrap();
        assert_eq!(SourceSpec::from(crd), SourceSpec::from(schema));
    }

    #[test]
    fn the_kind_is_that_of_kubernetes() {
        let dt = &();
        assert_eq!(CustomResourceDefinition::kind(dt), "CustomResourceDefinition");
        assert_eq!(CustomResourceDefinition::plural(dt), "customresourcedefinitions");
        assert_eq!(CustomResourceDefinition::api_version(dt), "apiextensions.k8s.io/v1");
        assert_eq!(
            CustomResourceDefinition::url_path(dt, None),
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        );
    }
}
