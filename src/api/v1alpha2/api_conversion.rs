//! `APIConversion`: shipped as a schema only, read by nobody. Contract objects.md section 12.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::VERSION_PATTERN;

/// Conversions between versions of a resource.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIConversion",
    doc = "Conversions between versions of an exported resource; reserved, read by nobody.",
    root = "ApiConversion",
    category = "kcp",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct ApiConversionSpec {
    /// One entry for each direction.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["from".into(), "to".into()]))]
    pub conversions: Vec<VersionConversion>,
}

/// A conversion in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct VersionConversion {
    /// Source version.
    #[schemars(length(min = 1), regex(pattern = VERSION_PATTERN))]
    pub from: String,
    /// Target version.
    #[schemars(length(min = 1), regex(pattern = VERSION_PATTERN))]
    pub to: String,
    /// How fields are carried over.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["destination".into()]))]
    pub rules: Vec<ConversionRule>,
    /// Fields without a counterpart that are kept for the way back.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub preserve: Vec<String>,
}

/// How one field is carried over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConversionRule {
    /// The field in the source.
    #[schemars(length(min = 1))]
    pub field: String,
    /// The field in the target.
    #[schemars(length(min = 1))]
    pub destination: String,
    /// An optional CEL expression over the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformation: Option<String>,
}
