//! `BoundSchema`: the schema of an exported resource as the consumer gets it.
//! Contract objects.md section 5.
//!
//! Fields are declared in the order, and omitted under the conditions, of the Go type: the source
//! hash is taken over the encoded spec.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use super::shared::VERSION_PATTERN;
use crate::api::conditions::Condition;

/// The resource to create on the consumer side.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "BoundSchema",
    doc = "The schema of an exported resource as one consumer gets it.",
    root = "BoundSchema",
    namespaced,
    status = "BoundSchemaStatus",
    category = "kube-bindings",
    shortname = "bs",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct BoundSchemaSpec {
    /// Whether the konnector watches the whole provider cluster or only its service namespaces.
    pub informer_scope: Scope,
    /// API group of the resource.
    pub group: String,
    /// Its names.
    pub names: Names,
    /// Its scope on the consumer side.
    pub scope: Scope,
    /// Its versions.
    #[schemars(length(min = 1))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub versions: Vec<BoundSchemaVersion>,
    /// How versions are converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("(self.strategy == 'None' && !has(self.webhook))  || (self.strategy == 'Webhook' && has(self.webhook))")
            .message("Webhook must be specified if strategy=Webhook")
    )]
    pub conversion: Option<Conversion>,
}

/// Names of a custom resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Names {
    /// Plural name, part of the path.
    pub plural: String,
    /// Singular name for the command line.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub singular: String,
    /// Short names for the command line.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub short_names: Vec<String>,
    /// Kind of an object.
    pub kind: String,
    /// Kind of a list.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub list_kind: String,
    /// Groups for the command line, such as `all`.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub categories: Vec<String>,
}

/// One version of the resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
// Required of those who write a BoundSchema, though we read a source that lacks them, as Go does.
#[schemars(extend("required" = ["name", "schema", "served", "storage"]))]
pub struct BoundSchemaVersion {
    /// Name of the version.
    #[schemars(length(min = 1), regex(pattern = VERSION_PATTERN))]
    pub name: String,
    /// Whether it is served. The konnector syncs the first served version.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    #[schemars(extend("default" = true))]
    pub served: bool,
    /// Whether it is the stored one.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    #[schemars(extend("default" = null))]
    pub storage: bool,
    /// Whether clients are warned about it.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "crate::api::wire::is_false"
    )]
    pub deprecated: bool,
    /// The warning, if not the standard one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecation_warning: Option<String>,
    /// The schema: `{"openAPIV3Schema": …}` from a CRD, the bare schema from an `APIResourceSchema`.
    #[serde(default)]
    #[schemars(
        schema_with = "crate::api::schema::atomic_free_object",
        extend("default" = null)
    )]
    pub schema: serde_json::Value,
    /// Its subresources; always written, even if empty.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    #[schemars(extend("default" = null))]
    pub subresources: Subresources,
    /// Columns for the command line.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub additional_printer_columns: Vec<PrinterColumn>,
}

/// Subresources of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subresources {
    /// Status has its own endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusSubresource>,
    /// Replicas have their own endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScaleSubresource>,
}

/// Marks that status has its own endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusSubresource {}

/// Where replicas are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleSubresource {
    /// Path of the wanted number.
    pub spec_replicas_path: String,
    /// Path of the actual number.
    pub status_replicas_path: String,
    /// Path of the label selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector_path: Option<String>,
}

/// A column for the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrinterColumn {
    /// Its heading.
    pub name: String,
    /// Its `OpenAPI` type.
    #[serde(rename = "type")]
    pub type_: String,
    /// Its `OpenAPI` format.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub format: String,
    /// Its meaning.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub description: String,
    /// Importance; above 0 it shows in wide output only.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "crate::api::wire::is_zero"
    )]
    pub priority: i32,
    /// Where its value is.
    pub json_path: String,
}

/// How versions are converted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conversion {
    /// The way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<ConversionStrategy>,
    /// The webhook, exactly if the strategy is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookConversion>,
}

/// Ways of converting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConversionStrategy {
    /// Only `apiVersion` changes.
    #[default]
    None,
    /// A webhook converts.
    Webhook,
}

/// A conversion webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookConversion {
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_config: Option<WebhookClientConfig>,
    /// Versions of the review object it understands.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    #[schemars(extend("default" = null))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub conversion_review_versions: Vec<String>,
}

/// How to call a webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookClientConfig {
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uri"))]
    pub url: Option<String>,
    /// Base64 of the PEM bundle that vouches for it.
    #[serde(rename = "caBundle", default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "byte"))]
    pub ca_bundle: Option<String>,
}

/// What the consumer's API server made of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundSchemaStatus {
    /// The names in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_names: Option<Names>,
    /// Versions that objects were stored in.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub stored_versions: Vec<String>,
    /// Unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::api::schema::plain_integer")]
    pub instantiations: Option<i64>,
    /// Copied from the consumer's CRD by the konnector.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}
