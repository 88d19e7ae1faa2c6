//! `APIServiceExportTemplate`: a service on offer. Contract objects.md section 8.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NameRef, PermissionClaim, ResourceVersions, SchemaUpdatePolicy, Scope};
use crate::api::conditions::Condition;

/// What a consumer gets by choosing this template.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIServiceExportTemplate",
    doc = "A service on offer: resources and what comes with them.",
    root = "ApiServiceExportTemplate",
    status = "ApiServiceExportTemplateStatus",
    category = "kube-bind",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Resources","type":"string","jsonPath":".spec.resources[*].group"}"#,
    printcolumn = r#"{"name":"PermissionClaims","type":"string","jsonPath":".spec.permissionClaims[*].resource"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ApiServiceExportTemplateSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Scope of the resources.
    pub scope: Scope,
    /// The resources.
    #[schemars(length(min = 1))]
    pub resources: Vec<ResourceVersions>,
    /// Consumer objects that the provider may use.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub permission_claims: Vec<PermissionClaim>,
    /// Namespaces to provision without waiting for a first object.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub namespaces: Vec<NameRef>,
    /// Whether changed schemas are passed on.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub schema_update_policy: SchemaUpdatePolicy,
}

/// Observations about the template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApiServiceExportTemplateStatus {
    /// Why the template cannot be offered as it is.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}
