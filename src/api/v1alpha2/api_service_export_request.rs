//! `APIServiceExportRequest`: a consumer asks for resources. Contract objects.md section 3.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NameRef, PermissionClaim, Phase, ResourceVersions, SchemaUpdatePolicy};
use crate::api::conditions::Condition;

/// What the consumer asks for.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIServiceExportRequest",
    doc = "A consumer's wish for resources.",
    root = "ApiServiceExportRequest",
    namespaced,
    status = "ApiServiceExportRequestStatus",
    category = "kube-bindings",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ApiServiceExportRequestSpec {
    /// Free-form parameters; unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::api::schema::free_object")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("parameters are immutable"))]
    pub parameters: Option<serde_json::Value>,
    /// The wanted resources.
    #[schemars(length(min = 1))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("resources are immutable"))]
    pub resources: Vec<ResourceVersions>,
    /// Consumer objects that the provider may use.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("permissionClaims are immutable"))]
    pub permission_claims: Vec<PermissionClaim>,
    /// Namespaces to provision without waiting for a first object.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("namespaces are immutable"))]
    pub namespaces: Vec<NameRef>,
    /// Whether changed schemas are passed on.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("schemaUpdatePolicy is immutable"))]
    pub schema_update_policy: SchemaUpdatePolicy,
}

/// What became of the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {}))]
pub struct ApiServiceExportRequestStatus {
    /// How far it has come.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub phase: Phase,
    /// Why it failed. Clients use it as a format string, so it must not contain `%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal_message: Option<String>,
    /// Observations of the backend.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}
