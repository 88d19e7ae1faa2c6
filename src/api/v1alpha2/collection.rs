//! `Collection`: templates that belong together, for presentation only. Contract objects.md section 8.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NameRef;
use crate::api::conditions::Condition;

/// A named group of templates.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "Collection",
    doc = "Templates that belong together.",
    root = "Collection",
    status = "CollectionStatus",
    category = "kube-bind",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Description","type":"string","jsonPath":".spec.description"}"#,
    printcolumn = r#"{"name":"Templates","type":"string","jsonPath":".spec.templates[*].name"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct CollectionSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The templates.
    #[schemars(length(min = 1))]
    pub templates: Vec<NameRef>,
}

/// Observations about the collection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CollectionStatus {
    /// Unused.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}
